"Assignment problems with rows of extreme length: an optimum is one within its own gap, in exact arithmetic."

import itertools
import math
from fractions import Fraction

import numpy as np
import torch
from harness import tried
from hypothesis import event, given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from saematch import assign, verify

DECADES = 12  # extreme rows are up to 10**DECADES times longer, or shorter, than the others


@st.composite
def problems(draw, largest, widths):
    "X [n, D], Y [m, D] and a cost of staying unmatched: ordinary rows, some of them made long or short."
    n, D = draw(st.integers(1, largest)), draw(st.sampled_from(widths))
    m = n if draw(st.booleans()) else draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X, Y = rng.standard_normal((n, D)), rng.standard_normal((m, D))
    kind = draw(st.sampled_from(("normal", "integers", "copies", "planted")))
    if kind == "integers":
        X, Y = (3 * X).round(), (3 * Y).round()
    elif kind == "copies":
        X, Y = X[rng.integers(0, 1 + n // 3, n)], Y[rng.integers(0, 1 + m // 3, m)]
    elif kind == "planted":
        Y[: min(n, m)] = X[rng.permutation(n)[: min(n, m)]] + 0.3 * Y[: min(n, m)]
    for Z in (X, Y):
        for i in draw(st.lists(st.integers(0, len(Z) - 1), max_size=3, unique=True)):
            Z[i] *= 10 ** draw(st.floats(-DECADES, DECADES))
    if draw(st.booleans()):  # two identical rows, perhaps extreme
        X[-1] = X[0]
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    reject = draw(st.sampled_from((None, None, 0.5, 1.0)))
    X, Y = (torch.from_numpy(Z).to(dtype) for Z in (X, Y))
    return X, Y, None if reject is None else reject * 2 * D


def exact(x, y):
    "The squared distance of two rows, as a fraction: a float is a fraction."
    return sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x.tolist(), y.tolist()))


def paid(X, Y, index, reject, rows):
    "What the given rows of the smaller side pay, exactly."
    return sum(exact(X[i], Y[index[i]]) if index[i] >= 0 else Fraction(reject) for i in rows)


def by_scipy(X, Y, reject):
    "An optimum of X to Y (not shorter) by SciPy, less what a row pays whomever it meets: that would hide the rest."
    X, Y = X.double(), Y.double()
    C = Y.square().sum(1) * (len(X) < len(Y) or reject is not None) - 2 * X @ Y.T
    if reject is not None:
        C = torch.cat([C, (reject - X.square().sum(1))[:, None].expand(len(X), len(X))], 1)
    found = linear_sum_assignment(C.numpy())[1]
    return np.where(found < len(Y), found, -1).tolist()


def typical(X, Y):
    "What all rows would pay if each paid the median of all costs: extreme rows have no part in it."
    return min(len(X), len(Y)) * float(torch.cdist(X.double(), Y.double()).square().median())


def shorter_first(X, Y, a):
    "The same assignment, from the side with fewer rows."
    return (X, Y, a.index.tolist()) if len(X) <= len(Y) else (Y, X, a.inverse().index.tolist())


@tried(25)
@given(problems(400, (1, 2, 8, 40, 130)))
def test_an_optimum_is_within_its_gap_of_scipys(problem):
    X, Y, reject = problem
    a = assign(X, Y, reject=reject)
    event(f"status {a.status}")
    small, large, index = shorter_first(X, Y, a)
    other = by_scipy(small, large, reject)
    rows = [i for i, (j, k) in enumerate(zip(index, other)) if j != k]
    excess = float(paid(small, large, index, reject, rows) - paid(small, large, other, reject, rows))
    event("another assignment of nearly the same cost" if rows else "SciPy's assignment")
    assert a.status in ("optimal", "rounding") or reject is not None, a
    assert excess <= a.gap + 1e-9 * typical(X, Y), (excess, a)
    assert verify(X, Y, a)["gap"] <= a.gap + 1e-9 * typical(X, Y)


@tried(60)
@given(problems(6, (1, 2, 3, 8)))
def test_an_optimum_is_within_its_gap_of_the_best_permutation(problem):
    "At most six rows a side: every permutation, in exact arithmetic."
    X, Y, reject = problem
    a = assign(X, Y, reject=reject)
    small, large, index = shorter_first(X, Y, a)
    costs = [[exact(x, y) for y in large] + [Fraction(reject or 0)] * (reject is not None) * len(small) for x in small]
    whole = math.lcm(*(c.denominator for row in costs for c in row))
    costs = [[int(c * whole) for c in row] for row in costs]  # whole numbers: the same order, added sooner
    if reject is not None:  # a row pays `reject` wherever that is less
        costs = [[min(c, row[-1]) for c in row[: len(large)]] for row in costs]
    best = Fraction(
        min(sum(c[j] for c, j in zip(costs, p)) for p in itertools.permutations(range(len(large)), len(small))), whole
    )
    found = paid(small, large, index, reject, range(len(small)))
    assert found >= best, "better than every permutation: this test is wrong"
    assert a.status in ("optimal", "rounding") or reject is not None, a
    assert found - best <= a.gap + 1e-9 * typical(X, Y), (float(found - best), a)
    assert abs(a.objective - float(found)) <= 1e-12 * float(found) + 1e-300
    assert a.bound <= float(best) + 1e-9 * typical(X, Y) + 1e-12 * float(best)
