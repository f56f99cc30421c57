# Written from nbs/studies/06_fitting.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.fitting import (
    Fit,
    activation_scale,
    whitening,
    usual,
    activity_rows,
    learned,
)


import torch
from torch.testing import assert_close

from saematch.saes.toys import planted, random_sae


def test_scales_and_whitening_are_what_they_say():
    x = torch.randn(4000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.tensor([5.0, 1, 1, 1, 1, 0.2], dtype=torch.float64)
    )
    white = x @ whitening(x, shrink=0.0)
    assert_close(torch.cov(white.T, correction=0), torch.eye(6, dtype=torch.float64))
    sae = random_sae(6, 10)
    f = sae.encode(x)
    assert_close(activation_scale(sae, f)[3], f[:, 3][f[:, 3] > 0].mean())
    never = f.clone()
    never[:, 3] = 0
    assert activation_scale(sae, never)[3] > 0
    activation_scale(sae, f)[:4]


def test_usual_activations_are_means():
    sae, x = random_sae(6, 10), torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    f = sae.encode(x)
    mean, unit = usual(sae, x)
    assert_close(mean, f.mean(0)) and assert_close(unit[3], f[:, 3][f[:, 3] > 0].mean())
    assert_close(usual(sae, x, most=1000)[0], f[::3].mean(0))
    usual(sae, x)[:, :4]


def test_matches_that_need_data_find_planted_partners():
    a = random_sae(16, 40)
    b, truth = planted(a, decoder_noise=0.1, encoder_noise=0.1, replaced=0.1, seed=1)
    x = torch.randn(600, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = learned((0, 1), a, b, Fit({}, {0: x, 1: x}), dict(fold=True))
    right = {name: (m.index == truth)[truth >= 0].double().mean().item() for name, (m, _) in found.items()}
    assert set(found) == {"correlation", "activation scale", "whitened"} and min(right.values()) > 0.8, right
    assert found["correlation"][1] is None and (found["activation scale"][1] > 0).all()
    right


def test_long_rows_are_thinned():
    f = torch.rand(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = activity_rows(f, most=150)
    assert rows.shape == (3, 50)
    assert_close(rows.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert_close(rows @ rows.T, torch.corrcoef(f[::2].T))
