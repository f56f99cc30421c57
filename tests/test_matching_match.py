# Written from nbs/matching/04_match.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.match import (
    Match,
    match,
    compared,
)


import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UsageError
from saematch.lap.certificate import verify
from saematch.lap.metric import cost_matrix
from saematch.matching.baselines import METHODS
from saematch.matching.descriptors import descriptors
from saematch.saes.gauge import fold
from saematch.saes.toys import planted, random_sae


def test_rows_of_ones_own_take_the_same_way():
    a = random_sae(24, 60, seed=0)
    b, truth = planted(a, decoder_noise=0.3, encoder_noise=0.3, seed=1)


    def decoder_rows(sae):
        return sae.W_dec


    m, own = match(a, b, weights="decoder"), match(a, b, rows=decoder_rows)
    assert own.index.equal(m.index) and torch.allclose(own.cost, m.cost) and own.proof.status == "optimal"
    tables = match(a, b, rows=(fold(a).W_dec, fold(b).W_dec))
    assert tables.index.equal(m.index) and tables.info["weights"] == "rows given as tables"
    other = random_sae(30, 60, seed=2)  # another space: rows of 24 and of 30 columns cannot be compared, tables can
    with expect_fail(ValueError, "rows of A have 24 columns, rows of B 30"):
        match(a, other, rows=decoder_rows)
    assert match(a, other, rows=(torch.eye(60), torch.eye(60).flip(0))).index.tolist() == list(range(59, -1, -1))
    assert match(a, b, rows=lambda sae: sae.W_dec).info["weights"] == "rows given as a lambda"
    own.info["weights"]


def test_match_is_its_four_steps():
    from saematch.lap.assign import assign
    from saematch.matching.descriptors import describe
    from saematch.saes.gauge import comparable

    a, b = random_sae(24, 300, seed=0), random_sae(24, 280, seed=1)
    pair = comparable(a, b)
    X, Y = describe(pair)
    by_hand = assign(X, Y)
    assert torch.equal(match(a, b).index, by_hand.index) and match(a, b).info["gauge"] == pair.gauge
    assert abs(match(a, b).objective - by_hand.objective) < 1e-9
    by_hand.status, by_hand.index[:8]


def test_exact_finds_what_was_planted_and_is_never_beaten():
    a = random_sae(24, 300, seed=0)
    b, truth = planted(a, decoder_noise=1.5, encoder_noise=1.5, replaced=0.1, seed=1)
    has = truth >= 0
    m = {method: match(a, b, method=method) for method in METHODS}
    found = {k: (v.index == truth)[has].double().mean().item() for k, v in m.items()}
    assert 1 > found["exact"] > found["greedy"] > found["mutual"] > 0.2 and max(found["identity"], found["random"]) < 0.02
    assert m["exact"].proof.optimal and torch.equal(m["exact"].index, m["dense"].index)
    assert m["exact"].objective < min(m[k].objective for k in ("greedy", "identity", "random"))
    assert (
        all(m[k].matched.all() for k in ("exact", "dense", "greedy", "identity", "random"))
        and not m["mutual"].matched.all()
    )
    C = cost_matrix(*descriptors(a, b))
    assert_close(m["exact"].cost, C[torch.arange(300), m["exact"].index])
    found


def test_direction_scatter_not_gather():
    ab = Match(torch.tensor([1, 2, 0]), 3, torch.zeros(3))
    f = torch.tensor([[10.0, 20.0, 30.0]])
    assert ab.scatter(f).tolist() == [[30.0, 10.0, 20.0]] != f[..., ab.index].tolist()
    assert ab.inverse().index.tolist() == [2, 0, 1] and ab.inverse().inverse().index.tolist() == [1, 2, 0]


def test_direction_of_a_real_match():
    a = random_sae(32, 50, seed=0)
    b, truth = planted(a, decoder_noise=0.1, encoder_noise=0.1, seed=1)
    assert not torch.equal(truth, truth.argsort()), "the truth must not be its own inverse"
    assert torch.equal(match(a, b).index, truth) and torch.equal(match(b, a).index, truth.argsort())
    x = 2 * torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    from saematch.saes.gauge import fold

    carried = match(a, b).scatter(fold(a).encode(x))
    agreement = lambda g: torch.corrcoef(torch.stack([g.flatten(), fold(b).encode(x).flatten()]))[0, 1]
    assert agreement(carried) > 0.8 > 0.2 > agreement(fold(a).encode(x)[..., truth])
    agreement(carried)


def test_a_match_survives_the_disk():
    for method in ("mutual", "exact"):
        ab = match(random_sae(8, 20, seed=0), random_sae(8, 15, seed=1), method=method)
        with tempfile.TemporaryDirectory() as folder:
            ab.save(Path(folder) / "m.safetensors")
            back = Match.load(Path(folder) / "m.safetensors")
            with expect_fail(UsageError, "saved as a .safetensors file"):
                ab.save(Path(folder) / "m.pt")
            counted = replace(ab, info={**ab.info, "a": dict(layer=np.int64(14))})  # a layer counted by NumPy
            counted.save(Path(folder) / "n.safetensors")
            assert Match.load(Path(folder) / "n.safetensors").info["a"] == dict(layer=14)
        assert torch.equal(back.index, ab.index) and torch.equal(back.cost.nan_to_num(-1), ab.cost.nan_to_num(-1))
    X, Y = descriptors(random_sae(8, 20, seed=0), random_sae(8, 15, seed=1))
    assert verify(X, Y, back.proof) == verify(X, Y, ab.proof) and verify(Y, X, back.inverse().proof)["relative_gap"] < 1e-9
    assert (back.d_b, dict(back.info)) == (15, dict(ab.info))
    assert list(ab.frame().columns) == ["latent_a", "latent_b", "cost", "rank"] and len(ab.frame()) == 20
    back


def test_unequal_widths_match_the_smaller_side():
    wide, narrow = random_sae(8, 30, seed=0), random_sae(8, 20, seed=1)
    for method in ("exact", "dense", "greedy", "identity", "random"):
        assert match(wide, narrow, method=method).matched.sum() == match(narrow, wide, method=method).matched.sum() == 20
    assert abs(match(wide, narrow).objective - match(narrow, wide).objective) < 1e-9
    match(wide, narrow)


def test_abstopk_latents_are_matched_up_to_their_sign():
    a = random_sae(24, 200, activation="abstopk", k=12)
    b, truth = planted(a, decoder_noise=0.5, encoder_noise=0.5, seed=1)
    flip = torch.where(torch.rand(200, generator=torch.Generator().manual_seed(2)) < 0.5, -1.0, 1.0).double()
    flipped = replace(b, W_enc=b.W_enc * flip, b_enc=b.b_enc * flip, W_dec=b.W_dec * flip[:, None])
    x = 2 * torch.randn(50, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert_close(flipped.reconstruct(x), b.reconstruct(x))
    m = match(a, flipped)
    assert torch.equal(m.index, match(a, b).index) and torch.equal(m.sign, flip[m.index])
    assert_close(flipped.decode(m.scatter(a.encode(x))), b.decode(match(a, b).scatter(a.encode(x))))
    assert torch.equal(match(a, flipped, method="dense").index, m.index) and torch.equal(m.inverse().sign[m.index], m.sign)
    dict(
        found=(m.index == truth).double().mean().item(),
        negative=int((m.sign < 0).sum()),
        without_the_sign=(
            match(replace(a, activation="jumprelu", k=None), replace(flipped, activation="jumprelu", k=None)).index == truth
        )
        .double()
        .mean()
        .item(),
    )


def test_dead_latents_are_never_matched_silently():
    import warnings

    a = random_sae(16, 60, seed=5)
    b = planted(a, seed=6).sae
    a, b = (replace(s, W_dec=s.W_dec.index_fill(0, torch.tensor(rows), 0)) for s, rows in ((a, [3, 7]), (b, [1])))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        everyone = match(a, b)
    assert (
        "2 dead latents and 0 copies of others in A, 1 dead latents and 0 copies" in str(said[0].message)
        and everyone.matched.all()
    )
    alive = match(a, b, dead="exclude")
    assert alive.index[[3, 7]].tolist() == [-1, -1] and 1 not in alive.index and alive.info["excluded"] == [2, 1]
    assert alive.cost[[3, 7]].isnan().all() and int(alive.matched.sum()) == 58
    with tempfile.TemporaryDirectory() as folder:
        for m in (alive, alive.inverse()):
            m.save(Path(folder) / "m.safetensors")
            assert torch.equal(Match.load(Path(folder) / "m.safetensors").proof.index, m.proof.index) and torch.equal(
                Match.load(Path(folder) / "m.safetensors").index, m.index
            )
    with expect_fail(ValueError, "dead must be 'warn', 'exclude' or 'keep'"):
        match(a, b, dead="yes")
    alive


def test_wrong_matches_are_refused():
    a = random_sae(6, 9, seed=1)
    with expect_fail(ValueError, "method must be one of exact, dense, greedy, mutual, identity, random, not 'hungarian'"):
        match(a, a, method="hungarian")
    with expect_fail(ValueError, "reject and time_limit belong to the method 'exact', not to 'greedy'"):
        match(a, a, method="greedy", reject=1.0)
    with expect_fail(TypeError, "A must be a saematch SAE, it is str; use load_sae"):
        match("smollm2-135m-resid/layer_14", a)
    with expect_fail(UsageError, "cannot compute on device 'cuda:99'"):
        match(a, a, device="cuda:99")
    with expect_fail(ValueError, "reject is the cost of leaving a row unmatched"):
        match(a, a, reject=-1.0)
    with expect_fail(ValueError, "d_model is 6 in A and 5 in B"):
        match(a, random_sae(5, 9))
    with expect_fail(ValueError, "latent 1 of B is matched to [0, 2] of A"):
        Match(torch.tensor([1, 0, 1]), 3, torch.zeros(3))
    with expect_fail(ValueError, "latent 1 is matched to 3; B has latents 0..2"):
        Match(torch.tensor([1, 3, -1]), 3, torch.zeros(3))
    assert match(random_sae(6, 1), random_sae(6, 1, seed=1)).index.tolist() == [0]
