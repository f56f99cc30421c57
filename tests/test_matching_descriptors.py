# Written from nbs/matching/02_descriptors.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.descriptors import (
    describe,
    descriptors,
    block_shares,
    described,
    given_rows,
    function_name,
    narrowed,
)


import warnings
from dataclasses import replace

from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.lap.metric import check_memory, cost_matrix, pair_cost, random_pair_cost
from saematch.saes.gauge import comparable
from saematch.saes.sae import rescale
from saematch.saes.toys import planted, random_sae


def test_plain_sum_is_equation_3():
    from saematch.saes.gauge import fold

    a, b = random_sae(6, 9, seed=1), random_sae(6, 8, seed=2)
    X, Y = descriptors(a, b)
    assert X.shape == (9, 13) and Y.shape == (8, 13)
    fa, fb = fold(a), fold(b)
    by_hand = torch.stack(
        [
            torch.stack(
                [
                    (fa.W_enc[:, i] - fb.W_enc[:, j]).square().sum()
                    + (fa.W_dec[i] - fb.W_dec[j]).square().sum()
                    + (fa.b_enc[i] - fb.b_enc[j]).square()
                    for j in range(8)
                ]
            )
            for i in range(9)
        ]
    )
    assert_close(cost_matrix(X, Y), by_hand)
    weighted = cost_matrix(*descriptors(a, b, weights={"decoder": 2.0, "encoder": 0.5}))
    parts = {w: cost_matrix(*descriptors(a, b, weights=w)) for w in ("decoder", "encoder", "bias")}
    assert_close(weighted, 2 * parts["decoder"] + 0.5 * parts["encoder"])
    assert_close(cost_matrix(X, Y), sum(parts.values()))
    by_hand[0, :3]


def test_folded_descriptors_forget_the_units_and_unfolded_ones_do_not():
    a, b = random_sae(6, 9, seed=1), random_sae(6, 9, seed=2)
    units = (torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).exp()
    for folded in (True, False):
        same = torch.allclose(descriptors(rescale(a, units), b, fold=folded)[0], descriptors(a, b, fold=folded)[0])
        assert same is folded
    X, _ = descriptors(a, b, metric="cosine")
    assert_close(X.norm(dim=1), torch.ones(9, dtype=X.dtype))
    units


def test_one_enormous_row_does_not_spoil_the_others():
    a = random_sae(32, 60, seed=0)
    b, truth = planted(a, decoder_noise=1.2, encoder_noise=1.2, seed=1)
    tiny = replace(b, threshold=b.threshold.index_fill(0, truth[:1], 1e-10))
    X, Y = descriptors(a, tiny)
    by_hand = (X[:, None] - Y[None]).square().sum(-1)
    others = torch.arange(60) != truth[0]
    assert_close(cost_matrix(X, Y)[:, others], by_hand[:, others], rtol=1e-9, atol=1e-9)
    by_hand.max()


def test_balanced_descriptors_do_not_depend_on_the_units_of_the_hidden_states():
    a, b = random_sae(6, 9, seed=1), random_sae(6, 9, seed=2)
    in_units = lambda sae, c: replace(sae, W_enc=sae.W_enc / c, W_dec=sae.W_dec * c, b_dec=sae.b_dec * c)
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert_close(in_units(a, 10).encode(10 * x), a.encode(x))
    for balance, same in (("sum", False), ("entry", True), ("block", True)):
        change = (
            (
                cost_matrix(*descriptors(in_units(a, 10), in_units(b, 10), balance=balance))
                - cost_matrix(*descriptors(a, b, balance=balance))
            )
            .abs()
            .max()
        )
        assert bool(change < 1e-9) is same
    assert_close(torch.tensor(list(block_shares(a, b, balance="entry").values())), torch.tensor([6, 6, 1]) / 13)
    assert_close(torch.tensor(list(block_shares(a, b, balance="block").values())), torch.ones(3) / 3)


def test_saes_of_differently_normalised_hidden_states():
    a = random_sae(16, 60)
    b, truth = planted(a, decoder_noise=0.8, encoder_noise=0.8, seed=1)
    small = replace(b, W_enc=b.W_enc * 30, W_dec=b.W_dec / 30, b_dec=b.b_dec / 30, normalize="constant_norm_rescale")
    both, found = dict(encoder=1, decoder=1), {}


    def true_over_random(b, **how):
        X, Y = descriptors(a, b, **how)
        return (pair_cost(X, Y, truth).mean() / random_pair_cost(X, Y)).item()


    for how, fair in (
        (dict(), False),
        (dict(fold=False), False),
        (dict(balance="entry"), False),
        (dict(weights="decoder"), False),
        (dict(fold="decoder"), False),
        (dict(weights=both, fold="decoder"), True),
        (dict(weights="encoder", metric="cosine"), True),
        (dict(weights="bias"), True),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found[str(how)] = dict(plain=true_over_random(b, **how), normalised=true_over_random(small, **how))
        assert len(said) == (0 if fair else 1)
        assert (
            fair
            or "A reads hidden states as they are and B reads hidden states normalised by constant_norm_rescale"
            in str(said[0].message)
        )
        assert (abs(found[str(how)]["normalised"] - found[str(how)]["plain"]) < 1e-9) is fair
    assert found["{}"]["plain"] < 0.5 and found["{}"]["normalised"] > 0.95
    found


def test_rows_made_from_half_precision_are_those_of_float32():
    a, b = (random_sae(16, 40, seed=k, dtype=torch.bfloat16) for k in (0, 1))
    every = torch.arange(40)
    for how in (dict(), dict(weights="decoder", metric="cosine"), dict(weights=dict(encoder=2.0, bias=0.5))):
        X, Y = descriptors(a.to(torch.float32), b.to(torch.float32), **how)
        gauge, x, y = described(a, b, (every, every), **how)
        assert gauge == "threshold" and torch.equal(x[:], X) and torch.equal(y[3:9], Y[3:9])
    bfloat16 = descriptors(a, b)[0].float() - descriptors(a.to(torch.float32), b.to(torch.float32))[0]
    print(f"folded in bfloat16, numbers would be off by up to {bfloat16.abs().max():.3f}")


def test_narrow_rows_keep_their_distances():
    g = torch.Generator().manual_seed(0)
    rows = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    to_many = rows(24, 3000)
    X, Y = rows(200, 24) @ to_many, rows(150, 24) @ to_many
    x, y = narrowed(X, Y)
    assert x.shape == (200, 24) and torch.allclose(torch.cdist(x, y), torch.cdist(X, Y), rtol=1e-7)
    full = rows(1000, 3000), rows(900, 3000)
    assert all(new is old for new, old in zip(narrowed(*full), full)), "there is no smaller space"
    X[7] += rows(3000)
    x, y = narrowed(X, Y)
    assert x.shape[1] in (25, 3000) and torch.allclose(torch.cdist(x, y), torch.cdist(X, Y), rtol=1e-7), (
        "one row of another kind"
    )
    assert narrowed(X[:, :2000], Y[:, :2000])[0].shape[1] == 2000, "narrow enough"
    list(x.shape)


def test_rows_of_ones_own_are_checked():
    pair = comparable(random_sae(6, 9, seed=1), random_sae(6, 8, seed=2))
    X, Y = given_rows(pair, lambda sae: sae.W_dec)
    assert torch.equal(X, describe(pair, weights="decoder")[0]) and torch.equal(Y, describe(pair, weights="decoder")[1])
    assert torch.allclose(given_rows(pair, (X, Y), "cosine")[0].norm(dim=1), torch.ones(9, dtype=X.dtype))
    for wrong, error, said in (
        ("decoder", TypeError, "rows must be a function of an SAE, or two tables"),
        (lambda sae: sae.W_dec.T, ValueError, "returned for A must be a tensor of floats [9, k]"),
        (lambda sae: sae.W_dec.T, ValueError, "the table that the lambda of rows="),
        (lambda sae: None, ValueError, "not NoneType"),
        ((X, Y[:, :3]), ValueError, "rows of A have 6 columns, rows of B 3"),
        ((X * float("nan"), Y), ValueError, "the table of A has 54 NaN"),
        (lambda sae: sae.W_dec / 0, ValueError, "returned for A has 0 NaN and 54 infinite"),
    ):
        with expect_fail(error, said):
            given_rows(pair, wrong)
    written = eval(compile("lambda sae: None", torch.__file__, "eval"))  # as if it stood in a file
    assert function_name(written) == "the lambda of rows= (__init__.py:1)" and function_name(describe) == "describe"
    assert function_name(eval("lambda sae: None")) == "the lambda of rows="


def test_wrong_questions_get_an_answer():
    a = random_sae(6, 9, seed=1)
    with expect_fail(ValueError, "d_model is 6 in A and 5 in B"):
        descriptors(a, random_sae(5, 9))
    with expect_fail(TypeError, "B must be a saematch SAE, it is Tensor"):
        descriptors(a, a.W_enc)
    with expect_fail(ValueError, "weights must be 'all', one of encoder, decoder, bias"):
        descriptors(a, a, weights="b_dec")
    with expect_fail(ValueError, "must be positive and finite"):
        descriptors(a, a, weights={"decoder": -1.0})
    with expect_fail(ValueError, "metric must be one of sqeuclidean, cosine, not 'l2'"):
        descriptors(a, a, metric="l2")
    with expect_fail(ValueError, "balance must be one of sum, entry, block, not True"):
        descriptors(a, a, balance=True)
    with expect_fail(MemoryError, "the cost matrix of 10,000,000 x 10,000,000 latents needs"):
        check_memory(10**7, 10**7)
    with expect_fail(ValueError, "descriptors must be [n, D] and [m, D]"):
        cost_matrix(torch.ones(3, 2), torch.ones(3, 4))
