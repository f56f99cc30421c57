# Written from nbs/studies/04_paper.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.paper import (
    FIGURES,
    load_run,
    figure_7,
    figure_11,
    figure_16,
    figure_17,
    panels,
    write_paper,
)


import tempfile
from pathlib import Path

from fastcore.test import expect_fail

from saematch.ground import UsageError


def test_a_verdict_follows_the_tables():
    import matplotlib.pyplot as plt
    import pandas as pd


    def toy_tables(match, unfolded, half):  # explained variance; the loss is 1 minus it; the copy has 0.6
        values = {
            "match": match,
            "unfolded": unfolded,
            "quantile 0.5": half,
            "previous": 0.6,
            "current": 0.8,
            "layer drop": 0.7,
            "linear map": 0.9,
            "identity": -0.4,
            "random": -0.5,
        }
        rows = [
            dict(source="all", layer_a=a, layer_b=b, route=r, metric=m, value=x, low=x - 0.01, high=x + 0.01)
            for a, b in ((3, 7), (7, 12))
            for r, v in values.items()
            for m, x in (("explained variance", v), ("delta loss", 1 - v), ("matching score", v + 0.5))
        ]
        return dict(scores=pd.DataFrame(rows), layers=[3, 7, 12])


    verdicts = {}
    for match_, unfolded, half in ((0.75, 0.7, 0.77), (0.45, 0.4, 0.5), (0.55, 0.58, 0.5)):
        t = toy_tables(match_, unfolded, half)
        verdicts[match_, unfolded, half] = {
            p.number: p.same for p in (figure_7(t), figure_11(t), figure_16(t), figure_17(t))
        }
    plt.close("all")
    assert list(verdicts.values()) == [
        {"7 right": True, "11": True, "16": True, "17": True},
        {"7 right": True, "11": False, "16": True, "17": True},
        {"7 right": False, "11": False, "16": False, "17": False},
    ], verdicts
    pd.DataFrame(verdicts).T.rename_axis(["match", "unfolded", "half matched"])


def test_every_figure_draws_itself_from_a_run():
    from dataclasses import replace

    import torch

    from saematch.model.toys import random_lm
    from saematch.saes.files import save_sae
    from saematch.saes.toys import random_sae
    from saematch.studies.run import run
    from saematch.studies.trial import Trial

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        random_lm(folder / "lm", dtype=torch.float32)
        for l in range(4):
            save_sae(
                replace(
                    random_sae(16, 24, seed=l, dtype=torch.float32),
                    info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post"),
                ),
                folder / "suite" / f"layer_{l}.safetensors",
            )
        text = folder / "text.txt"
        words = torch.randint(0, 60, (12, 40), generator=torch.Generator().manual_seed(0))
        for d, row in enumerate(words.tolist()):
            (folder / "text").mkdir(exist_ok=True)
            (folder / "text" / f"{d:02d}.txt").write_text(" ".join(f"w{i}" for i in row))
        trial = Trial(
            model=str(folder / "lm"),
            text=(str(folder / "text"),),
            documents=8,
            loss_documents=4,
            fit_documents=4,
            length=32,
        )
        with expect_fail(UsageError, "holds no complete run"):
            load_run(folder / "out")
        run(folder / "suite", out=folder / "out", trial=trial, jobs=1)
        found = panels(load_run(folder / "out"))
        assert [p.number.split()[0] for p in found] == list(FIGURES)
        assert "nan" not in " ".join(p.ours for p in found).lower(), [p.ours for p in found]
        page = write_paper(folder / "out", "toy", found).read_text()
        assert page.count("<img") == len(found) and (folder / "out" / "paper" / "figure_7.png").stat().st_size > 1000
    found[0].ours
