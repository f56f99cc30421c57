"""Scores against a dense recomputation, slack against the matches that forbidding a pair leaves,
p-values and false discoveries where the truth is known.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import false_discovery_control, kstest
from torch.testing import assert_close

from saematch import SAE, Match, compose, load_suite, match, planted, random_sae
from saematch.judging.calibrate import benjamini_hochberg, calibrate, null_scores, p_values
from saematch.judging.nulls import NULLS, null, planted_from, precision_recall, principal_axes
from saematch.judging.scores import SCORES, neighbours, pair_scores
from saematch.lap.assign import assign
from saematch.lap.metric import cost_matrix
from saematch.matching.baselines import METHODS
from saematch.matching.descriptors import descriptors


def whole(C, index, x=None, y=None):
    """The scores but slack from the whole matrix, one latent at a time."""
    rows = []
    for i, j in enumerate(index.tolist()):
        if j < 0:
            rows.append((np.nan,) * 4)
            continue
        row, column, d = np.delete(C[i], j), np.delete(C[:, j], i), C[i, j]
        rows.append((d, (row < d - 1e-9).sum(), (column < d - 1e-9).sum(), min([*row, *column, np.inf]) - d))
    return dict(zip(("distance", "rank_row", "rank_column", "margin"), np.array(rows, dtype=float).T))


def same(scores, expected, atol=1e-8):
    for name, values in expected.items():
        np.testing.assert_allclose(np.asarray(scores[name]), values, atol=atol, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("widths", [(30, 30), (30, 21), (21, 30), (1, 1), (1, 7), (7, 1)], ids=str)
@pytest.mark.parametrize("tile", [1, 64, 2**22])
def test_scores_of_every_method_and_width(method, widths, tile):
    a, b = random_sae(5, widths[0], seed=1), random_sae(5, widths[1], seed=2)
    m, (X, Y) = match(a, b, method=method), descriptors(a, b)
    s = pair_scores(a, b, m, tile=tile)
    same(s, whole(cost_matrix(X, Y).numpy(), m.index))
    cosine = torch.cosine_similarity(X, Y[m.index], dim=1).masked_fill(~m.matched, float("nan"))
    same(s, dict(cosine=cosine.numpy()))
    assert list(s.columns) == ["latent_a", "latent_b", *SCORES] and s.slack.isna().all() == (method != "exact")
    assert (s.latent_b == m.index.numpy()).all() and s[list(SCORES)].drop(columns="slack").isna().any(axis=1).equals(
        s.latent_b < 0
    )


def test_ties_and_copies_are_no_nearer():
    a = random_sae(5, 12, seed=1).select(torch.tensor([0, 1, 2, 3] * 3))
    m = match(a, a, dead="keep")
    s = pair_scores(a, a, m)
    assert (
        (s[["distance", "rank_row", "rank_column"]].abs() < 1e-12).all(axis=None)
        and (s.margin.abs() < 1e-9).all()
        and (s.slack.abs() < 1e-9).all()
    )
    far = SAE(
        **{k: p + (1e4 if k == "W_dec" else 0) for k, p in a.parameters().items()}
    )  # a common offset that eats digits
    s = pair_scores(far, far, match(far, far, dead="keep", fold=False))
    assert (s[["rank_row", "rank_column"]] == 0).all(axis=None)


def test_unsigned_and_other_metrics():
    a, b = (random_sae(6, 15, seed=k, activation="abstopk", k=3) for k in (1, 2))
    m, (X, Y) = match(a, b), descriptors(a, b)
    s = pair_scores(a, b, m)
    same(s, whole(cost_matrix(X, Y, unsigned=True).numpy(), m.index))
    assert_close(torch.from_numpy(s.cosine.to_numpy(copy=True)), torch.cosine_similarity(X, Y[m.index], dim=1).abs())
    a, b = random_sae(6, 15, seed=1), random_sae(6, 15, seed=2)
    for options in (
        dict(metric="cosine"),
        dict(fold=False),
        dict(weights="decoder"),
        dict(weights={"encoder": 2, "bias": 0.5}, balance="block"),
    ):
        m = match(a, b, **options)
        same(pair_scores(a, b, m), whole(cost_matrix(*descriptors(a, b, **options)).numpy(), m.index))
    other = pair_scores(a, b, match(a, b), weights="decoder")
    same(other, whole(cost_matrix(*descriptors(a, b, weights="decoder")).numpy(), match(a, b).index))
    assert other.slack.isna().all(), "the prices belong to other costs"


@pytest.mark.parametrize(
    "widths, reject",
    [
        ((20, 20), None),
        ((14, 20), None),
        ((20, 14), None),
        ((20, 20), 9.0),
        ((14, 20), 9.0),
        ((20, 14), 9.0),
        ((12, 12), 2.0),
    ],
    ids=str,
)
def test_slack_never_exceeds_what_forbidding_the_pair_costs(widths, reject):
    g = torch.Generator().manual_seed(sum(widths))
    X, Y = (torch.randn(n, 4, generator=g, dtype=torch.float64) for n in widths)
    proof = assign(X, Y, reject=reject)
    C, small = cost_matrix(X, Y).numpy(), min(widths)

    def best(C):  # staying unmatched: a column (row) of its own for each latent of the smaller side
        C = C if C.shape[0] <= C.shape[1] else C.T
        C = C if reject is None else np.hstack([C, np.full((small, small), reject)])
        return C[linear_sum_assignment(C)].sum()

    assert abs(best(C) - proof.objective) < 1e-8
    for p in (proof, proof.inverse()):
        D, s = (C, neighbours(X, Y, p.index, proof=p)) if p is proof else (C.T, neighbours(Y, X, p.index, proof=p))
        for i, j in enumerate(p.index.tolist()):
            if j >= 0:
                forbidden = D.copy()
                forbidden[i, j] = 1e6
                assert -1e-12 <= s["slack"][i] <= best(forbidden) - proof.objective + 1e-8, (i, j)
            else:
                assert s["slack"][i].isnan()


def test_latents_left_out_are_no_candidates():
    a, b = random_sae(5, 20, seed=1), random_sae(5, 20, seed=2)
    kill = lambda s, which: SAE(**{**s.parameters(), "W_dec": s.W_dec.index_fill(0, torch.tensor(which), 0.0)})
    a, b = kill(a, [0, 7]), kill(b, [3])
    m = match(a, b, dead="exclude")
    rows, columns = (torch.tensor([i for i in range(20) if i not in gone]) for gone in ([0, 7], [3]))
    s = pair_scores(a, b, m)
    position = {c: k for k, c in enumerate(columns.tolist())}
    inner = torch.tensor([position[j] if j >= 0 else -1 for j in m.index[rows].tolist()])
    same(s.iloc[rows.tolist()], whole(cost_matrix(*descriptors(a.select(rows), b.select(columns))).numpy(), inner))
    assert s.iloc[[0, 7]].distance.isna().all() and s.slack.notna().sum() == m.matched.sum()
    assert not calibrate(a, b, m, null="rotation").real()[[0, 7]].any()
    with pytest.raises(ValueError, match=r"left out \[5, 1\] dead latents, but \[2, 1\] are found"):
        pair_scores(a, b, Match(m.index, 20, m.cost, {**m.info, "excluded": [5, 1]}))


def test_memory_does_not_grow_with_the_square():
    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.largest = max(self.largest, out.numel())
            return out

    g = torch.Generator().manual_seed(0)
    X, Y = torch.randn(3000, 8, generator=g), torch.randn(3000, 8, generator=g)
    with Watch() as seen:
        neighbours(X, Y, torch.randperm(3000, generator=g), tile=2**16)
    assert seen.largest <= 2**16


@pytest.mark.parametrize("kind", NULLS)
def test_a_null_keeps_what_the_table_says(kind):
    b = random_sae(10, 400, seed=0)
    b = SAE(
        **{
            **b.parameters(),
            "W_dec": b.W_dec + torch.tensor([2.0] + [0.0] * 9),
            "W_enc": b.W_enc * torch.linspace(0.2, 2, 10)[:, None].double(),
        }
    )
    b0, cosine = null(b, kind, seed=3), lambda s: torch.nn.functional.normalize(s.W_dec, dim=1)
    assert_close(b0.W_dec.norm(dim=1), b.W_dec.norm(dim=1)), assert_close(b0.W_enc.norm(dim=0), b.W_enc.norm(dim=0))
    assert torch.equal(b0.b_enc, b.b_enc) and torch.equal(b0.threshold, b.threshold) and b0.dtype == b.dtype
    R, R0 = cosine(b), cosine(b0)
    if kind != "latents":
        assert_close(R0 @ R0.T, R @ R.T), assert_close((b0.W_enc * b0.W_dec.T).sum(0), (b.W_enc * b.W_dec.T).sum(0))
    mean_kept = torch.cosine_similarity(R.mean(0), R0.mean(0), dim=0)
    assert (mean_kept > 0.99) == (kind in ("signs", "latents"))
    if kind == "signs":
        U, has_mean = principal_axes(b.W_dec)
        moment = lambda R: U.T @ (R.T @ R) @ U
        assert (
            has_mean
            and torch.allclose(R.mean(0), R0.mean(0))
            and torch.allclose(moment(R).diagonal(), moment(R0).diagonal())
        )
    assert (R * R0).sum(1).abs().mean() < 0.95


def test_axes_of_rows_without_a_mean_and_of_few_rows():
    x = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for rows, expected in ((torch.cat([x, -x]), False), (x, True), (x[:1], True)):
        U, has_mean = principal_axes(rows)
        assert has_mean == expected and torch.allclose(U.T @ U, torch.eye(7, dtype=torch.float64))
        if expected:
            mean = torch.nn.functional.normalize(rows, dim=1).mean(0)
            assert abs(torch.cosine_similarity(U[:, 0], mean, dim=0).abs() - 1) < 1e-9


def test_transcoders_get_a_map_for_either_side():
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    t = SAE(normal(6, 20), normal(20), normal(20, 9), normal(9), normal(20).exp(), transcoder=True, W_skip=normal(9, 6))
    x = normal(11, 6)
    for kind in ("rotation", "coordinates", "signs"):
        t0 = null(t, kind, 1)
        into = torch.linalg.lstsq(t.W_enc.T, t0.W_enc.T).solution
        assert_close(t0.encode(x @ into), t.encode(x))
        assert_close(
            torch.cdist(t0.reconstruct(x @ into), t0.reconstruct(x @ into)),
            torch.cdist(t.reconstruct(x), t.reconstruct(x)),
        )
    assert null(t, "latents", 1).W_dec.shape == t.W_dec.shape


def test_p_values_by_hand_and_against_numpy():
    rng = np.random.default_rng(0)
    s, s0 = rng.normal(size=50).round(1), rng.normal(size=80).round(1)  # ties
    assert_close(p_values(s, s0), torch.tensor([(1 + (s0 >= x).sum()) / 81 for x in s], dtype=torch.float64))
    assert p_values([1.0], []).tolist() == [1.0] and p_values([float("inf"), -float("inf")], [0.0]).tolist() == [
        0.5,
        1.0,
    ]


def test_adjusted_is_scipys_without_the_unmatched():
    rng = np.random.default_rng(1)
    p = rng.uniform(size=200) ** 2
    p[rng.uniform(size=200) < 0.2] = np.nan
    for method in ("bh", "by"):
        expected = p.copy()
        expected[~np.isnan(p)] = false_discovery_control(p[~np.isnan(p)], method=method)
        np.testing.assert_allclose(benjamini_hochberg(p, method).numpy(), expected)
    known, q = np.sort(p[~np.isnan(p)]), 0.1
    below = np.nonzero(known <= q * np.arange(1, len(known) + 1) / len(known))[0]
    assert (benjamini_hochberg(p) <= q).sum() == (below[-1] + 1 if len(below) else 0), "the step-up rule itself"
    with pytest.raises(ValueError, match="'bh' or 'by'"):
        benjamini_hochberg(p, "bonferroni")


@pytest.mark.parametrize("kind", ["rotation", "coordinates", "signs", "latents"])
@pytest.mark.parametrize("score", ["distance", "cosine", "margin", "slack"])
def test_p_values_are_uniform_where_the_null_is_true(kind, score):
    "SAEs that have nothing to do with each other, on the isotropic toy, where every null is the right one."
    ps = torch.cat(
        [
            calibrate(
                random_sae(24, 250, seed=2 * k),
                random_sae(24, 250, seed=2 * k + 1),
                null=kind,
                score=score,
                repeats=4,
                seed=k,
            ).p(kind)
            for k in range(4)
        ]
    )
    assert abs((ps <= 0.05).double().mean() - 0.05) < 0.03 and abs(ps.mean() - 0.5) < 0.05
    assert kstest(ps.numpy(), "uniform").statistic < 0.08


@pytest.mark.parametrize("method", ["exact", "greedy", "mutual", "identity", "random"])
def test_nothing_is_called_real_of_a_match_with_the_null_itself(method):
    a, b = random_sae(24, 300, seed=0), null(random_sae(24, 300, seed=1), "rotation", 77)
    c = calibrate(a, b, method=method, null="rotation", repeats=2)
    assert c.real().double().mean() < 0.02 and c.given.info["method"] == method


@pytest.mark.parametrize("score", ["cosine", "margin", "slack"])
def test_false_discoveries_on_the_isotropic_toy_stay_below_q(score):
    a, said = random_sae(48, 400, seed=0), []
    for seed in range(5):
        b, truth = planted(a, decoder_noise=1.0, encoder_noise=1.0, replaced=0.5, seed=seed)
        m = match(a, b)
        for kind in ("rotation", "signs"):
            said.append(
                precision_recall(calibrate(a, b, m, null=kind, score=score, q=0.1, seed=seed).match().index, truth)
            )
    assert np.mean([s["fdp"] for s in said]) <= 0.1 and np.mean([s["recall"] for s in said]) > 0.5


def test_on_latents_of_a_real_sae_the_defaults_hold_the_level_and_rotation_does_not():
    said, suite = {}, load_suite("smollm2-135m-resid")
    for seed in range(4):
        a, b, truth = planted_from(suite[15 + seed].select(torch.arange(800)), noise=1.2, seed=seed)
        c = calibrate(a, b, q=0.05, seed=seed)
        for score in ("cosine", "margin", "slack"):
            for kind in (None, "rotation", "signs"):
                said.setdefault((kind, score), []).append(precision_recall(c.by(score).match(kind).index, truth))
    fdr = {k: np.mean([x["fdp"] for x in v]) for k, v in said.items()}
    assert fdr["rotation", "cosine"] > 0.2, "the negative finding that judging/04_calibrate tells of"
    assert (
        max(fdr[None, s] for s in ("margin", "slack")) <= 0.05
        and max(v for (k, _), v in fdr.items() if k != "rotation") <= 0.1
    )
    assert min(x["recall"] for v in said.values() for x in v) > 0.9


def test_planted_from_is_what_it_says():
    s = load_suite("smollm2-135m-resid")[14].select(torch.arange(400))
    a, b, truth = planted_from(s, noise=1.0, replaced=0.25, seed=2)
    has = truth >= 0
    assert (len(truth), int(has.sum()), a.d_sae, b.d_sae) == (200, 150, 200, 200) and truth[has].unique().numel() == 150
    (
        assert_close(b.W_dec[truth[has]].norm(dim=1), a.W_dec[has].norm(dim=1)),
        assert_close(b.W_enc[:, truth[has]].norm(dim=0), a.W_enc[:, has].norm(dim=0)),
    )
    cosine = torch.cosine_similarity(b.W_dec[truth[has]], a.W_dec[has], dim=1)
    assert abs(cosine.mean() - 0.5**0.5) < 0.03
    others = torch.ones(200, dtype=torch.bool).index_fill(0, truth[has], False)
    assert torch.cdist(b.W_dec[others], a.W_dec).min() > 0
    again = planted_from(s, noise=1.0, replaced=0.25, seed=2)
    assert torch.equal(again.b.W_dec, b.W_dec) and torch.equal(again.truth, truth)


def test_halves_and_pairs():
    a, b = random_sae(12, 31, seed=0), random_sae(12, 30, seed=1)
    assert (
        len(null_scores(a, b, "halves")) == 15
        and len(null_scores(a, b, "pairs")) == 31
        and null_scores(a, b, "pairs").cosine.notna().sum() == 30
    )
    assert not null_scores(a, b, "pairs", seed=1).equals(null_scores(a, b, "pairs", seed=2))
    c = calibrate(a, b, null=("halves", "pairs"), repeats=3)
    assert len(c.nulls["halves"]) == 45 and len(c.nulls["pairs"]) == 93 and c.summary().loc["pairs", "null pairs"] == 90
    with pytest.raises(ValueError, match="no two halves"):
        calibrate(a, random_sae(12, 1), null="halves")


def test_the_filtered_match_can_be_saved_inverted_and_calibrated_again(tmp_path):
    a = random_sae(16, 80, seed=0)
    b = planted(a, replaced=0.3, seed=1).sae
    c = calibrate(a, b, null="rotation", score="cosine")
    m = c.match()
    m.save(tmp_path / "m.safetensors")
    back = Match.load(tmp_path / "m.safetensors")
    assert torch.equal(back.index, m.index) and back.info["calibrated"]["nulls"] == ["rotation"]
    assert torch.equal(m.inverse().inverse().index, m.index) and pair_scores(a, b, m).slack.notna().equals(
        pair_scores(a, b, m).latent_b >= 0
    )
    assert_close(
        torch.from_numpy(pair_scores(b, a, c.given.inverse()).slack.to_numpy(copy=True))[c.given.index],
        torch.from_numpy(c.scores.slack.to_numpy(copy=True)),
    )


def test_bad_input_is_named():
    a, b = random_sae(6, 20, seed=0), random_sae(6, 20, seed=1)
    m = match(a, b)
    for options, says in [
        (
            dict(null="rotations"),
            "a null must be one of rotation, coordinates, signs, latents, halves, pairs, not 'rotations'",
        ),
        (dict(null=()), "a null must be one of"),
        (dict(repeats=0), "a whole number from 1, not 0"),
        (dict(repeats=1.5), "a whole number"),
        (dict(q=0), "between 0 and 1, not 0"),
        (dict(q=1.0), "between 0 and 1"),
        (dict(score="p"), "score must be one of distance"),
        (dict(correction="fdr"), "'bh' or 'by'"),
        (dict(fold=False), "made with fold=True, not False"),
        (dict(score="slack", null="pairs"), "the slack needs the prices"),
    ]:
        with pytest.raises(ValueError, match=says):
            calibrate(a, b, m, **options)
    with pytest.raises(ValueError, match="does not say how that was"):
        calibrate(a, b, compose(m, match(b, b)))
    with pytest.raises(ValueError, match="a match of other SAEs"):
        calibrate(a, random_sae(6, 20, seed=9), m)
    with pytest.raises(ValueError, match="the other way round"):
        pair_scores(a, random_sae(6, 21), match(random_sae(6, 21), a))
    with pytest.raises(ValueError, match="it makes no SAE"):
        null(b, "halves")


def test_an_explicit_method_lets_a_given_index_be_calibrated():
    a = random_sae(12, 60, seed=0)
    b, truth = planted(a, decoder_noise=0.3, encoder_noise=0.3, seed=1)
    given = Match(truth, 60, torch.full((60,), float("nan"), dtype=torch.float64))
    assert calibrate(a, b, given, null="pairs", method="identity").real().double().mean() > 0.9
