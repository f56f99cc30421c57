# Written from nbs/judging/10_splits.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.splits import (
    second_gain,
    splits,
    merges,
    forks,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from torch.nn.functional import normalize
from torch.testing import assert_close

from saematch.saes.toys import planted_suite, random_sae


def true_events(world, event, x=0):
    "Planted splits or merges of layer x and the next: {(one latent, frozenset of two)}."
    at, found = world.lineages.set_index(["lineage", "layer"]).latent.to_dict(), set()
    one, two = (x, x + 1) if event == "split" else (x + 1, x)  # layers
    for e in world.events[(world.events.event == event) & (world.events.layer == one)].itertuples():
        pair = [at.get((k, two)) for k in (e.lineage, e.other)]
        if None not in (*pair, at.get((e.lineage, one))):
            found.add((at[e.lineage, one], frozenset(pair)))
    return found


def test_gain_against_nonnegative_least_squares():
    from scipy.optimize import nnls

    g = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows = normalize(torch.randn(3, 4, generator=g, dtype=torch.float64), dim=1)
        p, i, j = rows.numpy()
        left = lambda *children: nnls(torch.from_numpy(p).new_tensor([*map(list, children)]).T.numpy(), p)[1] ** 2
        gain = min(left(i), left(j)) - left(i, j)
        at = [torch.tensor([float(x @ y)], dtype=torch.float64) for x, y in ((p, i), (p, j), (i, j))]
        assert_close(float(second_gain(*at)), gain, atol=1e-10, rtol=0)


def test_planted_splits_and_merges_are_found():
    world = planted_suite(random_sae(64, 1200, seed=0), layers=2, split=0.08, merge=0.08, death=0.1, gap=0.0, seed=0)
    a, b = world.suite[0], world.suite[1]
    for event, found in (("split", splits(a, b)), ("merge", merges(a, b))):
        one, *two = found.columns[:3]
        claims = {(r[one], frozenset((r[two[0]], r[two[1]]))) for _, r in found.iterrows()}
        true = true_events(world, event)
        assert len(claims & true) >= 0.9 * len(claims) and len(claims & true) >= 0.8 * len(true) > 0, event
    assert (splits(a, b).q <= 0.05).all() and len(splits(a, b, q=1)) > len(splits(a, b))


def test_nothing_splits_among_strangers():
    a, b = random_sae(48, 400, seed=0), random_sae(48, 400, seed=1)
    assert len(splits(a, b)) <= 1 and len(merges(a, b)) <= 1
    assert len(splits(a, a, nulls=("siblings",))) <= 1  # every latent goes on as itself


def test_splits_follow_their_latents():
    a, b = random_sae(24, 60, seed=0), random_sae(24, 70, seed=1)
    g = torch.Generator().manual_seed(0)
    p, q = torch.randperm(60, generator=g), torch.randperm(70, generator=g)
    here, there = splits(a, b, q=1, nulls=("siblings",)), splits(a.permute(p), b.permute(q), q=1, nulls=("siblings",))
    assert there.parent.tolist() == p[here.parent.tolist()].tolist()
    assert (
        there.child.tolist() == q[here.child.tolist()].tolist() and there.other.tolist() == q[here.other.tolist()].tolist()
    )
    assert_close(torch.tensor(there.gain), torch.tensor(here.gain)) and (here.child != here.other).all()
    back = merges(b, a, q=1, nulls=("siblings",))
    assert back.child.tolist() == here.parent.tolist() and back.parent.tolist() == here.child.tolist()


def test_forks_of_a_suite():
    world = planted_suite(random_sae(64, 1200, seed=0), layers=3, split=0.08, merge=0.08, death=0.1, gap=0.0, seed=0)
    table = forks(world.suite)
    found = {(f.event, f.layer, f.latent) for f in table.itertuples()}
    true = {(e, x + (e == "merge"), one) for e in ("split", "merge") for x in (0, 1) for one, _ in true_events(world, e, x)}
    assert len(found & true) >= 0.9 * len(found) and len(found & true) >= 0.8 * len(true) > 0
    assert (table.q <= 0.05).all() and (table.near != table.far).all() and len(forks(world.suite, 1)) > len(table)


def test_bad_splits_are_refused():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    with expect_fail(ValueError, "d_model is 16 in A and 8 in B"):
        splits(a, random_sae(8, 40))
    with expect_fail(ValueError, "q is the false discovery rate"):
        splits(a, b, q=0)
    with expect_fail(ValueError, "a null must be one of"):
        splits(a, b, nulls=("noise",))
    with expect_fail(ValueError, "at least one null"):
        splits(a, b, nulls=())
    with expect_fail(ValueError, "a bias has none"):
        splits(a, b, weights="all")
    W = b.W_dec.clone()
    W[7] = 0
    assert 7 not in splits(a, replace(b, W_dec=W), q=1, nulls=("siblings",))[["child", "other"]].values
