# Written from nbs/studies/02_report.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.report import (
    mse_table,
    agreement_table,
    pair_table,
    lineage_table,
)


from pathlib import Path

import pandas as pd
import torch

from saematch.matching.match import Match, compose, match
from saematch.saes.suite import load_suite


def test_tables_follow_the_matches():
    suite = load_suite("smollm2-135m-resid")
    layers, ab, bc = (
        [14, 15, 16],
        match(suite[14], suite[15], method="greedy"),
        match(suite[15], suite[16], method="greedy"),
    )
    walked = compose(ab, bc)
    direct = Match(torch.where(torch.arange(2048) < 512, walked.index, -1), 2048, torch.ones(2048))
    matches = {
        (14, 15, "direct"): ab,
        (15, 16, "direct"): bc,
        (14, 16, "direct"): direct,
        (14, 15, "random"): match(suite[14], suite[15], method="random"),
    }
    table = agreement_table(matches, layers)
    assert table.agreement.tolist() == [1.0] and table.span.tolist() == [2]
    pairs = pair_table(suite, matches, layers)
    assert len(pairs) == 3 * 2048 and (pairs.latent_b == -1).sum() == 1536 and pairs.cosine.isna().sum() == 1536
    far = pairs[(pairs.layer_a == 14) & (pairs.layer_b == 16)]
    assert torch.equal(torch.tensor(far.walked.values), walked.index)
    best = lineage_table(pairs, layers, top=1).iloc[0]
    assert ab.index[int(best["layer 14"])] == best["layer 15"] and bc.index[int(best["layer 15"])] == best["layer 16"]
    cos = lambda x, y: torch.nn.functional.cosine_similarity(x, y, dim=0).item()
    a, b, c = (suite[l].W_dec[int(best[f"layer {l}"])] for l in layers)
    assert abs(best["weakest"] - min(cos(a, b), cos(b, c))) < 1e-6
    mse = mse_table(suite, matches)
    assert (
        set(mse.method) == {"chosen", "random"}
        and (mse[mse.method == "random"].relative == 1).all()
        and (mse[mse.method == "chosen"].relative < 1).all()
    )
    best
