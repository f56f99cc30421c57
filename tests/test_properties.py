"""Properties that must hold for any SAE, and oracles that share no code with the package."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from saematch import SAE, compose, descriptors, fold, match, permute, planted, random_sae, rescale
from saematch.lap.metric import cost_matrix
from saematch.matching.baselines import METHODS
from saematch.matching.match import Match
from saematch.saes.gauge import absorb_b_dec, comparable
from saematch.saes.sae import LATENT

sizes = dict(d_model=st.integers(1, 9), d_sae=st.integers(1, 12), seed=st.integers(0, 10_000))
saes = st.builds(random_sae, **sizes, apply_b_dec_to_input=st.booleans())
settings.register_profile("house", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("house")


def inputs(sae, seed=0):
    return 3 * torch.randn(40, sae.d_model, dtype=sae.dtype, generator=torch.Generator().manual_seed(seed))


def normal(n, seed):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(saes, st.integers(0, 1000), st.floats(-3, 3))
def test_function_survives_any_change_of_names_and_units(sae, seed, spread):
    index = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(seed))
    scale = (spread * normal(sae.d_sae, seed)).exp()
    x = inputs(sae)
    for other in (
        permute(sae, index),
        rescale(sae, scale),
        fold(sae),
        absorb_b_dec(sae),
        fold(rescale(permute(sae, index), scale)),
    ):
        assert_close(other.decode(other.encode(x)), sae.decode(sae.encode(x)), rtol=1e-10, atol=1e-10)


@given(saes, st.integers(0, 1000), st.sampled_from(["threshold", "decoder", "encoder", "none"]), st.booleans())
def test_a_comparable_pair_computes_what_the_saes_compute_in_its_units(sae, seed, gauge, flag):
    other = random_sae(sae.d_model, sae.d_sae + 1, seed=seed, apply_b_dec_to_input=flag)
    pair, x = comparable(sae, other, fold=gauge), inputs(sae)
    assert pair.gauge == gauge and pair.a.apply_b_dec_to_input == pair.b.apply_b_dec_to_input
    for before, after, unit in ((sae, pair.a, pair.units[0]), (other, pair.b, pair.units[1])):
        assert_close(after.encode(x) * unit, before.encode(x), rtol=1e-9, atol=1e-9)
        assert_close(after.reconstruct(x), before.reconstruct(x), rtol=1e-9, atol=1e-9)


@given(saes, st.integers(0, 1000))
def test_permute_and_rescale_undo_themselves(sae, seed):
    index = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(seed))
    scale = normal(sae.d_sae, seed).exp()
    back = rescale(rescale(permute(permute(sae, index), index.argsort()), scale), 1 / scale)
    for name, p in sae.parameters().items():
        assert_close(back.parameters()[name], p, rtol=1e-12, atol=1e-12)


@given(saes)
def test_folding_is_idempotent_and_thresholds_are_exactly_one(sae):
    once, twice = fold(sae), fold(fold(sae))
    assert torch.equal(once.threshold, torch.ones_like(once.threshold))
    assert all(torch.equal(p, twice.parameters()[name]) for name, p in once.parameters().items())


@pytest.mark.parametrize("forgotten", list(LATENT))
def test_dropping_a_row_of_the_table_is_noticed(forgotten, monkeypatch):
    sae = random_sae()
    x = inputs(sae)
    monkeypatch.delitem(LATENT, forgotten)
    other = rescale(sae, normal(sae.d_sae, 3).exp())
    assert not torch.allclose(other.decode(other.encode(x)), sae.decode(sae.encode(x)), atol=1e-3)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_dense_is_optimal_by_trying_all(n, m, d, seed, ties):
    a, b = random_sae(d, n, seed=seed), random_sae(d, m, seed=seed + 1)
    X, Y = descriptors(a, b)
    cost = cost_matrix(X, Y).round() if ties else cost_matrix(X, Y)
    index = METHODS["dense"](cost)
    total = cost[torch.arange(n), index][index >= 0].sum()
    short, long = (cost, m) if n <= m else (cost.T, n)
    best = min(sum(short[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(long), min(n, m)))
    assert (index >= 0).sum() == min(n, m)
    assert abs(total - best) < 1e-9


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 10_000))
def test_matching_by_the_bias_is_optimal_although_it_only_sorts(n, d, seed):
    a, b = random_sae(d, n, seed=seed), random_sae(d, n, seed=seed + 1)
    m = match(a, b, weights="bias")
    cost = cost_matrix(*descriptors(a, b, weights="bias"))
    assert abs(m.objective - cost[torch.arange(n), METHODS["dense"](cost)].sum()) < 1e-9


@given(st.integers(3, 20), st.integers(0, 10_000), st.sampled_from(["dense", "greedy", "mutual"]))
def test_renaming_latents_renames_the_match(n, seed, method):
    """Relabel A by p and B by q: the match must follow, p(i) to q(match(i))."""
    a, b = random_sae(7, n, seed=seed), random_sae(7, n, seed=seed + 1)
    p, q = (torch.randperm(n, generator=torch.Generator().manual_seed(seed + k)) for k in (2, 3))
    before, after = match(a, b, method=method).index, match(a.permute(p), b.permute(q), method=method).index
    expected = torch.full((n,), -1)
    expected[p] = torch.where(before >= 0, q[before.clamp(min=0)], -1)
    assert torch.equal(after, expected)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_composition_is_associative_and_inverts(n, m, k, seed):
    g = torch.Generator().manual_seed(seed)

    def some(rows, columns):
        index = torch.full((rows,), -1)
        count = int(torch.randint(0, min(rows, columns) + 1, (1,), generator=g))
        index[torch.randperm(rows, generator=g)[:count]] = torch.randperm(columns, generator=g)[:count]
        return Match(index, columns, torch.zeros(rows))

    ab, bc, cd = some(n, m), some(m, k), some(k, n)
    assert torch.equal(compose(compose(ab, bc), cd).index, compose(ab, compose(bc, cd)).index)
    assert torch.equal(compose(ab, bc, cd).index, compose(compose(ab, bc), cd).index)
    assert torch.equal(compose(ab, bc).inverse().index, compose(bc.inverse(), ab.inverse()).index)
    for i, j in enumerate(ab.index.tolist()):  # by hand
        assert compose(ab, bc).index[i] == (-1 if j < 0 else bc.index[j])


@given(st.integers(2, 30), st.integers(0, 10_000))
def test_scatter_carries_what_permute_carries(n, seed):
    sae = random_sae(5, n, seed=seed)
    exact = lambda p: (p * 2**10).round() / 2**10  # sums of such numbers are exact, in whichever order they are added
    sae, x = SAE(**{name: exact(p) for name, p in sae.parameters().items()}), exact(inputs(sae))
    index = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    f = sae.encode(x)
    assert torch.equal(Match(index, n, torch.zeros(n)).scatter(f), sae.permute(index).encode(x))


@given(st.integers(2, 40), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 1000))
def test_planted_truth_is_one_to_one_and_has_the_shares(n, replaced, dead, seed):
    b, truth = planted(random_sae(6, n, seed=seed), replaced=replaced, dead=dead, seed=seed)
    kept = truth[truth >= 0]
    assert kept.unique().numel() == len(kept) and abs((n - len(kept)) - n * (replaced + dead)) <= 1
    x = inputs(b)
    silent = ((b.encode(x) > 0).sum(0) == 0).sum()
    assert silent >= round(n * (replaced + dead)) - round(n * replaced)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions_match_like_float64(dtype):
    a = random_sae(32, 60, seed=0)
    b, truth = planted(a, decoder_noise=0.3, encoder_noise=0.3, seed=1)
    m = match(a.to(dtype), b.to(dtype))
    assert torch.equal(m.index, truth) and m.cost.dtype == torch.float64


def test_latents_of_other_units_and_flags_still_match():
    a = random_sae(32, 60, seed=0, apply_b_dec_to_input=True)
    b, truth = planted(a, decoder_noise=0.3, encoder_noise=0.3, seed=1)
    assert torch.equal(match(a, absorb_b_dec(b)).index, truth), "one SAE with the flag, one without"
    assert torch.equal(match(rescale(a, normal(60, 1).exp()), b).index, truth)


def test_nothing_changes_its_input():
    sae = random_sae()
    before = {k: p.clone() for k, p in sae.parameters().items()}
    (
        fold(sae),
        permute(sae, torch.arange(64).flip(0)),
        rescale(sae, 2.0),
        planted(sae, replaced=0.2, dead=0.2),
        match(sae, sae),
    )
    assert all(torch.equal(p, before[k]) for k, p in sae.parameters().items())
    with pytest.raises(AttributeError):
        sae.W_enc = before["W_enc"]
    assert isinstance(sae, SAE)
