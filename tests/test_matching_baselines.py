# Written from nbs/matching/03_baselines.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.baselines import (
    METHODS,
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


def test_greedy_takes_the_cheapest_pair_first():
    cost = torch.rand(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(20).round()  # with ties
    index, free_i, free_j = torch.full((40,), -1), set(range(40)), set(range(30))
    for flat in cost.flatten().argsort(stable=True).tolist():
        i, j = divmod(flat, 30)
        if i in free_i and j in free_j:
            index[i] = j
            free_i.discard(i), free_j.discard(j)
    assert torch.equal(greedy(cost), index)
    done = mutual(cost) >= 0
    assert torch.equal(greedy(cost)[done], mutual(cost)[done]) and 0 < done.sum() < 30
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
