# Written from nbs/matching/03_baselines.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.baselines import (
    TILE,
    METHODS,
    cost_rows,
    dense,
    mutual,
    greedy,
    identity,
    random,
    baseline,
)


from saematch.lap.metric import cost_matrix
from saematch.matching.descriptors import descriptors
from saematch.saes.toys import planted, random_sae


def test_rows_of_costs_are_those_of_the_matrix():
    whole = torch.Generator().manual_seed(0)
    X, Y = (torch.randint(0, 9, (k, 5), generator=whole).double() for k in (40, 30))
    for unsigned in (False, True):
        rows, C = cost_rows(X, Y, unsigned), cost_matrix(X, Y, unsigned=unsigned)
        assert torch.equal(torch.cat([c for _, c in rows.tiles()]), C)
        some, others = torch.tensor([3, 30, 7]), torch.tensor([1, 29])
        assert torch.equal(rows.of(some, others), C[some][:, others])
    rows.of(some, others)


def test_greedy_takes_the_cheapest_pair_first():
    def by_sorting(cost):
        "Greedy by its definition: all pairs in ascending order of their costs."
        index, free_i, free_j = torch.full((len(cost),), -1), set(range(len(cost))), set(range(cost.shape[1]))
        for flat in cost.flatten().argsort(stable=True).tolist():
            i, j = divmod(flat, cost.shape[1])
            if i in free_i and j in free_j:
                index[i] = j
                free_i.discard(i), free_j.discard(j)
        return index


    for n, m in ((40, 30), (30, 40), (200, 150), (300, 300)):
        cost = torch.rand(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for c in (cost, cost.mul(20).round(), cost.mul(2).round()):  # without ties, with ties, hardly anything but ties
            index, done = greedy(c), mutual(c) >= 0
            assert torch.equal(index, by_sorting(c))
            assert torch.equal(index[done], mutual(c)[done])
    assert greedy(torch.ones(300, 300)).tolist() == list(range(300)), "nothing but ties"
    dict(mutual=int(done.sum()), greedy=int((index >= 0).sum()))


def test_every_method_is_one_to_one_and_none_is_below_the_optimum():
    a, b = random_sae(8, 40, seed=0), random_sae(8, 30, seed=1)
    X, Y = descriptors(a, b)
    C, totals = cost_matrix(X, Y), {}
    for method in ("dense", "greedy", "mutual", "identity", "random"):
        index = baseline(method, X, Y, seed=5)
        used = index[index >= 0]
        assert used.unique().numel() == used.numel() and (used < 30).all()
        assert 0 < used.numel() < 30 if method == "mutual" else used.numel() == 30
        totals[method] = C[torch.arange(40), index][index >= 0].sum().item()
    assert totals["dense"] < totals["greedy"] < min(totals["identity"], totals["random"])
    assert torch.equal(METHODS["exact"](X, Y).index, baseline("dense", X, Y))
    assert not torch.equal(baseline("random", X, Y, seed=5), baseline("random", X, Y, seed=6))
    {method: round(total, 1) for method, total in totals.items()}


def test_no_method_but_dense_holds_all_costs():
    from torch.utils._python_dispatch import TorchDispatchMode


    class Watch(TorchDispatchMode):
        "Remembers how many numbers the largest tensor has that any operation returns."

        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                self.largest = max(self.largest, t.numel() if isinstance(t, torch.Tensor) else 0)
            return out


    a, b = random_sae(6, 1200, seed=0), random_sae(6, 1200, seed=1)
    X, Y = descriptors(a, b)
    C, held = cost_matrix(X, Y), {}
    module = baseline.__globals__
    usual, module["TILE"] = module["TILE"], 2000
    try:
        for method, function in (("greedy", greedy), ("mutual", mutual)):
            with Watch() as watch:
                index = baseline(method, X, Y)
            assert torch.equal(index, function(C))
            held[method] = watch.largest
    finally:
        module["TILE"] = usual
    with Watch() as watch:
        baseline("dense", X, Y)
    assert watch.largest >= 1200**2 and max(held.values()) <= 2 * X.numel(), "no more than the descriptors themselves"
    held | dict(dense=watch.largest)
