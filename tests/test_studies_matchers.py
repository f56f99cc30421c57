# Written from nbs/studies/27_matchers.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.matchers import (
    MATCHERS,
    Claims,
    by_rows,
    by_cost,
    claims_of,
    matchers_named,
    carried,
)


from itertools import permutations

import torch
from fastcore.test import expect_fail

from saematch.ground import UnknownName, UsageError
from saematch.judging.worlds import States, World
from saematch.matching.baselines import dense
from saematch.matching.match import match
from saematch.saes.toys import planted, random_sae


def test_a_matcher_of_ones_own():
    a = random_sae(12, 6)
    b, truth = planted(a, decoder_noise=0.2, encoder_noise=0.2, seed=1)
    world = World("toy", "planted", 1, a, b)
    cost = lambda w: torch.cdist(w.a.W_dec, w.b.W_dec)
    own = {"cost": by_cost(cost), "rows": by_rows(lambda w: (w.a.W_dec, w.b.W_dec), metric="sqeuclidean")}
    own |= {"function": lambda w: Claims(dense(cost(w)), torch.zeros(6)), "match": lambda w: match(w.a, w.b)}
    for name, matcher in matchers_named(own).items():
        assert torch.equal(claims_of(name, matcher, world).index, truth), name
    f = a.encode(torch.randn(50, 12, dtype=a.dtype))
    g = carried(world, claims_of("cost", own["cost"], world), f)
    i = 2
    assert torch.allclose(g[:, truth[i]], f[:, i] / a.threshold[i] * b.threshold[truth[i]])
    shared = Claims(torch.tensor([0, 0, -1, -1, -1, -1]), torch.zeros(6))
    both = carried(world, shared, f)
    assert torch.allclose(both[:, 0], (f[:, :2] / a.threshold[:2]).sum(1) * b.threshold[0]) and not both[:, 1:].any()
    {name: claims_of(name, matcher, world).index.tolist() for name, matcher in own.items()}


def test_what_is_wrong_is_named():
    a = random_sae(12, 6)
    world = World("toy", "planted", 1, a, a)
    one, zero = torch.arange(6), torch.zeros(6)
    says = lambda index, score=zero: claims_of("mine", lambda w: Claims(index, score), world)
    with expect_fail(ValueError, "the matcher 'mine' gives scores of [5], not [6]"):
        says(one, zero[:5])
    with expect_fail(ValueError, "2 pairs a score that is no finite number, the first is latent 3"):
        says(one, zero.index_fill(0, torch.tensor([3, 4]), float("nan")))
    with expect_fail(ValueError, "gives latent 5 the partner 6"):
        says(one + 1)
    with expect_fail(ValueError, "an index of torch.float32"):
        says(zero)
    with expect_fail(ValueError, "returns NoneType"):
        claims_of("mine", lambda w: None, world)
    with expect_fail(ValueError, "the matcher 'mine': costs must be a tensor [6, 6], not [2, 2]"):
        claims_of("mine", by_cost(lambda w: torch.zeros(2, 2)), world)
    with expect_fail(ValueError, "36 costs are NaN, the first is that of [0, 0]"):
        claims_of("mine", by_cost(lambda w: torch.full((6, 6), torch.nan)), world)
    with expect_fail(UsageError, "'jaccard' needs states, and 'toy' has none"):
        claims_of("jaccard", MATCHERS["jaccard"], world)
    with expect_fail(UnknownName, "unknown matcher 'jacard'; closest: jaccard"):
        matchers_named(["jacard"])


def test_saes_that_normalise_hidden_states():
    x = torch.randn(60, 12, dtype=torch.float64)
    a, b = random_sae(12, 6, normalize="layer_norm"), random_sae(12, 6, seed=1)
    world = World("toy", "planted", 1, a, b, States(x, x), States(x, x))
    assert carried(world, claims_of("relations", MATCHERS["relations"], world), a.encode(x)).shape == (60, 6)
    with expect_fail(UsageError, "'whitened' needs SAEs that do not normalise hidden states, and 'toy' has none"):
        claims_of("whitened", MATCHERS["whitened"], world)
