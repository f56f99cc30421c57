# Written from nbs/judging/11_depth.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.depth import (
    MOST,
    PIECE,
    ROUNDING,
    null_worlds,
    listed,
    lowest_threshold,
    lineages,
)


from dataclasses import replace

from fastcore.test import expect_fail

from saematch.ground import UsageError
from saematch.saes.sae import permute, rescale
from saematch.saes.toys import planted, random_sae


def planted_layers(layers=4, d_model=48, d_sae=80, noise=0.6, replaced=0.25, seed=0):
    "Layers in which each latent has a known lineage: (layer -> SAE, layer -> which lineage a latent is of)."
    saes, name, new = {0: random_sae(d_model, d_sae, seed=seed)}, {0: torch.arange(d_sae)}, d_sae
    for l in range(1, layers):
        b, truth = planted(saes[l - 1], decoder_noise=noise, encoder_noise=noise, replaced=replaced, seed=seed + l)
        here = torch.full((d_sae,), -1)
        here[truth[truth >= 0]] = name[l - 1][truth >= 0]
        born = here < 0
        here[born] = torch.arange(new, new + int(born.sum()))
        saes[l], name[l], new = b, here, new + int(born.sum())
    return saes, name


def test_thresholds_from_strangers():
    real = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=torch.float64)
    none, one = torch.empty(0).double(), torch.tensor([0.45]).double()
    found = [
        lowest_threshold(real, strangers, q, 0.3)
        for strangers, q in (([(none, 1.0)], 0.2), ([(none, 1.0)], 0.1), ([(one, 1.0)], 0.2), ([(one, 0.1)], 0.25))
    ]
    assert found == [0.4 - ROUNDING, 1 + ROUNDING, 0.5 - ROUNDING, 0.4 - ROUNDING]


def test_calibrated_lineages_find_planted_ones():
    saes, name = planted_layers()
    t = lineages(saes, seed=1)
    uncut = lineages(saes, seed=1, q=1)
    assert torch.equal(uncut.cut(0.05).members, t.members) and len(uncut) <= len(t)
    right = claimed = 0
    for k, layer in enumerate(t.layers):
        for other in t.layers[k + 1 :]:
            m = t.match(layer, other)
            claimed += int(m.matched.sum())
            right += int((name[layer][m.matched] == name[other][m.index[m.matched]]).sum())
    there = sum(len(set(name[a].tolist()) & set(name[b].tolist())) for a in saes for b in saes if a < b)
    assert right / claimed > 0.9 and right / there > 0.6
    assert t.objective <= t.bound + 1e-9 and not t.frame().duplicated(["layer", "latent"]).any()
    assert len(t.frame()) == 4 * 80 and t.nulls()["lineages"].sum() == int((t.lengths > 1).sum())
    assert (
        (t.frame().q.dropna() <= 0.05).all()
        and t.links().q.notna().all()
        and t.frame().p[t.frame().length > 1].notna().all()
    )
    chance, links = uncut.chance("rotation"), uncut.chance_links("rotation")
    assert len(links) == len(chance) - chance.lineage.nunique() and (chance.source == chance.layer).all()
    parts = uncut.chance("parts")
    assert (parts.groupby("lineage").source.nunique() == 1).all() and (parts.length > 1).all()
    dict(pairs=claimed, precision=right / claimed, recall=right / there)


def test_strangers_have_few_lineages():
    strangers = {l: random_sae(48, 80, seed=100 + l) for l in range(4)}
    assert int((lineages(strangers, seed=2).lengths > 1).sum()) <= 4


def test_lineages_of_rows_of_ones_own():
    saes, _ = planted_layers()
    writes = lambda sae: 3 * sae.W_dec
    one, own = lineages(saes, seed=1, forks=False), lineages(saes, seed=1, forks=False, rows=writes)
    assert torch.equal(one.members, own.members) and own.info["options"]["weights"] == "rows given as a lambda"
    for wrong, says in ((lambda s: s.b_enc, "a row for each latent"), (lambda s: s.W_dec / 0, "infinite of")):
        try:
            lineages(saes, rows=wrong)
        except ValueError as e:
            print(e)
            assert says in str(e), e
    both = tuple(sae.W_dec for sae in saes.values())
    with expect_fail(TypeError, "rows must be a function of an SAE, not tuple"):
        lineages(saes, rows=both)


def test_copies_are_found_whole():
    for dtype in (torch.float32, torch.float64):
        a, order = random_sae(64, 500, dtype=dtype), torch.randperm(500, generator=torch.Generator().manual_seed(1))
        again = rescale(permute(a, order), torch.linspace(0.3, 3, 500))
        copies = lineages({1: a, 2: permute(a, order), 3: again})
        assert (copies.lengths == 3).all() and torch.equal(copies.match(1, 3).index, order)
    copies


def test_bad_suites_are_refused():
    a, b = random_sae(8, 20, seed=0), random_sae(8, 20, seed=1)
    with expect_fail(UsageError, "there is only 1"):
        lineages({3: a})
    at = lambda sae, hook: replace(sae, info=dict(hook_name=hook))
    with expect_fail(UsageError, "layer 3 reads hook_resid_post, layer 4 reads hook_mlp_out: lineages follow one site"):
        lineages({3: at(a, "blocks.3.hook_resid_post"), 4: at(b, "blocks.4.hook_mlp_out")})
    with expect_fail(UsageError, "there is only 1"):
        lineages({3: a, 4: b}, layers=(3, 3))
    with expect_fail(UsageError, "the SAE of layer 4 has no encoder for each latent"):
        lineages({3: a, 4: random_sae(8, 20, activation="other")}, weights="decoder")
    with expect_fail(ValueError, "layer 3 (A) and layer 5 (B): the SAEs read hidden states of different width"):
        lineages({3: a, 4: b, 5: random_sae(9, 20)})
    few = lineages({layer: random_sae(16, 4, seed=layer) for layer in range(6)})
    assert len(few.frame()) == 24, "fewer latents than layers"
    with expect_fail(KeyError, "unknown layer of the suite"):
        lineages({3: a, 4: b}, layers=(3, 5))
    with expect_fail(ValueError, "d_model"):
        lineages({3: a, 4: random_sae(9, 20)})
    with expect_fail(ValueError, "q is the false discovery rate"):
        lineages({3: a, 4: b}, q=float("nan"))
    with expect_fail(ValueError, "a null must be one of"):
        lineages({3: a, 4: b}, nulls=("noise",))
    with expect_fail(ValueError, "a bias has none"):
        lineages({3: a, 4: b}, weights="all")
    for bad in (2.5, "many"):
        with expect_fail(ValueError, f"cuts is how often each layer is cut into parts, a whole number from 1, not {bad!r}"):
            lineages({3: a, 4: b}, cuts=bad)
    with expect_fail(ValueError, "it takes at least one null and one cut"):
        lineages({3: a, 4: b}, cuts=0)


def test_lineages_of_a_large_suite_survive_a_kill():
    import tempfile
    import warnings
    from pathlib import Path
    from unittest import mock

    import saematch.lap.above as lists
    from saematch.lap.similarities import Similarities

    saes = {l: s.to(torch.bfloat16) for l, s in planted_layers(d_sae=240, noise=0.4)[0].items()}
    made, counted = lists.pairs_above, []


    def killed(*a, **k):
        counted.append(1)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return made(*a, **k)


    def small_pieces(**also):
        "Lineages where more than 100 latents of a layer are too many for one world."
        how = {k: also.pop(k) for k in ("work",) if k in also}
        with mock.patch.dict(lineages.__globals__, MOST=100, PIECE=100, **also):
            return lineages(saes, **how)


    same = lambda a, b: torch.equal(a.members, b.members) and torch.equal(a.q.nan_to_num(2), b.q.nan_to_num(2))
    held = small_pieces()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(lists, "pairs_above", killed):
        with mock.patch.object(Similarities, "small", 0), expect_fail(KeyboardInterrupt, ""):
            small_pieces(work=folder)
        assert len(list(Path(folder).iterdir())) == 3
        assert same(held, small_pieces(work=folder))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert same(held, small_pieces(machine_memory=lambda: 8)), "rows made when they are needed"
    assert any("lineages will need about" in str(w.message) for w in said)
    held


def test_pieces_of_strangers_stand_for_all_of_them():
    from unittest import mock

    from saematch.lap.similarities import Similarities

    strangers = {l: random_sae(24, 400, seed=l) for l in range(3)}
    tau = torch.full((3, 3), 0.66, dtype=torch.float64)


    def pairs(worlds):
        "Pairs above the threshold in null worlds, each times what it stands for."
        listed = [Similarities(w.rows, tau) for w in worlds]
        return sum(len(s.p) * w.pieces**2 / len(worlds) for s, w in zip(listed, worlds))


    def in_pieces():
        with mock.patch.dict(null_worlds.__globals__, MOST=100, PIECE=100):
            return pairs(null_worlds(strangers, "rotation", cuts=4))


    part, whole = in_pieces(), pairs(null_worlds(strangers, "rotation"))
    assert abs(part / whole - 1) < 0.25
    whole, part
