"""A few rows that are much longer or shorter than the others: what they decide, and what may be said of the rest."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from saematch import assign, match, verify
from saematch.lap.metric import METRICS
from saematch.saes.toys import planted, random_sae


@pytest.fixture(scope="module")
def pair():
    a = random_sae(64, 300, seed=1, dtype=torch.float32)
    return a, *planted(a, seed=5)


def with_threshold(pair, t, both):
    a, b, truth = pair
    first, second = a.threshold.clone(), b.threshold.clone()
    second[truth[0]] = t
    if both:
        first[0] = t
    return replace(a, threshold=first), replace(b, threshold=second), truth


@pytest.mark.parametrize("t, both", [(1e-6, True), (1e-7, True), (1e-8, True), (1e-6, False), (1e-7, False)])
def test_one_extreme_latent_leaves_the_others_their_partners(pair, t, both):
    a, b, truth = with_threshold(pair, t, both)
    m = match(a, b, dead="keep")
    assert torch.equal(m.index, truth) and m.proof.status == ("optimal" if both else "rounding")
    assert m.proof.relative_gap < 1e-2


@pytest.mark.parametrize("t", [1e-10, 1e-20])
def test_what_float64_cannot_tell_is_not_called_optimal(pair, t):
    a, b, truth = with_threshold(pair, t, False)
    m = match(a, b, dead="keep")
    assert torch.equal(m.index, truth) or (m.proof.status == "rounding" and m.proof.relative_gap > 1e-6)


def extreme(n, m, D, seed, huge, size, dtype):
    "Normal rows; `huge` rows of either side are `size` times as long."
    g = torch.Generator().manual_seed(seed)
    X, Y = torch.randn(n, D, generator=g), torch.randn(m, D, generator=g)
    for Z in (X, Y):
        Z[torch.randperm(len(Z), generator=g)[:huge]] *= size
    return X.to(dtype), Y.to(dtype)


def optimum(X, Y, metric, reject):
    "(partner of each row of the smaller side, cost of a matrix of its pairs) by SciPy: squared lengths drop out."
    X, Y = X.double(), Y.double()
    z = METRICS[metric].fold(X @ Y.T).mul(-METRICS[metric].gamma)
    if metric != "inner" and (reject is not None or len(X) != len(Y)):
        z = z + X.square().sum(1)[:, None] + Y.square().sum(1)
    return z


def total(z, index, reject):
    matched = index >= 0
    return math.fsum(z[matched, index[matched]].tolist()) + (reject or 0.0) * int((~matched).sum())


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("n, m, D", [(60, 60, 8), (150, 150, 40), (400, 400, 40), (100, 130, 40)])
@pytest.mark.parametrize("size", [1e4, 1e5, 1e6, 1e8, 1e-8])
@pytest.mark.parametrize("huge", [1, 4])
def test_extreme_rows_against_the_dense_solver(metric, n, m, D, size, huge):
    X, Y = extreme(n, m, D, seed=n + huge, huge=huge, size=size, dtype=torch.float32)
    a = assign(X, Y, metric=metric)
    verify(X, Y, a)
    z = optimum(X, Y, metric, None)
    best = torch.tensor(linear_sum_assignment(z.numpy())[1])
    differ = a.index != best
    rows = differ.nonzero()[:, 0]
    more = math.fsum((z[rows, a.index[rows]] - z[rows, best[rows]]).tolist())
    room = 2e-6 * a.scale + 1e-12 * float(z[rows].abs().amax(1).sum()) if len(rows) else 0.0
    assert a.status in ("optimal", "rounding")
    assert more <= max(room, a.gap), (a, more)
    assert a.status == "optimal" or a.gap > 1e-6 * a.scale


@pytest.mark.parametrize("t", [1e6, 1e8])
def test_rows_may_stay_unmatched_beside_extreme_ones(t):
    g = torch.Generator().manual_seed(0)
    X = torch.randn(200, 40, generator=g)
    Y = X[torch.randperm(200, generator=g)] + 0.3 * torch.randn(200, 40, generator=g)
    X[0], Y[5] = X[0] * t, Y[5] * t
    a = assign(X, Y, reject=20.0)
    cost = (X.double()[:, None] - Y.double()).square().sum(2)
    padded = torch.cat([cost, torch.full((200, 200), 20.0, dtype=torch.float64)], 1)
    i, j = linear_sum_assignment(padded.numpy())
    assert a.optimal and verify(X, Y, a)
    assert a.objective == pytest.approx(float(padded[i, j].sum()), rel=1e-9) and (a.index >= 0).sum() > 190


def exact_total(X, Y, index):
    "The sum of squared distances as a fraction."
    number = lambda z: [Fraction(float(x)) for x in z]
    return sum(sum((p - q) ** 2 for p, q in zip(number(X[i]), number(Y[j]))) for i, j in enumerate(index))


@pytest.mark.parametrize("size", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("seed", range(4))
def test_optimal_is_optimal_in_exact_arithmetic(size, seed):
    X, Y = extreme(12, 12, 4, seed=seed, huge=2, size=size, dtype=torch.float64)
    X[1], Y[3] = X[0], Y[2]  # ties
    a = assign(X, Y)
    best = linear_sum_assignment(optimum(X, Y, "sqeuclidean", None).numpy())[1].tolist()
    more = exact_total(X, Y, a.index.tolist()) - exact_total(X, Y, best)
    assert a.status in ("optimal", "rounding") and float(more) <= max(a.gap, 2e-6 * a.scale), (a, float(more))
    verify(X, Y, a)


def test_a_lie_about_typical_rows_is_found_beside_an_extreme_one(pair):
    a, b, truth = with_threshold(pair, 1e-6, True)
    from saematch import descriptors

    X, Y = descriptors(a, b)
    good = assign(X, Y)
    assert good.optimal and verify(X, Y, good)["relative_gap"] <= 1e-6
    wrong = good.index.clone()
    wrong[[1, 2]] = wrong[[2, 1]]
    paid = float((X.double() - Y.double()[wrong]).square().sum())
    with pytest.raises(ValueError, match="the gap is"):
        verify(X, Y, replace(good, index=wrong, objective=paid))
    with pytest.raises(ValueError, match="random assignment costs"):
        verify(X, Y, replace(good, scale=2 * good.scale))
