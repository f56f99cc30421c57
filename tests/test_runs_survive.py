"""Runs that must end well or not begin: blocks without a difference, nothing matched, odd SAEs, odd names."""

from dataclasses import replace

import pytest
import torch

from saematch import planted, random_sae, save_sae
from saematch.studies.run import run


def written(folder, change=lambda sae: sae, layers=(1, 2, 3), **how):
    "A suite of small SAEs of one family, each changed, one file a layer."
    sae = random_sae(8, 24, **how)
    for layer in layers:
        save_sae(change(sae), folder / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=0.8, encoder_noise=0.8, replaced=0.2, seed=layer).sae
    return folder


ZERO = {
    "b_enc": lambda s: replace(s, b_enc=torch.zeros_like(s.b_enc)),
    "W_dec": lambda s: replace(s, W_dec=torch.zeros_like(s.W_dec)),
}


@pytest.mark.parametrize("name, activation", [("b_enc", "jumprelu"), ("W_dec", "jumprelu"), ("b_enc", "topk")])
def test_a_block_without_differences(name, activation, tmp_path):
    "All distances of a constant block are 0, those of random pairs too: its errors have no relative size."
    top = lambda s: replace(s, activation="topk", k=3, threshold=torch.zeros_like(s.threshold))
    change = (lambda s: ZERO[name](top(s))) if activation == "topk" else ZERO[name]
    summary = run(written(tmp_path / "suite", change), out=tmp_path / "out", jobs=1, dead="keep")
    block = dict(b_enc="bias", W_dec="decoder")[name]
    relative = {r["relative"] for r in summary["mse"] if r["block"] == block}
    assert all(r != r for r in relative), relative
    assert "–</td>" in (tmp_path / "out" / "report.html").read_text()
    assert "nan" not in " ".join(summary["findings"]), summary["findings"]


@pytest.mark.parametrize("reject", [0.0, 60.0])
def test_rejection_that_leaves_none_or_few(reject, tmp_path):
    summary = run(written(tmp_path / "suite", layers=(1, 2, 3, 4)), out=tmp_path / "out", jobs=1, reject=reject)
    assert "nan" not in " ".join(summary["findings"]), summary["findings"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert summary["findings"][0] in page and ("no pairs to judge" in page) == (reject == 0)
