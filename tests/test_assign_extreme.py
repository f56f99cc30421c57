"""A few rows that are much longer or shorter than the others: what they decide, and what may be said of the rest."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from saematch import assign, descriptors, match, verify
from saematch.lap.metric import METRICS
from saematch.matching.match import Match
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


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("t", [1e-6, 1e-7, 1e-8, 1e-10, 1e-14, 1e-20])
def test_one_extreme_latent_leaves_the_others_their_partners(pair, t, both, tmp_path):
    a, b, truth = with_threshold(pair, t, both)
    m = match(a, b, dead="keep")
    assert torch.equal(m.index, truth) and m.proof.optimal and m.proof.relative_gap < 1e-6
    assert verify(*descriptors(a, b), m.proof)["relative_gap"] < 1e-6
    assert verify(*descriptors(b, a), m.proof.inverse())["relative_gap"] < 1e-6
    m.save(tmp_path / "m.safetensors")
    assert Match.load(tmp_path / "m.safetensors").proof.gap == m.proof.gap


def test_what_float64_cannot_tell_is_not_called_optimal():
    "21 columns for 20 rows, two of them long: one must be taken, and other prices lie lower by its squared length."
    X, Y = lengthened(20, 21, 40, 3, 0, 1.0)
    Y[:2] *= 1e10
    a = holds(X, Y)
    assert a.status == "rounding" and a.relative_gap > 1e-3


def lengthened(n, m, D, seed, huge, size, dtype=torch.float32, noise=None):
    "Normal rows (Y: copies of X with noise, if any); `huge` rows of either side are `size` times as long."
    g = torch.Generator().manual_seed(seed)
    X, Y = torch.randn(n, D, generator=g), torch.randn(m, D, generator=g)
    if noise is not None:
        Y = X[torch.randperm(n, generator=g)] + noise * Y
    for Z in (X, Y):
        Z[torch.randperm(len(Z), generator=g)[:huge]] *= size
    return X.to(dtype), Y.to(dtype)


def dense(X, Y, metric="sqeuclidean", reject=None):
    "The best partner of each row of X (-1: none) by SciPy, from float64 costs without what all columns share."
    X, Y = X.double(), Y.double()
    centre = Y.median(0).values * (metric == "sqeuclidean")
    x, y = X - centre, Y - centre
    z = METRICS[metric].fold(x @ y.T).mul(-METRICS[metric].gamma)
    if metric != "inner" and (reject is not None or len(X) != len(Y)):
        z += y.square().sum(1)
    stay = [] if reject is None else [(reject - x.square().sum(1))[:, None].expand(len(X), len(X))]
    z = torch.cat([z, *stay], 1)
    z -= z.amin(1, keepdim=True)  # what a long row costs everywhere
    if reject is None and len(X) == len(Y):
        z -= z.amin(0)
    best = torch.tensor(linear_sum_assignment(z.numpy())[1])
    return torch.where(best < len(Y), best, -1)


def exact_cost(x, y, metric):
    "Of a pair, as a fraction."
    x, y = ([Fraction(float(e)) for e in z] for z in (x, y))
    product = sum(p * q for p, q in zip(x, y))
    if metric == "inner":
        return -product
    alone = sum(p * p for p in x) + sum(q * q for q in y)
    return alone - 2 * (abs(product) if metric == "unsigned" else product)


def dearer(X, Y, index, best, metric="sqeuclidean", reject=0.0):
    "By how much `index` costs more than `best`, in exact arithmetic, from the rows where they differ."
    cost = lambda i, j: Fraction(reject) if j < 0 else exact_cost(X[i], Y[j], metric)
    rows = (index != best).nonzero()[:, 0].tolist()
    return float(sum(cost(i, int(index[i])) - cost(i, int(best[i])) for i in rows))


def typical(X, Y):
    "What a random pairing costs where no row is more than ten times as long as most are."
    square = lambda Z: Z.double().square().sum(1)
    usual = lambda s: float(s.clamp(max=100 * s.median()).mean())
    return min(len(X), len(Y)) * (usual(square(X)) + usual(square(Y)))


def holds(X, Y, metric="sqeuclidean", reject=None, **how):
    "The assignment, after everything that it says was checked."
    a = assign(X, Y, metric=metric, reject=reject, **how)
    assert verify(X, Y, a) and a.status in ("optimal", "rounding")
    small, large, index = (X, Y, a.index) if len(X) <= len(Y) else (Y, X, a.inverse().index)
    more = dearer(small, large, index, dense(small, large, metric, reject), metric, reject or 0.0)
    assert more <= a.gap + 1e-13 * typical(X, Y), (a, more)
    assert a.scale <= 3 * typical(X, Y)
    if a.optimal:
        assert a.gap <= 1e-6 * a.scale
    return a


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("n, m, D", [(60, 60, 8), (200, 200, 40), (100, 130, 40), (130, 100, 40)])
@pytest.mark.parametrize("size, huge", [(2e3, 1), (1e5, 3), (1e8, 1), (1e-8, 20)])
def test_long_and_short_rows(metric, n, m, D, size, huge):
    a = holds(*lengthened(n, m, D, n + huge, huge, size), metric)
    assert a.optimal or size > 2e3


@pytest.mark.parametrize("seed", range(30))
def test_one_long_row_a_side(seed):
    g = torch.Generator().manual_seed(seed)
    n, D, power = (int(torch.randint(*span, (), generator=g)) for span in ((5, 120), (2, 60), (4, 11)))
    holds(*lengthened(n, n, D, seed, 1, 10.0**power, noise=0.3 if seed % 2 else None))


@pytest.mark.parametrize("D, size, int8", [(8, 1e8, None), (40, 1e10, True), (40, 1e10, None), (300, 1e6, True)])
def test_two_identical_rows_that_are_long(D, size, int8):
    g = torch.Generator().manual_seed(D)
    X, Y = torch.randn(50, D, generator=g), torch.randn(50, D, generator=g)
    X[:2], Y[3:5] = X[0] * size, Y[3] * size
    assert holds(X, Y, int8=int8).optimal


@pytest.mark.parametrize("t", [1e6, 1e8])
def test_rows_may_stay_unmatched_beside_long_ones(t):
    X, Y = lengthened(200, 200, 40, 0, 1, t, noise=0.3)
    a = holds(X, Y, reject=20.0)
    assert a.optimal and (a.index >= 0).sum() > 190


@pytest.mark.parametrize("t, both", [(1e-9, True), (1e-9, False), (1e-20, True), (1e-20, False)])
def test_a_small_threshold_does_not_leave_all_unmatched(pair, t, both):
    a, b, truth = with_threshold(pair, t, both)
    m = match(a, b, dead="keep", reject=10.0)
    assert (m.index == truth)[torch.arange(300) != 0].all() and m.proof.optimal
    assert m.index[0] == -1 and verify(*descriptors(a, b), m.proof)


@pytest.mark.parametrize("seed, size", [(0, 1e4), (1, 1e6), (2, 1e8)])
def test_small_problems_with_ties_in_float64(seed, size):
    X, Y = lengthened(12, 12, 4, seed, 2, size, dtype=torch.float64)
    X[1], Y[3] = X[0], Y[2]
    holds(X, Y)


def cheapest(costs):
    "The best column of each row by shortest augmenting paths, in whole numbers: costs [n][m], n <= m."
    n, m = len(costs), len(costs[0])
    u, v, row = [0] * n, [0] * m, [-1] * m
    for i in range(n):
        least, way, done, j, r = [math.inf] * m, [-1] * m, set(), -1, i
        while True:
            for k in range(m):
                if k not in done and (c := costs[r][k] - u[r] - v[k]) < least[k]:
                    least[k], way[k] = c, j
            to = min((k for k in range(m) if k not in done), key=least.__getitem__)
            step = least[to]
            u[i] += step
            for k in done:
                u[row[k]], v[k] = u[row[k]] + step, v[k] - step
            least = [c if k in done else c - step for k, c in enumerate(least)]
            done.add(to)
            j, r = to, row[to]
            if r < 0:
                break
        while j >= 0:
            row[j], j = row[way[j]] if way[j] >= 0 else i, way[j]
    return [row.index(i) for i in range(n)]


def some_problem(seed):
    "Up to 20 rows, up to 3 of them on one side or both 1e4 to 1e20 times as long as the others; any metric; rejection."
    g = torch.Generator().manual_seed(seed)
    draw = lambda *span: int(torch.randint(*span, (), generator=g))
    n, D, size, dtype = draw(3, 17), draw(1, 50), 10.0 ** draw(4, 21), (torch.float32, torch.float64)[draw(0, 2)]
    m, metric = n + draw(0, 5) * draw(0, 2), sorted(METRICS)[draw(0, 3)]
    reject = 2.0 * D if draw(0, 4) == 0 and metric != "inner" else None
    few = draw(1, 1 + max(1, n // 6))
    long = lengthened(n, m, D, seed, few, size, dtype, noise=0.3 if n == m and draw(0, 2) else None)
    plain = lengthened(n, m, D, -seed - 1, 0, size, dtype)
    X, Y = ((long[0], long[1]), (long[0], plain[1]), (plain[0], long[1]))[draw(0, 3)]
    if draw(0, 4) == 0:
        X[1] = X[0]
    return (X, Y, metric, reject) if draw(0, 2) else (Y, X, metric, reject)


def test_small_problems_in_exact_arithmetic():
    "What is called optimal is the optimum of whole numbers, and nearly all of these are."
    told = []
    for seed in range(100):
        X, Y, metric, reject = some_problem(seed)
        a = assign(X, Y, metric=metric, reject=reject)
        assert verify(X, Y, a) and a.status in ("optimal", "rounding"), (seed, a)
        small, large, index = (X, Y, a.index) if len(X) <= len(Y) else (Y, X, a.inverse().index)
        costs = [[exact_cost(x, y, metric) for y in large] + [Fraction(reject or 0)] * len(small) for x in small]
        costs = costs if reject is not None else [row[: len(large)] for row in costs]
        whole = math.lcm(*(c.denominator for row in costs for c in row))
        best = cheapest([[int(c * whole) for c in row] for row in costs])
        pays = lambda index: sum(row[j] if j >= 0 else Fraction(reject) for row, j in zip(costs, index))
        more = float(pays(index.tolist()) - pays(best))
        assert 0 <= more <= a.gap + 1e-12 * typical(X, Y), (seed, a, more)
        told.append(a.optimal)
    assert sum(told) >= 0.95 * len(told)


def test_a_lie_about_typical_rows_is_found_beside_a_long_one(pair):
    a, b, _ = with_threshold(pair, 1e-6, True)
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
