"""The assignment engine against SciPy's dense solver, on generated shapes, scales, ties and options."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from saematch import assign, verify
from saematch.lap import assign as face
from saematch.lap import bounds, edges, search
from saematch.lap import costs as laid_out
from saematch.lap.bounds import price_block
from saematch.lap.edges import lowest_of
from saematch.lap.int8 import BOUND, int8_is_exact


def costs(X, Y, metric):
    X, Y = X.double(), Y.double()
    if metric == "inner":
        return -(X @ Y.T)
    square = lambda Y: torch.cdist(X, Y, compute_mode="donot_use_mm_for_euclid_dist").square()  # differences, summed
    return torch.minimum(square(Y), square(-Y)) if metric == "unsigned" else square(Y)


def oracle(C, reject=None):
    "The optimum by SciPy; a row that may stay unmatched gets a column of its own."
    C = C.T if len(C) > C.shape[1] else C
    if reject is not None:
        C = torch.cat([C, torch.full((len(C), len(C)), float(reject), dtype=torch.float64)], 1)
    i, j = linear_sum_assignment(C.numpy())
    return float(C[i, j].sum())


def close(a, X, Y, metric, reject):
    C = costs(X, Y, metric)
    best, size = oracle(C, reject), float(C.abs().max()) * min(C.shape)
    assert a.optimal, a
    assert abs(a.objective - best) <= 1e-6 * abs(best) + 1e-11 * size, (a, best)
    assert a.bound <= best + 1e-11 * size
    assert a.gap <= 1e-6 * a.scale + 1e-11 * size
    assert verify(X, Y, a)["gap"] <= 1e-6 * a.scale + 1e-11 * size
    assert (a.u[:, None] + a.v <= C + 1e-10 * float(C.abs().max()) + 1e-300).all()
    if reject is None:
        assert int((a.index >= 0).sum()) == min(C.shape)


KINDS = (
    "normal",
    "integers",
    "few values",
    "copies",
    "some zero rows",
    "all equal",
    "hub",
    "clusters",
    "line",
    "same as X",
    "almost X",
    "heavy tails",
    "tight clusters",
    "row scales",
    "one side equal",
    "orthogonal",
    "offset",
)


def descriptors(kind, n, m, D, seed):
    g = torch.Generator().manual_seed(seed)
    X, Y = torch.randn(n, D, generator=g), torch.randn(m, D, generator=g)
    if kind == "integers":
        X, Y = (3 * X).round(), (3 * Y).round()
    elif kind == "few values":
        X, Y = X.sign(), Y.sign()
    elif kind == "copies":
        X, Y = X[torch.randint(max(1, n // 5), (n,), generator=g)], Y[torch.randint(max(1, m // 3), (m,), generator=g)]
    elif kind == "some zero rows":
        X[: n // 2], Y[m // 3 :] = 0, 0
    elif kind == "all equal":
        X, Y = torch.ones(n, D), torch.ones(m, D)
    elif kind == "hub":
        X[0], Y[-1] = X[0] * 1000, Y[-1] * 300
    elif kind == "clusters":
        X[: n // 3, 0] += 100
        Y[: m // 2, 0] += 100
    elif kind == "line":
        X[:, 1:], Y[:, 1:] = X[:, 1:] * 1e-3, Y[:, 1:] * 1e-3
    elif kind == "heavy tails":
        X, Y = X / torch.rand(n, 1, generator=g), Y / torch.rand(m, 1, generator=g)
    elif kind == "tight clusters":
        X = X * 1e-2 + 10 * (torch.arange(n) * 3 // n)[:, None]
        Y = Y * 1e-2 + 10 * (torch.arange(m) * 4 // m)[:, None]
    elif kind == "row scales":
        X, Y = (Z * 10 ** (4 * torch.rand(len(Z), 1, generator=g) - 2) for Z in (X, Y))
    elif kind == "one side equal":
        X = X * 0 + 1
    elif kind == "orthogonal":
        X[:, D // 2 :], Y[:, : D // 2] = 0, 0
    elif kind == "offset":
        X[:, 0] += 1e4
    elif kind in ("same as X", "almost X"):
        Y = X[torch.randint(n, (m,), generator=g)] if m > n else X[torch.randperm(n, generator=g)[:m]]
        Y = Y + (1e-3 * torch.randn(Y.shape, generator=g) if kind == "almost X" else 0)
    return X, Y


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 90),
    m=st.integers(1, 90),
    D=st.sampled_from((1, 2, 3, 8, 40, 130)),
    square=st.booleans(),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from((1e-6, 1.0, 1e6)),
    shift=st.sampled_from((0.0, 10.0)),
    double=st.booleans(),
    metric=st.sampled_from(("sqeuclidean", "sqeuclidean", "unsigned", "inner")),
    reject=st.sampled_from((None, None, 0.0, 0.3, 1.0)),
)
def test_the_optimum_is_found_and_proven(kind, n, m, D, square, seed, scale, shift, double, metric, reject):
    X, Y = descriptors(kind, n, n if square else m, D, seed)
    X, Y = ((Z.double() if double else Z) * scale + shift * scale for Z in (X, Y))
    if reject is not None:  # a share of the largest cost
        reject = reject * float(costs(X, Y, metric).abs().max())
    close(assign(X, Y, metric=metric, reject=reject), X, Y, metric, reject)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n, m, reject", [(600, 600, None), (500, 700, None), (700, 400, None), (500, 600, 0.2)])
def test_larger_than_the_candidate_lists(kind, n, m, reject):
    X, Y = descriptors(kind, n, m, 48, seed=1)
    reject = None if reject is None else reject * float(costs(X, Y, "sqeuclidean").max())
    close(assign(X, Y), X, Y, "sqeuclidean", None)
    if reject is not None:
        close(assign(X, Y, reject=reject), X, Y, "sqeuclidean", reject)


eight_bits = pytest.mark.skipif(not int8_is_exact(), reason="8-bit products of this processor overflow")


@eight_bits
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 120),
    m=st.integers(1, 120),
    D=st.sampled_from((33, 64, 300)),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from((1e-6, 1.0, 1e6)),
    double=st.booleans(),
    keep=st.sampled_from((None, True, False)),
    metric=st.sampled_from(("sqeuclidean", "sqeuclidean", "unsigned", "inner")),
    reject=st.sampled_from((None, None, 0.3)),
)
def test_the_optimum_is_found_and_proven_with_8_bits(kind, n, m, D, seed, scale, double, keep, metric, reject):
    X, Y = descriptors(kind, n, m, D, seed)
    X, Y = ((Z.double() if double else Z) * scale for Z in (X, Y))
    if reject is not None:
        reject = reject * float(costs(X, Y, metric).abs().max())
    close(assign(X, Y, metric=metric, reject=reject, keep=keep, int8=True), X, Y, metric, reject)


@eight_bits
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n, m, reject, keep", [(600, 600, None, True), (700, 400, None, False), (500, 600, 0.2, None)])
def test_8_bits_beyond_the_candidate_lists(kind, n, m, reject, keep):
    X, Y = descriptors(kind, n, m, 96, seed=1)
    reject = None if reject is None else reject * float(costs(X, Y, "sqeuclidean").max())
    close(assign(X, Y, reject=reject, keep=keep, int8=True), X, Y, "sqeuclidean", reject)


@eight_bits
def test_8_bits_are_given_up_where_they_hide_too_much(monkeypatch):
    "Rows that differ by far less than 8 bits can say, around many centres: nearly every pair of a cluster stays open."
    g = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 300, generator=g)
    X, Y = (centres.repeat(200, 1) + 1e-3 * torch.randn(800, 300, generator=g) for _ in range(2))
    seen, in_full = [], bounds.in_full
    monkeypatch.setattr(bounds, "in_full", lambda c: (seen.append(c.products.rough), in_full(c))[1])
    a = assign(X, Y, int8=True)
    assert seen == [True]
    close(a, X, Y, "sqeuclidean", None)
    assert assign(X, Y, int8=False).objective == pytest.approx(a.objective, rel=1e-9)


@eight_bits
@pytest.mark.parametrize("metric", ["sqeuclidean", "unsigned", "inner"])
@pytest.mark.parametrize("keep", [True, False])
def test_8_bits_without_their_error_bound_would_prove_too_much(metric, keep):
    "Row prices a hair above the cheapest cost: a pass must see that, and sees it only because of the bound."
    X, Y = descriptors("normal", 500, 500, 300, seed=0)
    X[:5] *= 1e-4
    X[5:9] *= 200
    c = laid_out.prepared(laid_out.costs_of(X, Y, metric, keep=keep, int8=True))
    assert c.products.rough and c.products.held == keep
    at = c.layout
    v = torch.linspace(-0.1, 0.1, 500, dtype=torch.float64)
    true = costs(X, Y, metric)[at.rows][:, at.cols] * at.unit**2
    least = (true - v).amin(1)

    def proves_too_much():
        low, i, j, _ = price_block(c, v, least + 1e-6)
        low = torch.minimum(low, lowest_of(at.n, i, c.exact(i, j) - v[j]))
        return int((low > least + 1e-9).sum())

    assert proves_too_much() == 0
    c.products.side[0][:, :BOUND] = 0
    assert proves_too_much() > 10


@eight_bits
@pytest.mark.parametrize(
    "why",
    ["precision of the caller", "mixed types", "too long for float16", "too long for float32", "very many columns"],
)
def test_8_bits_in_corners(monkeypatch, why):
    X, Y = descriptors("normal", 300, 300, 140_000 if why == "very many columns" else 300, seed=0)
    if why == "very many columns":
        X, Y = X[:20], Y[:20]
    elif why == "mixed types":
        X, Y = X + 1e4, Y.double() + 1e4
    elif why.startswith("too long"):
        X[:3], Y[:3] = X[:3] * (1e3 if "float16" in why else 1e20), Y[:3] * 1e3
    before = torch.get_float32_matmul_precision()
    try:
        if why == "precision of the caller":
            torch.set_float32_matmul_precision("medium")
        a = assign(X, Y, int8=None if why == "very many columns" else True)
    finally:
        torch.set_float32_matmul_precision(before)
    close(a, X, Y, "sqeuclidean", None)


@pytest.mark.parametrize("machine", ["cannot", "can"])
def test_8_bits_are_refused_where_they_would_be_wrong(monkeypatch, machine):
    X, Y = descriptors("normal", 30, 30, 300, seed=0)
    monkeypatch.setattr(face, "int8_is_exact", lambda: machine == "can")
    monkeypatch.setattr(laid_out, "int8_is_fast", lambda: False)
    expected = assign(X, Y)
    if machine == "cannot":
        with pytest.raises(ValueError, match="no exact 8-bit products on this processor"):
            assign(X, Y, int8=True)
    assert expected.optimal


# SciPy's own cases (scipy/optimize/tests/test_linear_assignment.py), as inner products with unit vectors
@pytest.mark.parametrize(
    "cost, expected",
    [
        ([[400, 150, 400], [400, 450, 600], [300, 225, 300]], [150, 400, 300]),
        ([[400, 150, 400, 1], [400, 450, 600, 2], [300, 225, 300, 3]], [150, 2, 300]),
        ([[10, 10, 8], [9, 8, 1], [9, 7, 4]], [10, 1, 7]),
        ([[10, 10, 8, 11], [9, 8, 1, 1], [9, 7, 4, 10]], [10, 1, 4]),
    ],
)
@pytest.mark.parametrize("sign", (1, -1))
def test_cases_of_scipy(cost, expected, sign):
    cost = sign * torch.tensor(cost, dtype=torch.float64)
    for C in (cost, cost.T):
        a = assign(-C, torch.eye(C.shape[1], dtype=torch.float64), metric="inner")
        assert a.optimal and a.objective == pytest.approx(oracle(C))
        assert sign < 0 or a.objective == sum(expected)


def test_the_paths_of_a_gpu_give_the_same_answer(monkeypatch):
    "Dense sweeps, kept products and small tiles on the CPU: what CUDA does."
    X, Y = descriptors("normal", 700, 700, 64, seed=3)
    a, b, c = assign(X, Y), assign(X, Y, keep=True), assign(X, Y, keep=False)
    assert torch.equal(a.index, b.index) and torch.equal(a.index, c.index)
    settle = edges.settle
    monkeypatch.setattr(
        edges, "settle", lambda nodes, s, t, length, dense, meter: settle(nodes, s, t, length, True, meter)
    )
    assert torch.equal(assign(X, Y).index, a.index)


def test_running_out_of_gpu_memory_makes_tiles_smaller(monkeypatch):
    X, Y = descriptors("normal", 600, 600, 64, seed=4)
    seen, addmm = [], torch.addmm

    def small_only(*args, out=None, **kw):
        if out is not None and out.numel() > 600 * 32:
            seen.append(out.numel())
            raise torch.cuda.OutOfMemoryError("pretended")
        return addmm(*args, out=out, **kw) if out is not None else addmm(*args, **kw)

    def no_room(*args, out=None, **kw):
        raise torch.cuda.OutOfMemoryError("pretended")

    expected = assign(X, Y).index
    monkeypatch.setattr(torch, "addmm", small_only)
    monkeypatch.setattr(torch, "mm", no_room)
    monkeypatch.setattr(face, "SMALLEST_TILE", 2**10)
    a = assign(X, Y)
    assert seen and a.optimal and torch.equal(a.index, expected)


def test_the_same_input_gives_the_same_answer():
    X, Y = descriptors("few values", 300, 300, 6, seed=5)
    a, b = assign(X, Y), assign(X.clone(), Y.clone())
    assert torch.equal(a.index, b.index) and torch.equal(a.v, b.v) and a.bound == b.bound


def test_identical_rows_keep_their_order():
    X, Y = descriptors("normal", 60, 60, 5, seed=6)
    X[10:40], Y[20:50] = 0, 0
    index = assign(X, Y).index
    assert (index[10:40].diff() > 0).all()
    back = index.argsort()
    assert (back[20:50].diff() > 0).all()


@pytest.mark.parametrize("when", ["propose", "price", "soft"])
def test_ctrl_c_returns_the_best_so_far(monkeypatch, when):
    X, Y = descriptors("clusters", 400, 400, 40, seed=7)
    calls, original = [], getattr(search, when)

    def interrupted(*args, **kw):
        calls.append(1)
        if len(calls) == (1 if when == "soft" else 2):
            raise KeyboardInterrupt
        return original(*args, **kw)

    monkeypatch.setattr(search, when, interrupted)
    a = assign(X, Y)
    assert a.status == "interrupted" and not a.optimal
    assert sorted(a.index.tolist()) == list(range(400))
    assert verify(X, Y, a)["gap"] == pytest.approx(a.gap, rel=1e-6) and a.gap >= 0
    assert a.bound <= oracle(costs(X, Y, "sqeuclidean")) <= a.objective + 1e-9


def test_limits_return_an_honest_gap():
    X, Y = descriptors("clusters", 1500, 1500, 40, seed=8)
    a = assign(X, Y, time_limit=1e-9)
    assert a.status == "time limit" and a.gap > 0 and verify(X, Y, a)
    loose = assign(X, Y, tol=0.5)
    assert loose.status == "gap limit" and 0 <= loose.relative_gap <= 0.5 and verify(X, Y, loose)


def test_the_products_are_full_float32_whatever_was_set_before():
    X, Y = descriptors("normal", 300, 300, 64, seed=9)
    torch.set_float32_matmul_precision("medium")
    try:
        a = assign(X, Y)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert verify(X, Y, a)["relative_gap"] < 1e-9


X2, Y2 = torch.ones(3, 2), torch.ones(4, 2)


@pytest.mark.parametrize(
    "args, kw, error, says",
    [
        ((X2 * math.nan, Y2), {}, ValueError, "X"),
        ((X2, Y2 * math.inf), {}, ValueError, "Y"),
        ((X2, torch.ones(4, 3)), {}, ValueError, "cannot be compared"),
        ((X2[:0], Y2), {}, ValueError, "at least one row"),
        ((X2, Y2[:, :0]), {}, ValueError, "X|at least one"),
        ((X2.tolist(), Y2), {}, TypeError, "tensor"),
        ((X2.long(), Y2), {}, TypeError, "floating"),
        ((X2[0], Y2), {}, ValueError, "matrix"),
        ((X2, Y2), dict(reject=-1.0), ValueError, "reject"),
        ((X2, Y2), dict(reject=math.nan), ValueError, "reject"),
        ((X2, Y2), dict(reject="no"), ValueError, "reject"),
        ((X2, Y2), dict(metric="cosine"), ValueError, "metric"),
        ((X2, Y2), dict(tol=0), ValueError, "tol"),
        ((X2, Y2), dict(time_limit=-1), ValueError, "time_limit"),
        ((X2, Y2), dict(tol=math.nan), ValueError, "tol"),
    ],
)
def test_bad_input_is_named(args, kw, error, says):
    with pytest.raises(error, match=says):
        assign(*args, **kw)


def test_too_little_memory_says_how_much_is_needed(monkeypatch):
    X = torch.ones(2, 2)
    monkeypatch.setattr(
        face, "memory_needed", lambda n, m, D, keep=False, tile=0, extreme=False, made=False: 2**60 if keep else 10
    )
    with pytest.raises(MemoryError, match="GiB.*leave out keep=True"):
        assign(X, X, keep=True)
    monkeypatch.setattr(face, "memory_needed", lambda *a, **k: 2**60)
    with pytest.raises(MemoryError, match="GiB, this machine has"):
        assign(X, X)


def test_a_certificate_of_other_descriptors_is_rejected():
    X, Y = descriptors("normal", 50, 60, 8, seed=10)
    a = assign(X, Y)
    with pytest.raises(ValueError):
        verify(X, Y + 0.1, a)
    with pytest.raises(ValueError, match="must not be positive"):
        verify(X, Y, replace(a, v=a.v + 1, u=a.u - 1))


def test_time_limits_are_kept_and_other_inputs_work():
    X, Y = descriptors("tight clusters", 300, 300, 33, seed=2)
    assert assign(X, Y).optimal
    parameter = torch.nn.Parameter(X)
    assert torch.equal(assign(parameter, Y).index, assign(X, Y).index) and verify(parameter, Y, assign(X, Y))
    for dtype in (torch.float16, torch.bfloat16):
        close(assign(X.to(dtype), Y.to(dtype)), X.to(dtype), Y.to(dtype), "sqeuclidean", None)
    close(assign(X, Y, reject=math.inf), X, Y, "sqeuclidean", None)
    with pytest.raises(ValueError, match="leave the range of float64"):
        assign(X.double() * 1e160, Y.double())
