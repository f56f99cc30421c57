# Written from nbs/studies/05_tables.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.tables import (
    mse_table,
    agreement_table,
    pair_table,
    chain_table,
    write_table,
    read_table,
)


import random
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from saematch.matching.compose import compose
from saematch.matching.match import Match, match
from saematch.saes.suite import load_suite
from saematch.studies.matches import Matches
from saematch.studies.plan import stranger


def test_tables_follow_the_matches():
    suite = load_suite("smollm2-135m-resid")
    layers, ab, bc = (
        [14, 15, 16],
        match(suite[14], suite[15], method="greedy"),
        match(suite[15], suite[16], method="greedy"),
    )
    walked = compose(ab, bc)
    direct = Match(torch.where(torch.arange(2048) < 512, walked.index, -1), 2048, torch.ones(2048))
    found = {
        (14, 15): {
            "match": ab,
            "random": match(suite[14], suite[15], method="random"),
            "strangers": match(suite[14], stranger(suite[15]), method="greedy"),
        },
        (15, 16): {"match": bc},
        (14, 16): {"match": direct},
    }
    toy = Matches(suite, layers, found)
    table = agreement_table(toy)
    assert table.agreement.tolist() == [1.0] and table.span.tolist() == [2]
    pairs = pair_table(toy)
    assert len(pairs) == 3 * 2048 and (pairs.latent_b == -1).sum() == 1536 and pairs.cosine.isna().sum() == 1536
    far = pairs[(pairs.layer_a == 14) & (pairs.layer_b == 16)]
    assert torch.equal(torch.tensor(far.walked.values), walked.index)
    best = chain_table(pairs, layers, top=1).iloc[0]
    assert ab.index[int(best["layer 14"])] == best["layer 15"] and bc.index[int(best["layer 15"])] == best["layer 16"]
    cos = lambda x, y: torch.nn.functional.cosine_similarity(x, y, dim=0).item()
    a, b, c = (suite[l].W_dec[int(best[f"layer {l}"])] for l in layers)
    assert abs(best["weakest"] - min(cos(a, b), cos(b, c))) < 1e-6
    mse = mse_table(toy)
    assert (
        set(mse.method) == {"chosen", "random", "strangers"}
        and (mse[mse.method == "random"].relative == 1).all()
        and (mse[mse.method == "chosen"].relative < 1).all()
    )
    level = mse[mse.block == "all"].set_index("method").relative
    assert level.chosen < level.strangers - 0.05 < 0.9, "strangers beat random pairs, and true pairs beat strangers"
    best


def test_one_changed_byte_of_a_table_is_found():
    plain = dict(n=range(99), s=["word"] * 99, x=np.linspace(0, 1, 99), gone=[np.nan] * 99)
    whole_table = pd.DataFrame(plain | dict(kind=pd.Categorical(["a", "b", "b"] * 33), perhaps=[True, None, False] * 33))
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        write_table(path := Path(folder) / "t.parquet", whole_table)
        whole, found = path.read_bytes(), 0
        pd.testing.assert_frame_equal(read_table(path), whole_table)
        for place in rng.sample(range(len(whole)), 150):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
            try:  # a byte of the checksum's name: the table is read as one without
                pd.testing.assert_frame_equal(read_table(path), whole_table)
            except ValueError:
                found += 1
        whole_table.to_parquet(path)
        pd.testing.assert_frame_equal(read_table(path), whole_table)  # of an earlier version: no checksum
    assert found >= 140
    f"{found} of 150 changed bytes refused, the others changed no value"
