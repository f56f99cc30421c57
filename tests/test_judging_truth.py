# Written from nbs/judging/12_truth.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.truth import (
    Truth,
    against_truth,
    fork_shares,
)


from saematch.judging.depth import lineages
from saematch.saes.toys import planted_suite


def test_claims_against_a_small_truth():
    import pandas as pd

    from saematch.saes.toys import PlantedSuite

    names = {0: [0, 1], 1: [0, 2, 3], 2: [0, 1, 2]}
    rows = [(k, layer, i) for layer, ks in names.items() for i, k in enumerate(ks)]
    split = pd.DataFrame([("split", 0, 0, 3)], columns=["event", "layer", "lineage", "other"])
    truth = Truth(PlantedSuite({}, pd.DataFrame(rows, columns=["lineage", "layer", "latent"]), split))
    assert truth.events() == {("birth", 1, 2), ("gap", 1, 1)}
    right = torch.tensor([[0, 2, 5], [1, -1, 6], [-1, 3, 7], [-1, 4, -1]])
    told = against_truth(truth, right).set_index("what")
    assert (told.fdp == 0).all() and (told.recall.dropna() == 1).all() and told.claims["link"] == 4
    younger = torch.tensor([[0, 4, 5], [1, -1, 6], [-1, 3, -1], [-1, 2, -1], [-1, -1, 7]])
    told = against_truth(truth, younger).set_index("what")
    assert round(told.fdp["link"], 3) == 0.667 and told.fdp_strangers["link"] == 0, (
        "the younger child is an heir, and another lineage"
    )
    assert told.fdp["lineage"] == 1 / 2 and told.recall["gap"] == 1 and told.recall["birth"] == 0
    told.round(2)


def test_splits_and_merges_against_the_truth():
    import pandas as pd

    from saematch.saes.toys import random_sae

    world = dict(layers=3, noise=0.3, split=0.08, merge=0.08, death=0.1, gap=0.0)
    planted = planted_suite(random_sae(64, 1200, seed=0), seed=0, **world)
    t = lineages(planted.suite, nulls=("signs",))
    told = pd.DataFrame(fork_shares(Truth(planted), t)).set_index("what")
    assert (told.precision > 0.9).all() and (told.recall > 0.7).all() and (told.claims > 20).all()
    assert t.events("split").shape[0] <= told.claims["split"] == len(t.forked().query("event == 'split'"))
    told.round(3)
