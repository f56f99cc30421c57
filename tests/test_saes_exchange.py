# Written from nbs/saes/09_exchange.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.exchange import (
    to_saelens,
)


from dataclasses import replace

import torch
from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch import SAE, load_sae
from saematch.ground import UsageError
from saematch.saes.exchange import to_saelens
from saematch.saes.toys import random_sae


def test_saelens_computes_the_same():
    g = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(40, 8, generator=g, dtype=torch.float64)
    jump, top, both = random_sae(8, 24, seed=1), random_sae(8, 24, seed=2, activation="topk", k=3), dict(seed=3, k=4)
    skip = torch.randn(8, 8, generator=g, dtype=torch.float64)
    cases = dict(
        jumprelu=jump,
        topk=top,
        abstopk=random_sae(8, 24, activation="abstopk", **both),
        subtracts=replace(jump, apply_b_dec_to_input=True),
        layer_norm=replace(jump, normalize="layer_norm"),
        transcoder=replace(jump, transcoder=True),
        skip=replace(jump, transcoder=True, W_skip=skip),
    )
    for name, sae in cases.items():
        obj = to_saelens(sae)
        assert_close(obj.encode(x), sae.encode(x), msg=name)
        assert_close(obj(x), sae.reconstruct(x), msg=name)
        back = SAE.from_saelens(obj)
        assert all(torch.equal(p, back.parameters()[k]) for k, p in sae.parameters().items() if k in obj.state_dict()), name
        assert back.settings() == sae.settings(), name
    {name: type(to_saelens(sae)).__name__ for name, sae in cases.items()}


def test_what_saelens_has_no_class_for_is_said():
    with expect_fail(UsageError, "no class for a transcoder with the rule 'topk'"):
        to_saelens(replace(random_sae(8, 24, activation="topk", k=3), transcoder=True))
    with expect_fail(UsageError, "no class for an SAE with the rule 'other'"):
        to_saelens(replace(random_sae(8, 24), activation="other"))
    with expect_fail(UsageError, "does not normalise hidden states by 'constant_norm_rescale' any more"):
        to_saelens(replace(random_sae(8, 24), normalize="constant_norm_rescale"))
