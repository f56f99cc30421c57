"""`saematch run --evaluate` and `saematch paper` from the command line.

Models and SAEs are tiny, in the layouts of the real ones.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from saematch import random_sae, save_sae
from saematch.ground import read_safetensors
from saematch.model.toys import random_lm
from saematch.studies.cli import main

pytest.importorskip("sae_lens")
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory  # noqa: E402
from test_loader_families import Files, five, hub  # noqa: E402, F401

FEW = ["--documents", "6", "--loss-documents", "4", "--fit-documents", "4", "--length", "32", "--jobs", "1"]


def write_text(path, documents=10, seed=7):
    words = torch.randint(0, 60, (documents, 30), generator=torch.Generator().manual_seed(seed)).tolist()
    path.write_text("".join(json.dumps({"text": " ".join(f"w{i}" for i in row)}) + "\n" for row in words))
    return path


@pytest.fixture
def place(tmp_path):
    "A model, a suite of three layers and a text."
    random_lm(tmp_path / "lm", dtype=torch.float32)
    for l in range(3):
        save_sae(
            replace(
                random_sae(16, 24, seed=l, dtype=torch.float32),
                info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post"),
            ),
            tmp_path / "suite" / f"layer_{l}.safetensors",
        )
    write_text(tmp_path / "text.jsonl")
    return tmp_path


def arguments(place, *more):
    return [
        "run",
        "--suite",
        str(place / "suite"),
        "--evaluate",
        "--model",
        str(place / "lm"),
        "--text",
        str(place / "text.jsonl"),
        "--out",
        str(place / "out"),
        *FEW,
        *more,
    ]


def test_gemma_scope_and_gemma_2_by_their_names(hub, tmp_path, capsys):  # noqa: F811
    "A release in the hub's cache by SAELens' own loader, a Gemma 2 folder by TransformerLens' bridge."
    at = get_pretrained_saes_directory()["gemma-scope-2b-pt-res-canonical"].saes_map
    content = {}
    for l in range(3):
        sae = random_sae(16, 24, seed=l, dtype=torch.float32)
        content[f"{at[f'layer_{l}/width_16k/canonical']}/params.npz"] = dict(sae.parameters())
    hub(
        "gemma-scope-2b-pt-res-canonical",
        Files(content, None, None, "jumprelu", None, overrides=dict(d_in=16, d_sae=24)),
    )
    random_lm(tmp_path / "gemma-2-2b", "gemma2", dtype=torch.float32)
    text, out = write_text(tmp_path / "text.jsonl"), tmp_path / "paper"
    code = main(
        [
            "paper",
            "--suite",
            "gemma-scope-2b-pt-res-canonical",
            "--layers",
            "0-2",
            "--model",
            str(tmp_path / "gemma-2-2b"),
            "--text",
            str(text),
            "--out",
            str(out),
            *FEW,
        ]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "Figure 11" in said.out and "paper.html" in said.out
    page = (out / "paper.html").read_text()
    assert page.count("<img") == 14 and "gemma-scope-2b-pt-res-canonical" in page
    scores = pd.read_parquet(out / "evidence" / "scores.parquet")
    assert set(zip(scores.layer_a, scores.layer_b)) == {(0, 1), (1, 2), (0, 2)} and scores.value.notna().all()


def test_a_run_with_an_evaluation_tells_and_draws(place, capsys):
    assert main(arguments(place)) == 0
    said = capsys.readouterr().out
    assert "Matching" not in said.split("On text, ")[0][-5:] and "nats per token" in said and "forward pass" in said
    summary = json.loads((place / "out" / "summary.json").read_text())
    assert any("explains" in s for s in summary["findings"])
    report = (place / "out" / "report.html").read_text()
    assert "Do the matches hold on text?" in report and (place / "out" / "figures" / "evidence_11.png").is_file()


@pytest.mark.parametrize(
    "change, code, told",
    [
        (("--documents", "7"), 2, "has 10 documents; 7 to judge on and 4 others to fit on need 11"),
        (("--text", "no/such/file"), 2, "no text 'no/such/file'"),
        (("--model", "no-such-model"), 2, "no language model 'no-such-model'"),
        (("--loss-documents", "9"), 2, "loss_documents not more than documents"),
        (("--length", "100"), 2, "length must be between 3 and the model's context of 64"),
    ],
)
def test_wrong_input_is_said_before_the_work(place, capsys, change, code, told):
    asked = arguments(place)
    name, value = change
    if name in asked:
        asked[asked.index(name) + 1] = value
    assert main(asked) == code
    assert told in capsys.readouterr().err and not (place / "out").exists()


def test_saes_that_do_not_fit_the_model(place, capsys):
    random_lm(place / "wide", hidden_size=20, dtype=torch.float32)
    random_lm(place / "short", num_hidden_layers=2, dtype=torch.float32)
    for model, code, told in (
        ("wide", 1, "reads 16 and writes 16 dimensions, the model's residual stream has 20"),
        ("short", 2, "the model has layers 0..1, not 2"),
    ):
        asked = arguments(place)
        asked[asked.index("--model") + 1] = str(place / model)
        assert main(asked) == code and told in capsys.readouterr().err
    sae = random_sae(16, 24, seed=2, dtype=torch.float32)
    save_sae(
        replace(sae, info=dict(layer=2, hook_name="blocks.2.hook_mlp_out")), place / "suite" / "layer_2.safetensors"
    )
    assert main(arguments(place)) == 2 and "reads blocks.2.hook_mlp_out" in capsys.readouterr().err


@pytest.mark.usefixtures("unpainted")
def test_without_losses(place, capsys):
    asked = arguments(place)
    asked[0] = "paper"
    asked.remove("--evaluate")
    asked[asked.index("--loss-documents") + 1] = "0"
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "Figure 7 right" in said and "Figure 17" in said and "Figure 11" not in said


def test_options_of_an_evaluation_need_one(place, capsys):
    assert (
        main(["run", "--suite", str(place / "suite"), "--documents", "5"]) == 2
        and "add --evaluate" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("unpainted")
def test_killed_and_started_again(place):
    "kill -9 in the middle of the judging: the chunks that are there are used, and the numbers stay the same."
    chunks, env = place / "out" / "evidence" / "chunks", {**os.environ, "OMP_NUM_THREADS": "1"}
    p = subprocess.Popen(
        [sys.executable, "-m", "saematch", *arguments(place, "--batch", "1")],
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    start = time.monotonic()
    while p.poll() is None and len(list(chunks.rglob("*.safetensors"))) < 2 and time.monotonic() - start < 240:
        time.sleep(0.01)
    os.kill(p.pid, signal.SIGKILL) if p.poll() is None else None
    p.wait()
    there = {f: f.stat().st_mtime_ns for f in chunks.rglob("*.safetensors")}
    assert there, "nothing was finished before the kill"
    assert main(arguments(place, "--batch", "1")) == 0
    assert all(f.stat().st_mtime_ns == at for f, at in there.items()), "finished chunks are not computed again"
    first = pd.read_parquet(place / "out" / "evidence" / "scores.parquet")
    asked = arguments(place, "--batch", "1")
    asked[asked.index("--out") + 1] = str(place / "alone")
    assert main(asked) == 0
    pd.testing.assert_frame_equal(first, pd.read_parquet(place / "alone" / "evidence" / "scores.parquet"))


@pytest.mark.usefixtures("unpainted")
def test_a_damaged_chunk_is_computed_again(place):
    assert main(arguments(place)) == 0
    first = pd.read_parquet(place / "out" / "evidence" / "scores.parquet")
    chunk = sorted((place / "out" / "evidence" / "chunks").rglob("*.safetensors"))[0]
    chunk.write_bytes(chunk.read_bytes()[:-50])
    (place / "out" / "evidence" / "facts.json").unlink()
    assert main(arguments(place)) == 0
    pd.testing.assert_frame_equal(first, pd.read_parquet(place / "out" / "evidence" / "scores.parquet"))
    assert read_safetensors(chunk)[0] and load_file(chunk)


def test_sentences_compare_like_with_like():
    "Means over adjacent layers for every route: longer spans, which have few routes, stay out."
    from pathlib import Path

    from saematch.studies.panels import mean
    from saematch.studies.scores import judged, load_run

    tables = load_run(Path(__file__).parent.parent / "nbs" / "data" / "paper")
    said = judged(tables)[0]
    assert all(
        f"{mean(tables, 'matching score', route):.1%}" in said
        for route in ("match", "unfolded", "correlation", "identity", "random")
    )
    everywhere = (
        tables["scores"].query("source == 'all' and metric == 'matching score' and route == 'match'").value.mean()
    )
    assert f"{everywhere:.1%}" not in said
