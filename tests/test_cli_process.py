"""The command line: exit codes, pipes, interruption, a disk that refuses."""

import json
import os
import resource
import signal
import subprocess
import sys
import termios
import time

import pytest
import torch

from saematch import planted, random_sae, save_sae
from saematch.ground import UsageError
from saematch.matching.match import Match
from saematch.studies.cli import main
from saematch.studies.run import run
from saematch.writer import LOCK

SAEMATCH = [sys.executable, "-m", "saematch"]


def call(*args, cwd=None, **kw):
    return subprocess.run([*SAEMATCH, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=300, **kw)


@pytest.fixture
def here(capsys, tmp_path, monkeypatch):
    """The command called in this process, from an empty folder: (exit code, stdout, stderr)."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def called(*args):
        try:
            code = main([str(a) for a in args])
        except SystemExit as e:  # argparse
            code = e.code
        return code, *capsys.readouterr()

    return called


@pytest.fixture
def suite(tmp_path):
    """Four layers of 40 latents in a folder with a space in its name."""
    sae, folder = random_sae(16, 40), tmp_path / "my saes"
    for layer in (2, 3, 5, 6):
        save_sae(sae, folder / f"layer_{layer}.safetensors")
        sae = planted(sae, seed=layer).sae
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_help_and_version_are_quick_to_ask():
    shown = call("--help")
    assert shown.returncode == 0 and all(word in shown.stdout for word in ("run", "match", "info"))
    assert call("--version").stdout.startswith("saematch ")
    code = "import sys, saematch, saematch.studies.cli; saematch.studies.cli.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "asking for help must not import torch"


def test_run_in_a_pipe_is_quiet_and_complete(suite, tmp_path):
    done = call("run", "--suite", suite, "--out", tmp_path / "out", "--layers", "2-3,6")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "report.html" in done.stdout
    expected = {
        "run.json",
        "summary.json",
        "pairs.parquet",
        "report.html",
        *(f"figures/{n}.png" for n in ("growth", "mse", "distribution", "agreement")),
    }
    assert expected <= files(tmp_path / "out")
    assert not [f for f in files(tmp_path / "out") if f.endswith(".tmp")]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["layers"] == [2, 3, 6]


def test_two_layers_are_enough(suite, tmp_path, here):
    assert here("run", "--suite", suite, "--out", tmp_path / "out", "--layers", "2,3")[0] == 0
    assert "agreement" not in "".join(files(tmp_path / "out"))


def test_match_prints_and_writes(suite, tmp_path, here):
    code, stdout, _ = here(
        "match",
        suite / "layer_2.safetensors",
        suite / "layer_3.safetensors",
        "--out",
        tmp_path / "m.safetensors",
        "--top",
        "3",
    )
    assert code == 0 and "40 of 40 matched to 40" in stdout
    assert Match.load(tmp_path / "m.safetensors").matched.all()


def test_info_of_an_sae_and_of_a_suite(suite, here):
    (code, one, _), (also, several, _) = here("info", suite / "layer_2.safetensors"), here("info", suite)
    assert code == also == 0
    assert "reads 16, 40 latents" in one and "layers=[2, 3, 5, 6]" in several and "threshold_mean" in several


@pytest.mark.parametrize(
    "args, code, says",
    [
        (["run", "--suite", "smollm2-135m-rezid"], 2, "closest: smollm2-135m-resid"),
        (["run", "--layers", "19-14"], 2, "reversed: write 14-19"),
        (["run", "--layers", "14"], 2, "two layers at least"),
        (["run", "--layers", "14-99"], 2, "unknown layer '99'"),
        (["run", "--layers", "all"], 2, "cannot be read"),
        (["run", "--jobs", "0"], 2, "--jobs must be at least 1"),
        (["run", "--device", "gpu0"], 2, "cannot compute on device 'gpu0'"),
        (["run", "--layers", "14-99999999999999"], 2, "unknown layer '99999999999999'"),
        (
            ["match", "smollm2-135m-resid/layer_14", "smollm2-135m-resid/layer_15", "--top", "-1"],
            2,
            "--top must be 0 or more",
        ),
        (["run", "--method", "best"], 2, "invalid choice"),
        (["match", "nowhere/a", "nowhere/b"], 2, "unknown release 'nowhere'"),
        (["match", "no.safetensors", "no.safetensors"], 2, "no such SAE: no.safetensors"),
        (
            ["match", "smollm2-135m-resid/layer_14", "smollm2-135m-resid/layer_9"],
            2,
            "unknown layer of smollm2-135m-resid '9'",
        ),
        (
            ["match", "smollm2-135m-resid/layer_14", "smollm2-135m-resid/layer_15", "--out", "m.pt"],
            2,
            "saved as a .safetensors file",
        ),
        (
            ["info", "no-such-thing"],
            2,
            "unknown suite 'no-such-thing'; it can be an embedded suite (smollm2-135m-resid)",
        ),
        (["trace", "smollm2-135m-resid/14/4000"], 2, "has no latent 4000 at layer 14; its latents are 0 to 2047"),
        (["trace", "/14/1"], 2, "names no latent; give SUITE/LAYER/LATENT, as in smollm2-135m-resid/14/1091"),
        (["check", "smollm2-135m-resid"], 2, "holds no run: it is not there"),
        (["benchmark", "--ablate", "-1"], 2, "--ablate must be 0 or more, not -1"),
        (["benchmark", "--each", "0"], 2, "--each must be 1 or more, not 0"),
        (["run", "--dry-run", "--q", "nan"], 2, "q is a false discovery rate"),
        (["run", "--dry-run", "--price", "-1"], 2, "--price must be 0 or more, not -1"),
        (["run", "--dry-run", "--evaluate", "--documents", "0"], 2, "documents=0"),
        (["run", "--rows", "none.py:rows"], 2, "there is no file none.py"),
        (["export", "smollm2-135m-resid", "--to", "csv", "--lineages", "0"], 2, "--lineages must be at least 1, not 0"),
        (["supernodes", "g.json", "--lineages", "smollm2-135m-resid", "--pin", "-1"], 2, "--pin must be 0 or more"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_wrong_calls_say_what_and_exit_2(args, code, says, here):
    exit_code, _, stderr = here(*args)
    assert exit_code == code and says in stderr and "Traceback" not in stderr
    assert not os.listdir(), "a wrong call leaves nothing behind"


def test_a_damaged_file_fails_the_run_with_1(suite, tmp_path, here):
    whole = (suite / "layer_5.safetensors").read_bytes()
    (suite / "layer_5.safetensors").write_bytes(whole[:-40])
    code, _, stderr = here("run", "--suite", suite, "--out", tmp_path / "out")
    assert code == 1 and "layer_5.safetensors" in stderr and "no complete safetensors file" in stderr
    assert len(stderr.splitlines()) == 1


def test_a_full_disk_loses_nothing_that_was_finished(suite, tmp_path):
    out = tmp_path / "out"
    run(suite, layers=[2, 3], out=out)
    before = {p: (out / p).read_bytes() for p in files(out)}
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
    (out / "figures" / "mse.png").unlink()
    done = call("run", "--suite", suite, "--layers", "2,3", "--out", out, preexec_fn=small)
    assert done.returncode == 1 and "cannot write" in done.stderr and "untouched" in done.stderr, done.stderr
    assert {p: (out / p).read_bytes() for p in files(out)} == {
        p: b for p, b in before.items() if p != "figures/mse.png"
    }
    assert call("run", "--suite", suite, "--layers", "2,3", "--out", out).returncode == 0 and files(out) == set(before)


def test_two_runs_at_once_in_one_folder(suite, tmp_path, here):
    "The second says who the first is and leaves; what is there is as it was."
    run(suite, layers=[2, 3], out=tmp_path / "out", lineages=False)
    before = {p: (tmp_path / "out" / p).read_bytes() for p in files(tmp_path / "out")}
    asked = ("run", "--suite", suite, "--layers", "2,3", "--no-lineages", "--out", tmp_path / "out")
    (lock := tmp_path / "out" / LOCK).write_text("4711\nnode17\n")
    for more in ((), ("--overwrite", "--no-fold")):
        code, _, stderr = here(*asked, *more)
        assert code == 2 and "is being written by process 4711 on node17" in stderr and f"remove {lock}" in stderr
    lock.unlink()
    assert {p: (tmp_path / "out" / p).read_bytes() for p in files(tmp_path / "out")} == before


def test_an_output_folder_that_cannot_be_written(suite, tmp_path, here):
    (tmp_path / "file").write_text("x")
    assert here("run", "--suite", suite, "--out", tmp_path / "file")[0] == 2
    for out in (tmp_path / "file" / "below", "/proc/saematch-out"):
        code, _, stderr = here("run", "--suite", suite, "--out", out)
        assert code == 1 and "cannot write" in stderr and str(out) in stderr and "Traceback" not in stderr


def test_ctrl_c_keeps_finished_matches_and_the_next_run_continues(tmp_path):
    sae, folder, out = random_sae(32, 250), tmp_path / "suite", tmp_path / "out"
    for layer in range(4):
        save_sae(sae, folder / f"layer_{layer}.safetensors")
        sae = planted(sae, decoder_noise=1.5, encoder_noise=1.5, seed=layer).sae
    process = subprocess.Popen(
        [*SAEMATCH, "run", "--suite", folder, "--out", out, "--jobs", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a test run in the background may have it ignored
    deadline = time.monotonic() + 120
    while len(list(out.glob("matches/*/*.safetensors"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted; finished matches are kept" in stderr, stderr
    kept = {p: p.stat().st_mtime_ns for p in out.glob("matches/*/*.safetensors")}
    assert len(kept) >= 3 and not (out / "summary.json").exists()
    for p in kept:
        Match.load(p)  # whole
    assert call("run", "--suite", folder, "--out", out).returncode == 0
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    fresh = run(folder, out=tmp_path / "fresh")
    assert json.loads((out / "summary.json").read_text())["mse"] == fresh["mse"]


def test_a_stale_match_of_other_weights_is_not_taken(suite, tmp_path):
    out = tmp_path / "out"
    run(suite, layers=[2, 3], out=out)
    sae = random_sae(16, 40, seed=99)
    save_sae(sae, suite / "layer_3.safetensors")
    with pytest.raises(UsageError, match="weights_sha256"):
        run(suite, layers=[2, 3], out=out)
    again = run(suite, layers=[2, 3], out=out, overwrite=True)
    assert again["mse"] == run(suite, layers=[2, 3], out=tmp_path / "fresh")["mse"]


def test_a_closed_pipe_is_no_error(suite):
    done = subprocess.run(
        f"'{sys.executable}' -m saematch info '{suite}' | head -1", shell=True, capture_output=True, text=True
    )
    assert "Suite(" in done.stdout and done.stderr == ""


def test_widths_may_differ_but_not_d_model(tmp_path, here):
    for layer, (d, n) in {1: (8, 30), 2: (8, 20), 3: (8, 25)}.items():
        save_sae(random_sae(d, n, seed=layer), tmp_path / "widths" / f"layer_{layer}.safetensors")
    assert here("run", "--suite", tmp_path / "widths", "--out", tmp_path / "out")[0] == 0
    save_sae(random_sae(9, 30), tmp_path / "widths" / "layer_4.safetensors")
    code, _, stderr = here("run", "--suite", tmp_path / "widths", "--out", tmp_path / "out2")
    assert code == 1 and "d_model" in stderr and "Traceback" not in stderr


def test_a_terminal_sees_a_progress_bar(suite, tmp_path):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(
        [*SAEMATCH, "run", "--suite", suite, "--out", tmp_path / "out"], stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the terminal closes with the process
        pass
    assert process.wait(60) == 0 and b"matching: 100%" in seen


def test_files_stand_where_folders_are_needed(suite, here):
    one, two = (suite / f"layer_{layer}.safetensors" for layer in (2, 3))
    for args, says in (
        (["match", one, two, "--out", one / "m.safetensors"], "is a file and no folder; choose another place"),
        (["run", "--suite", one], "layer_2.safetensors is a file; a suite is a folder of SAEs"),
        (["match", suite, two], "give one of layer_2.safetensors, layer_3.safetensors, layer_5.safetensors"),
        (["check", one], "holds no run"),
        (["explore", suite, "--out", one / "x.html"], "is a file and no folder; choose another place"),
        (["info", one, "--states", two], "has no hidden states (one tensor [tokens, 16], floats)"),
    ):
        code, stdout, stderr = here(*args)
        assert code == 2 and says in stderr and not stdout, stderr
    assert not os.listdir()


def test_a_match_never_replaces_weights(suite, here):
    weights = suite / "layer_2.safetensors"
    before = weights.read_bytes()
    code, _, stderr = here("match", weights, suite / "layer_3.safetensors", "--out", weights)
    assert code == 2 and "is not replaced" in stderr and weights.read_bytes() == before


def test_overwriting_leaves_nothing_of_the_other_run(suite, tmp_path):
    out = tmp_path / "out"
    run(suite, out=out)
    run(suite, layers=[2, 3], out=out, overwrite=True)
    assert {p.name for p in (out / "matches").iterdir()} == {"2-3"} and not (out / "figures" / "agreement.png").exists()


def test_leftovers_of_a_killed_process_are_swept(suite, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (out / f".run.json.{dead.pid}.123.saematch.tmp").write_text("half")
    run(suite, layers=[2, 3], out=out)
    assert not [f for f in files(out) if f.endswith(".tmp")]


def test_damaged_records_and_matches_are_noticed(suite, tmp_path):
    out = tmp_path / "out"
    first = run(suite, layers=[2, 3], out=out)
    from safetensors.torch import save_file

    save_file(
        {"nothing": torch.ones(1)},
        out / "matches" / "2-3" / "direct.safetensors",
        metadata={"format": "saematch.match/1"},
    )
    assert run(suite, layers=[2, 3], out=out)["mse"] == first["mse"]
    for damage in ("[1]", "null", "{"):
        (out / "run.json").write_text(damage)
        with pytest.raises(UsageError, match="run.json is not"):
            run(suite, layers=[2, 3], out=out)


def test_what_cannot_end_well_does_not_begin(suite, tmp_path, here):
    from saematch import SAE, load_sae

    sae = load_sae(suite / "layer_3.safetensors")
    bad = SAE(**{**sae.parameters(), "threshold": sae.threshold.index_fill(0, torch.tensor([7]), 0.0)})
    save_sae(bad, suite / "layer_3.safetensors")
    for option in ("--no-fold", "--seed=1"):
        code, _, stderr = here("run", "--suite", suite, "--out", tmp_path / "out", option)
        assert code == 1 and "layer 3" in stderr and "latent 7 (0)" in stderr and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="metric must be one of"):
        run(suite, layers=[2, 5], out=tmp_path / "out", metric="foo")
    assert not (tmp_path / "out").exists()


def test_home_folders_are_expanded(suite, tmp_path, here, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert here("run", "--suite", "~/my saes", "--layers", "2,3", "--out", "~/o")[0] == 0
    assert (tmp_path / "o" / "pairs.parquet").is_file()


def test_a_suite_is_shared_by_threads_and_not_by_its_copies(suite):
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    from saematch import load_suite

    s = load_suite(suite)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda k: s[s.layers[k % 4]].layer == s.layers[k % 4], range(200)))
    assert replace(s, dtype=torch.float64)[2].dtype == torch.float64


def test_one_sparsity_of_each_layer_and_half_precision(tmp_path, here):
    for name in ("layer_3/average_l0_12", "layer_3/average_l0_40", "layer_4/average_l0_15", "layer_4/average_l0_90"):
        save_sae(random_sae(8, 20), tmp_path / "suite" / f"{name}.safetensors")
    code, out, _ = here("info", tmp_path / "suite", "--l0", 14)
    assert code == 0 and "layer 3: 12, layer 4: 15" in out
    quick = ("--variants", "none", "--no-lineages", "--dtype", "bfloat16", "--out", tmp_path / "out")
    code, out, _ = here("run", "--suite", tmp_path / "suite", "--l0", 50, *quick)
    assert code == 0 and "layer 3: 40, layer 4: 15" in out
    assert all("average_l0_" in s for s in json.loads((tmp_path / "out" / "run.json").read_text())["sources"].values())
    code, _, said = here("run", "--suite", tmp_path / "suite", "--l0", -3)
    assert code == 2 and "above 0, not -3" in said


def test_a_pattern_that_is_no_regular_expression_is_a_mistake_of_the_caller(here):
    pytest.importorskip("sae_lens")
    code, out, err = here("releases", "gemma(")
    assert code == 2 and "'gemma(' is no regular expression" in err and not out


@pytest.mark.parametrize(
    "line, offered",
    (("saematch ru", "run"), ("saematch run --met", "--method"), ("saematch match --method gr", "greedy")),
)
def test_a_shell_completes(line, offered, tmp_path):
    "Commands, options and choices, as argcomplete asks for them."
    out = tmp_path / "said"
    asked = dict(_ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE="9", IFS="\n")
    subprocess.run(
        [sys.executable, "-m", "saematch"],
        env=os.environ | asked | dict(_ARGCOMPLETE_IFS="\n", _ARGCOMPLETE_STDOUT_FILENAME=str(out)),
        check=True,
    )
    assert offered in out.read_text().split()
