"""Relations and splits against slow versions that can be read at a glance."""

from dataclasses import replace
from itertools import combinations
from unittest import mock

import pytest
import torch
from scipy.optimize import nnls
from torch.nn.functional import normalize
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from saematch.ground import UsageError
from saematch.judging.carried import refitted
from saematch.judging.splits import BOTH, directions, merges, splits
from saematch.matching.budget import budgeted
from saematch.matching.relations import pursue, relations
from saematch.saes.sae import SAE
from saematch.saes.toys import random_sae


def slow_splits(a, b):
    "parent -> (first child, other, gain), by non-negative least squares on every pair of each family."
    A, B, D, E = directions(a, BOTH), directions(b, BOTH), directions(a), directions(b)
    families, found = {}, {}
    for j in range(b.d_sae):
        p = max(range(a.d_sae), key=lambda i: float(A[i] @ B[j]))
        if A[p] @ B[j] > 0:
            families.setdefault(p, []).append(j)
    left = lambda p, *children: nnls(torch.stack([B[j] for j in children], 1).numpy(), A[p].numpy())[1] ** 2
    for p, children in families.items():
        first = max(children, key=lambda j: float(A[p] @ B[j]))
        for i, j in combinations(children, 2):
            if first in (i, j) and E[i] @ E[j] < (D[p] @ E[i]) * (D[p] @ E[j]):
                gain = left(p, first) - left(p, i, j)
                if gain > found.get(p, (0, 0, 1e-12))[2]:
                    found[p] = (first, i + j - first, gain)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_splits_are_those_of_the_slow_version(seed):
    a, b = random_sae(20, 40, seed=seed), random_sae(20, 90, seed=seed + 10)
    slow, fast = slow_splits(a, b), splits(a, b, q=1, nulls=("siblings",))
    assert {r.parent: (r.child, r.other) for r in fast.itertuples()} == {p: s[:2] for p, s in slow.items()}
    assert_close(
        torch.tensor(fast.gain.values), torch.tensor([slow[p][2] for p in fast.parent]).double(), atol=1e-6, rtol=0
    )


def test_merges_are_splits_of_the_other_direction():
    a, b = random_sae(20, 90, seed=0), random_sae(20, 40, seed=1)
    m, s = merges(a, b, q=1), splits(b, a, q=1)
    assert m.child.tolist() == s.parent.tolist() and m.q.tolist() == s.q.tolist()


def test_the_order_of_scales_and_signs_of_atoms():
    g = torch.Generator().manual_seed(0)
    X, Y = torch.randn(30, 10, generator=g, dtype=torch.float64), torch.randn(60, 10, generator=g, dtype=torch.float64)
    index, weight = pursue(X, Y, 3)
    scale = torch.randn(60, generator=g, dtype=torch.float64)
    again, other = pursue(X, Y * scale[:, None], 3)
    assert torch.equal(index, again)
    assert_close(other * scale[index], weight)


def test_copies_and_zeros_among_the_atoms_do_no_harm():
    g = torch.Generator().manual_seed(0)
    Y = torch.randn(12, 6, generator=g, dtype=torch.float64)
    Y = torch.cat([Y, Y[:4], torch.zeros(2, 6, dtype=torch.float64)])
    X = torch.cat([torch.randn(9, 6, generator=g, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)])
    index, weight = pursue(X, Y, 8)
    rows = (weight[:, None] @ Y[index.clamp(min=0)])[:, 0]
    assert_close(rows, X, atol=1e-8, rtol=0)
    assert (index[-1] == -1).all() and index.max() < 16 and weight.isfinite().all()


def test_each_further_successor_leaves_less():
    a, b = random_sae(32, 60, seed=0), random_sae(32, 60, seed=1)
    left = [float((relations(a, b, k=k, length="least").rows() - a.W_dec).norm()) for k in (1, 2, 4, 8, 16)]
    assert left == sorted(left, reverse=True)


def test_rows_keep_their_length_in_the_metric():
    a, b = random_sae(32, 60, seed=0), random_sae(32, 60, seed=1)
    r = relations(a, b, k=3, reading=0.0)
    across = lambda rows: rows - torch.outer(rows @ r.direction, r.direction)
    assert_close(across(r.rows()).norm(dim=1), across(a.W_dec).norm(dim=1))
    assert_close(r.rows() @ r.direction, a.W_dec @ r.direction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions(dtype):
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    cast = lambda s: replace(s, **{k: p.to(dtype) for k, p in s.parameters().items()})
    if dtype is torch.float32:
        assert_close(relations(cast(a), cast(b), k=3).rows(), relations(a, b, k=3).rows().float(), rtol=1e-3, atol=1e-4)
    found = splits(cast(a), cast(b), q=1, nulls=("siblings",))
    assert len(found) > 0 and found.gain.between(0, 1).all()


def test_activations_of_any_batch_shape():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    f = a.encode(torch.randn(2, 5, 16, dtype=torch.float64))
    r = relations(a, b, k=3)
    assert r.apply(f).shape == (2, 5, 40)
    assert_close(r.apply(f)[1], r.apply(f[1])), assert_close(r.apply(0 * f), b.encode(a.b_dec).expand(2, 5, 40))


def test_topk_and_normalising_saes():
    a, b = random_sae(16, 40, seed=0, activation="topk", k=5), random_sae(16, 40, seed=1, activation="topk", k=5)
    x = torch.randn(30, 16, dtype=torch.float64)
    r = relations(a, b, k=4)
    assert ((r.apply(a.encode(x)) > 0).sum(1) <= 5).all()
    n = replace(a, normalize="layer_norm")
    every = relations(n, b, k=40)
    assert_close(every.write(n.encode(x), like=x), n.decode(n.encode(x), like=x))
    with pytest.raises(ValueError, match="like"):
        every.write(n.encode(x))


@pytest.mark.parametrize("find", [relations, budgeted, splits, merges])
def test_an_sae_without_an_encoder_is_refused(find):
    a = random_sae(16, 40)
    other = SAE(**a.parameters(), activation="other", info=dict(architecture="matching_pursuit"))
    for pair in ((a, other), (other, a), (other, other)):
        with pytest.raises(UsageError, match=r"^matching_pursuit SAEs have no encoder per latent.*use match\(a, b, "):
            find(*pair)


@pytest.mark.parametrize("find", [relations, budgeted, splits])
def test_saes_on_two_devices_are_refused(find):
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    there = property(lambda s: torch.device("cuda:1" if s is b else "cpu"))
    with mock.patch.object(SAE, "device", there), pytest.raises(UsageError, match="A is on cpu and B on cuda:1: bring"):
        find(a, b)


class Squares(TorchDispatchMode):
    "How often an n x n matrix is made."

    def __init__(self, n):
        super().__init__()
        self.n, self.made = n, 0

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        self.made += isinstance(out, torch.Tensor) and out.shape == (self.n, self.n)
        return out


def test_fitting_makes_no_copy_of_the_covariance():
    a, b = random_sae(12, 20, seed=0), random_sae(12, 24, seed=1)
    x = 2 * torch.randn(400, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f, r = a.encode(x), relations(a, b, k=2)
    with Squares(20) as covariance:
        torch.cov(f.T)
    with Squares(20) as fitting:
        refitted(r, f, x)
    assert 0 < fitting.made <= covariance.made


def test_normalized_rows_of_dead_latents_are_no_children():
    a, b = random_sae(16, 40, seed=0), random_sae(16, 40, seed=1)
    silent = replace(b, b_enc=b.b_enc.clone().index_fill(0, torch.arange(10), -float("1e6")))
    assert normalize(silent.W_dec, dim=1).isfinite().all() and len(splits(a, silent, q=1, nulls=("siblings",))) > 0
