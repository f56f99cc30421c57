# Written from nbs/judging/11_depth.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.depth import (
    ROUNDING,
    lowest_threshold,
    lineages,
)


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
