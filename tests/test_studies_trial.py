# Written from nbs/studies/09_trial.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.trial import (
    corpora,
    feature_tokens,
    judge_of,
    experiment,
)


import tempfile
from pathlib import Path

import pyarrow as pa
from fastcore.test import expect_fail

from saematch.ground import UsageError, write_parquet
from saematch.model.cards import cards_folder
from saematch.model.text import joined
from saematch.saes.files import save_sae
from saematch.saes.toys import random_sae
from saematch.studies.scores import TABLES, load_experiment
from dataclasses import replace

import torch

from saematch.model.lm import load_lm
from saematch.model.toys import random_lm


def toy_run(folder, layers=(0, 1, 2), d=16):
    "A random language model, a suite for it, texts and the matches of a run."
    from saematch.saes.suite import load_suite
    from saematch.studies.matches import match_all
    from saematch.studies.options import Options, Trial
    from saematch.studies.plan import plan
    from saematch.studies.run import provenance

    lm = load_lm(random_lm(Path(folder) / "lm"), "cpu", torch.float64)
    for l in layers:
        save_sae(
            replace(random_sae(d, 24, seed=l), info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post")),
            Path(folder) / "suite" / f"layer_{l}.safetensors",
        )
    suite = load_suite(Path(folder) / "suite")
    g = torch.Generator().manual_seed(5)
    texts = {}
    for name in ("one", "two"):
        texts[name] = Path(folder) / f"{name}.jsonl"
        texts[name].write_text(
            "".join(
                '{"text": "' + " ".join(f"w{int(i)}" for i in torch.randint(0, 60, (20,), generator=g)) + '"}\n'
                for _ in range(14)
            )
        )
    record = provenance(suite, list(layers), Options())
    matches = match_all(suite, plan(list(layers), Options()), Path(folder) / "out", record["weights_sha256"], 1, False)
    trial = Trial(
        model=str(Path(folder) / "lm"),
        text=tuple(map(str, texts.values())),
        documents=10,
        loss_documents=4,
        fit_documents=4,
        length=24,
        batch=2,
    )
    return lm, suite, matches, record, trial


def test_a_killed_experiment_continues_to_the_same_numbers():
    from unittest.mock import patch

    import pandas as pd

    import saematch.studies.passes as P

    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        go = lambda out: experiment(Path(folder) / out, matches, record, trial, lm, False)
        whole = go("whole")
        calls, real = [], P.measure

        def killed(*args, **how):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return real(*args, **how)

        with patch.object(P, "measure", killed), expect_fail(KeyboardInterrupt):
            go("parts")
        done = len(list((Path(folder) / "parts" / "evidence" / "chunks").iterdir()))
        assert done > 0
        with patch.object(P, "measure", side_effect=real) as again:
            parts = go("parts")
        assert 0 < again.call_count < len(calls) + 5 and again.call_count < 2 * 5
        for name in TABLES:
            pd.testing.assert_frame_equal(whole[name], parts[name])
        assert whole["facts"]["decomposition"] == parts["facts"]["decomposition"]
        loaded = load_experiment(Path(folder) / "parts")
        pd.testing.assert_frame_equal(loaded["scores"], whole["scores"])
        scores = whole["scores"].set_index(["source", "layer_a", "layer_b", "route", "metric"]).value.sort_index()
        shown = scores["all", 0, 1].unstack("metric").round(3)
    shown


def test_cards_from_the_same_pass():
    from unittest.mock import patch

    import saematch.studies.passes as P
    from saematch.model.cards import cards, shared_documents, write_cards
    from saematch.model.gather import gather
    from saematch.studies.fitting import fit

    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        trial, seen = replace(trial, cards=True, features=0), []
        go = lambda: experiment(Path(folder) / "out", matches, record, trial, lm, False)
        real = P.measure

        def killed(*args, **how):
            seen.append(args[2])
            if len(seen) == 7:
                raise KeyboardInterrupt
            return real(*args, **how)

        with patch.object(P, "measure", killed), expect_fail(KeyboardInterrupt):
            go()
        with patch.object(P, "measure", side_effect=real) as rest:
            go()
        texts, other = corpora(trial, lm)
        whole, saes = joined(texts.values()), {l: suite[l] for l in suite}
        alone = gather(lm, saes, whole, fit(lm, other, list(suite)).limits, shared_documents(len(whole)), progress=False)
        write_cards(Path(folder) / "alone", suite, lm, whole, alone)
        for l in suite:
            made, apart = (cards(suite, l, f).file.read() for f in (cards_folder(suite), Path(folder) / "alone"))
            assert made.equals(apart), l
        assert len(feature_tokens(trial, suite, lm)) == 8, "of twice fourteen, what neither cards nor scores have seen"
        with expect_fail(UsageError, "judge its features on other text with --feature-text"):
            judge_of(replace(trial, features=9, feature_documents=20), suite, [0, 1, 2], lm)
    f"{len(seen) - 1} batches before it was killed, {rest.call_count} after: none was run twice for its sums"


def test_another_text_is_another_experiment():
    import pandas as pd
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        trial = replace(trial, loss_documents=0)
        go = lambda: (
            experiment(Path(folder) / "out", matches, record, trial, lm, False)["scores"]
            .set_index(["source", "layer_a", "layer_b", "route", "metric"])
            .value
        )
        first = go()
        assert not (first.index.get_level_values("metric") == "delta loss").any(), "no losses were asked for"
        one = Path(trial.text[0])
        one.write_text("\n".join(reversed(one.read_text().splitlines())))  # the same documents, but other ones to judge on
        with pytest.warns(UserWarning, match="its tables are replaced by this one"):
            second = go()
        assert (first[trial.text[0]] != second[trial.text[0]]).mean() > 0.5
    pd.DataFrame(dict(first=first[trial.text[0]], second=second[trial.text[0]])).head(3).round(3)


def test_a_smaller_trial_leaves_the_chunks_of_a_larger_one():
    from unittest.mock import patch

    import pandas as pd
    import pytest

    import saematch.studies.passes as P

    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        trial = replace(trial, features=0)
        go = lambda trial: experiment(Path(folder) / "out", matches, record, trial, lm, False)
        large, chunks = go(trial), Path(folder) / "out" / "evidence" / "chunks"
        before = {p: p.stat().st_mtime_ns for p in chunks.rglob("*.safetensors")}
        with pytest.warns(UserWarning, match="held an evaluation on 10 documents of one.jsonl, 10 documents of two.jsonl"):
            go(replace(trial, documents=4, loss_documents=2))
        assert {p: p.stat().st_mtime_ns for p in before} == before and len(list(chunks.iterdir())) == 2
        with (
            patch.object(P, "measure", side_effect=P.measure) as again,
            pytest.warns(UserWarning, match="brings the tables"),
        ):
            back = go(trial)
        pd.testing.assert_frame_equal(back["scores"], large["scores"])
        assert again.call_count == 0
    f"{len(before)} chunks of the larger one, {again.call_count} measured again"


def test_the_key_knows_the_model_and_the_text_to_fit_on():
    from saematch.studies.fitting import Fit
    from saematch.studies.passes import key_of

    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        texts, other = corpora(trial, lm)
        key = lambda: key_of(lm, {}, texts | {"to fit on": other}, Fit({}, {}), record, trial)
        before, W = key(), lm.state_dict()["blocks.1.mlp.W_in"]
        with torch.no_grad():
            W.copy_(W.flip(0))  # the same numbers in another order
        flipped = key()
        with torch.no_grad():
            W.copy_(W.flip(0))
        assert before == key() != flipped
        other = other[torch.arange(len(other)).flip(0)]
        assert key() != before
    before[:12], flipped[:12]


def test_documents_and_model_must_be_there():
    with tempfile.TemporaryDirectory() as folder:
        lm, suite, matches, record, trial = toy_run(folder)
        go = lambda lm=lm, **change: judge_of(replace(trial, **change), suite, [0, 1, 2], lm)
        assert go() is lm
        with expect_fail(UsageError, "has 14 documents; 100 to judge on and 4 others"):
            go(documents=100)
        with expect_fail(UsageError, "loss_documents not more than documents"):
            go(loss_documents=11)
        with expect_fail(UsageError, "no text to judge on"):
            go(text=())
        assert len(feature_tokens(trial, suite, lm)) == 28, "two texts of fourteen documents"
        seen = pa.array([r.tolist() for r in feature_tokens(trial, suite, lm).ids[3:]], pa.list_(pa.int32()))
        write_parquet(pa.table(dict(ids=seen)), cards_folder(suite) / "texts.parquet")
        assert len(feature_tokens(trial, suite, lm)) == 3, "those that no card quotes"
        with expect_fail(UsageError, "judge its features on other text with --feature-text"):
            go(feature_text=trial.text[1:])
        other = load_lm(random_lm(tempfile.mkdtemp(), hidden_size=12), "cpu", torch.float64)
        with expect_fail(ValueError, "is it of another model?"):
            go(lm=other)
        shallow = load_lm(random_lm(tempfile.mkdtemp(), num_hidden_layers=2), "cpu", torch.float64)
        with expect_fail(UsageError, "the model has layers 0..1, not 2"):
            go(lm=shallow)
        with expect_fail(UsageError, "holds no complete evaluation"):
            load_experiment(folder)
