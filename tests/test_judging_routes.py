# Written from nbs/judging/05_routes.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.routes import (
    Active,
    write,
    encode_permute_decode,
)


from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.matching.match import Match, match, scatter
from saematch.saes.sae import permute, rescale
from saematch.saes.toys import random_sae


def test_the_short_form_is_the_definition():
    a, b = random_sae(8, 20, seed=1), random_sae(8, 20, seed=2, normalize="layer_norm")
    x = torch.randn(30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    f = a.encode(x)
    f[7] = 0  # a token without any
    assert_close(Active.of(f).times(a.W_dec), f @ a.W_dec)
    assert_close(write(b, Active.of(f), x), b.decode(f, like=x))
    m = match(a, random_sae(8, 25, seed=3), method="mutual")
    assert 0 < (m.index < 0).sum() < 20
    carried = Active.of(f).moved(m.index, 25, torch.full((20,), 2.0, dtype=torch.float64))
    assert_close(carried.times(torch.eye(25, dtype=torch.float64)), scatter(2 * f, m.index, 25))
    assert Active.of(torch.zeros(3, 4)).times(torch.ones(4, 2)).abs().sum() == 0
    document = torch.arange(30) // 10
    assert torch.equal(Active.of(f).per(document, 3), torch.stack([(p != 0).sum(0) for p in f.split(10)]))
    dict(
        active_of_all=f"{len(Active.of(f).token)} of {f.numel()}",
        difference=(Active.of(f).times(a.W_dec) - f @ a.W_dec).abs().max().item(),
    )


def test_carrying_is_free_of_units():
    a, b = random_sae(8, 20, seed=1), random_sae(8, 20, seed=2)
    x = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    same = Match(torch.arange(20), 20, torch.zeros(20))
    assert_close(encode_permute_decode(a, a, same, x), a.reconstruct(x))
    shuffled = permute(b, torch.randperm(20, generator=torch.Generator().manual_seed(3)))
    assert_close(encode_permute_decode(a, b, match(a, b), x), encode_permute_decode(a, shuffled, match(a, shuffled), x))
    plain, in_other_units = (
        encode_permute_decode(a, b, match(a, b), x),
        encode_permute_decode(rescale(a, 7.0), rescale(b, 0.1), match(a, b), x),
    )
    assert_close(plain, in_other_units)
    by_hand = b.decode(scatter(a.encode(x), match(a, b, fold=False).index, 20))
    assert_close(encode_permute_decode(a, b, match(a, b, fold=False), x), by_hand)
    with expect_fail(ValueError, "the SAEs have 20 and 20"):
        encode_permute_decode(a, b, Match(torch.arange(3), 3, torch.zeros(3)), x)
    dict(largest_value=plain.abs().max().item(), difference_in_other_units=(plain - in_other_units).abs().max().item())
