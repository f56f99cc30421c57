"""What the parts of a run cost: writes saematch/cost.json, from which `saematch.studies.cost` reckons.

python nbs/making/make_cost.py [--only match,load,lineages,strangers,report,start,cards,calls,model]

About fifteen minutes on one core; what is measured already is kept. Each part runs in a process of its own with one
thread, and is counted in CPU seconds, so that other work on the machine matters little. Beside each stands the speed
of a float32 product of matrices at that moment, in which the costs are expressed. The part `model` needs the language
model of the embedded suite. What an evaluation adds to a report is taken from benchmarks/README.md, see `CALLS`.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from saematch.ground import read_json, write_json
from saematch.judging.depth import forks_of, listed, null_worlds, tables, thresholds_of
from saematch.matching.names import NAMES, group
from saematch.matching.select import World
from saematch.saes.files import load_sae, save_sae
from saematch.saes.suite import fingerprint, load_suite
from saematch.saes.toys import planted, planted_suite, random_sae
from saematch.studies.benchmark import measured
from saematch.studies.matches import match_all
from saematch.studies.options import Options, Trial
from saematch.studies.plan import Task, check_run
from saematch.studies.run import followed, run

FILE = Path(__file__).parents[2] / "saematch" / "cost.json"
DECODED = {n.key: n.change for n in NAMES.values() if n.change} | {"match": {}} | {name: {} for name in group("null")}
SIZES = [(n, d) for d in (64, 576) for n in (1024, 2048, 4096, 8192)] + [(2048, 2304)]
SUITES = [(2, 1024, 256), (2, 4096, 256), (2, 4096, 576), (2, 2048, 1152), (4, 1024, 256), (8, 256, 256),
          (8, 1024, 256), (12, 512, 256), (20, 256, 256), (2, 8192, 1152)]  # fmt: skip


def speed() -> float:
    "Flops a second of float32 products of matrices, now."
    x = torch.randn(1024, 1024)
    x @ x
    begun = time.process_time()
    for _ in range(6):
        x @ x
    return 6 * 2 * 1024**3 / (time.process_time() - begun)


def alone(work, *args) -> list[dict]:
    "The rows that `work` gives, from a process of its own."
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, args)


def row(kind: str, work, **size):
    "(what the work gives, its row)"
    flops = speed()
    found, seconds, held = measured(work)
    return found, dict(kind=kind, **size, seconds=seconds, bytes=held, flops=flops)


def a_match(name: str, n: int, d: int) -> list[dict]:
    a = random_sae(d, n, seed=0, dtype=torch.float32)
    b = planted(a, decoder_noise=0.8, encoder_noise=0.8, replaced=0.2, seed=1).sae
    task = Task(0, 1, name, replace(Options(dead="keep"), **DECODED[name]))
    return [row(name, lambda: task.match(a, b), latents=n, d_model=d)[1]]


def a_load(n: int, d: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        save_sae(random_sae(d, n, dtype=torch.float32), path := Path(folder) / "layer_0.safetensors")
        return [row("load", lambda: fingerprint(load_sae(path)), latents=n, d_model=d)[1]]


def a_suite(layers: int, n: int, d: int) -> list[dict]:
    size, rows = dict(layers=layers, latents=n, d_model=d), []
    pool = random_sae(d, n * (2 + layers // 4), seed=0, dtype=torch.float32)
    suite = planted_suite(pool, layers=layers, width=n, noise=0.5, death=0.1, gap=0.02, seed=0).suite

    def keep(kind, work):
        found, new = row(kind, work, **size)
        rows.append(new)
        return found

    real = tables(suite)
    sims = keep("pairs", lambda: listed(real, 0.25))
    worlds = keep("nulls", lambda: {k: null_worlds(suite, k) for k in ("rotation", "signs")})
    there = {k: [listed(w.rows, 0.25) for w in ws] for k, ws in worlds.items()}
    limits = keep("thresholds", lambda: thresholds_of(sims, there, 0.1, 0.25))
    tau = torch.tensor([[limits.get(abs(x - y), 1.0) for y in range(layers)] for x in range(layers)])
    keep("search", lambda: World(sims.above_all(tau.double())))
    keep("forks", lambda: forks_of(suite, 0))
    return rows


def strangers_searched(layers: int, n: int, d: int) -> list[dict]:
    "The search in a world in which there is nothing to find: few pairs are listed, and one sweep finds no better way."
    pool = random_sae(d, n * (2 + layers // 4), seed=0, dtype=torch.float32)
    suite = planted_suite(pool, layers=layers, width=n, noise=0.5, death=0.1, gap=0.02, seed=0).suite
    there = {k: [listed(w.rows, 0.25) for w in null_worlds(suite, k)] for k in ("rotation", "signs")}
    limits = thresholds_of(listed(tables(suite), 0.25), there, 0.1, 0.25)
    tau = torch.tensor([[limits.get(abs(x - y), 1.0) for y in range(layers)] for x in range(layers)]).double()
    search = lambda: World(there["rotation"][0].above_all(tau))
    return [row("null search", search, layers=layers, latents=n, d_model=d)[1]]


def a_start(n: int, d: int) -> list[dict]:
    "A process of its own that imports what a run imports."
    code = "from saematch.studies.run import run; from saematch.studies import figures"
    of_children = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    flops, before = speed(), of_children()
    subprocess.run([sys.executable, "-c", code], check=True)
    held = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return [dict(kind="start", latents=n, d_model=d, seconds=of_children() - before, bytes=held, flops=flops)]


def with_cards(layers: int, n: int, d: int) -> list[dict]:
    "What a report shows of lineages where a suite has cards: cards side by side, and the page of the explorer."
    suite = load_suite("smollm2-135m-resid")
    some = suite.layers[:layers]
    hashes = {str(l): fingerprint(suite[l]) for l in some}
    with tempfile.TemporaryDirectory() as folder:
        found = match_all(suite, check_run(suite, some, Options(), "none", True), Path(folder), hashes, 1)
        show = lambda: followed(found, dict(weights_sha256=hashes), Path(folder), 0.05)
        show()  # the lineages are found, and read from their file from now on
        return [row("cards", show, layers=layers, latents=n, d_model=d)[1]]


def a_report(layers: int, n: int, d: int) -> list[dict]:
    pool = random_sae(d, n * (2 + layers // 4), seed=0, dtype=torch.float32)
    suite = planted_suite(pool, layers=layers, width=n, noise=0.5, death=0.1, gap=0.02, seed=0).suite
    with tempfile.TemporaryDirectory() as folder:
        for layer, sae in suite.items():
            save_sae(sae, Path(folder) / "suite" / f"layer_{layer}.safetensors")
        again = lambda: run(f"{folder}/suite", out=f"{folder}/out", jobs=1, dead="keep")
        again()
        disk = sum(p.stat().st_size for p in Path(folder, "out").rglob("*") if p.is_file())
        return [row("report", again, layers=layers, latents=n, d_model=d)[1] | dict(disk=disk)]


CALLS = dict(lineages=44.5, nothing=63.0)  # CPU seconds of benchmarks/README.md, "What a plan says": what calls took
MEASURED = dict(layers=3, latents=2048, d_model=576, last=16, tokens=6 * 256)  # of these calls; tokens to fit on
SPEED, HELD = 62e9, 2**31  # at that moment; bytes of a process with the language model ("Judging on a language model")


def judged() -> list[dict]:
    """What an evaluation adds to a report: the language model is loaded, its tables are made and drawn.

    A difference: the call that has nothing left to do, less the one that makes lineages, whose report lacks it, plus
    the lineages, less what is fitted to text once more.
    """
    from saematch.studies.ahead import cost
    from saematch.studies.cost import Machine, Size, seconds

    m, size = Machine("", 1, 0, SPEED), Size(**MEASURED)
    parts = cost(size.layers, size.latents, size.d_model, m).frame()
    more = parts[parts.part == "lineages"].core_seconds.sum() - sum(seconds(k, size, m) for k in ("fit", "pairing"))
    took = float(CALLS["nothing"] - CALLS["lineages"] + more)
    return [dict(kind="judged", **MEASURED, seconds=took, bytes=HELD, flops=SPEED)]


def an_evaluation() -> list[dict]:
    from saematch.judging.sums import measure
    from saematch.model.lm import load_lm
    from saematch.model.text import load_text, tokenize
    from saematch.studies.fitting import fit
    from saematch.studies.matches import Matches, match_all
    from saematch.studies.passes import pairs_of
    from saematch.studies.plan import check_run

    suite, rows, lm, trial = load_suite("smollm2-135m-resid"), [], load_lm("smollm2-135m"), Trial()
    options = Options()
    tokens = tokenize(lm, load_text("prose", 24), 256)
    with tempfile.TemporaryDirectory() as folder:
        hashes = {str(l): fingerprint(suite[l]) for l in suite}
        found = match_all(suite, check_run(suite, suite.layers, options), Path(folder), hashes, 1)
    for layers, documents, losses in [(2, 4, 1), (2, 12, 0), (4, 4, 1), (6, 4, 0), (6, 12, 0)]:
        some = suite.layers[:layers]
        part = Matches(suite, some, {k: v for k, v in found.found.items() if set(k) <= set(some)})
        size = dict(layers=layers, latents=2048, d_model=576, last=some[-1], blocks=lm.cfg.n_layers,
                    vocabulary=lm.cfg.d_vocab)  # fmt: skip
        count = lambda t: dict(tokens=int(t.lengths.sum()))
        fitted, new = row("fit", lambda: fit(lm, tokens[12 : 12 + documents], some), **size,
                          **count(tokens[12 : 12 + documents]))  # fmt: skip
        rows.append(new)
        pairs, new = row("pairing", lambda: pairs_of(part, fitted, trial, vars(options)), **size,
                         **count(tokens[12 : 12 + documents]))  # fmt: skip
        rows.append(new)
        for kind, some_tokens in (("chunk", tokens[:documents]), ("losses", tokens[:losses])):
            if kind == "chunk" or losses:
                judge = lambda t=some_tokens, k=kind: measure(lm, pairs, t, fitted.limits, k == "losses")
                rows.append(row(kind, judge, **size, **count(some_tokens))[1])
    return rows


PARTS = dict(
    match=[(a_match, name, n, d) for name in DECODED for n, d in SIZES] + [(a_match, "match", 16384, 576)],
    load=[(a_load, n, d) for n, d in SIZES],
    lineages=[(a_suite, *size) for size in SUITES],
    strangers=[(strangers_searched, *size) for size in SUITES if size[0] > 2],
    start=[(a_start, 1, 1)],
    cards=[(with_cards, layers, 2048, 576) for layers in (2, 3)],
    calls=[(judged,)],
    report=[(a_report, *size) for size in [(3, 256, 256), (6, 512, 256), (3, 2048, 256), (10, 256, 256)]],
    model=[(an_evaluation,)],
)


def fits(r: dict, args: list) -> bool:
    "Whether a row is of these arguments: a name, layers, latents, d_model, as far as they are among them."
    name, size = next((a for a in args if isinstance(a, str)), None), [a for a in args if not isinstance(a, str)]
    keys = ("layers", "latents", "d_model")[-len(size) :]
    return (name is None or r["kind"] == name) and [r.get(k) for k in keys] == size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS))
    only = parser.parse_args().only.split(",")
    torch.set_num_threads(1)
    known = read_json(FILE)["parts"] if FILE.exists() else {}
    machine = dict(machine=platform.machine(), cores=os.cpu_count(), torch=torch.__version__)
    for part in only:
        done = known.setdefault(part, [])
        for work, *args in PARTS[part]:
            if any(fits(r, args) for r in done) if args else done:
                continue
            done += alone(work, *args)
            print(part, args, json.dumps(known[part][-1]), flush=True)
            date = time.strftime("%Y-%m-%d")
            write_json(FILE, dict(format="saematch.cost/1", measured=date, on=machine, parts=known))


if __name__ == "__main__":
    main()
