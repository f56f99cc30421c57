"""Loading and folding an SAE of 16,384 x 2,304 against reading its file.

    python benchmarks/load.py [--runs 5]

Prints a Markdown table: median seconds, the medians of their ratios to reading the file's bytes (one core) and to
copying its tensors with all cores, and peak MiB beyond the imports, each way in a process of its own, the file in the
page cache.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path


def one(how: str, folder: str):
    "Load in one way; print seconds and peak memory beyond the imports as a JSON line."
    from safetensors.torch import load_file

    from saematch import fold, load_sae

    fold(load_sae(Path(folder) / "tiny"))  # import what is lazy
    rss = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
    before, start = rss(), time.perf_counter()
    if how == "read":
        kept = (Path(folder) / "wide" / "sae_weights.safetensors").read_bytes()
    elif how == "copy":
        kept = {k: t.clone() for k, t in load_file(Path(folder) / "wide" / "sae_weights.safetensors").items()}
    else:
        kept = load_sae(Path(folder) / "wide")
        kept = fold(kept) if how == "load and fold" else kept
    print(
        json.dumps(
            dict(
                seconds=time.perf_counter() - start,
                mib=rss() - before,
                kept=len(kept) > 0 if isinstance(kept, bytes) else len(repr(kept)) > 0,
            )
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one(*asked.one)
    import torch
    from safetensors.torch import save_file

    from saematch import random_sae

    ways = ("read", "copy", "load", "load and fold")
    with tempfile.TemporaryDirectory() as folder:
        for name, d, n in (("wide", 2304, 16384), ("tiny", 4, 8)):
            (Path(folder) / name).mkdir()
            save_file(
                {k: p.contiguous() for k, p in random_sae(d, n, dtype=torch.float32).parameters().items()},
                Path(folder) / name / "sae_weights.safetensors",
            )
            (Path(folder) / name / "cfg.json").write_text(
                json.dumps(dict(architecture="jumprelu", d_in=d, d_sae=n, apply_b_dec_to_input=False))
            )
        found = {way: [] for way in ways}
        for _ in range(asked.runs):
            for way in ways:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", way, folder], capture_output=True, text=True, check=True
                )
                found[way].append(json.loads(done.stdout))
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, medians of {asked.runs} runs\n"
    )
    middle = {way: {k: statistics.median(r[k] for r in found[way]) for k in ("seconds", "mib")} for way in ways}
    print("| | seconds | of reading | of copying | quickest run | peak MiB |\n| --- | --- | --- | --- | --- | --- |")
    for way, m in middle.items():  # ratios of runs that followed each other: the machine's speed changes
        of = {
            base: statistics.median(r["seconds"] / b["seconds"] for r, b in zip(found[way], found[base]))
            for base in ("read", "copy")
        }
        print(
            f"| {way} | {m['seconds']:.3f} | {of['read']:.2f} | {of['copy']:.2f} |"
            f" {min(r['seconds'] for r in found[way]):.3f} | {m['mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
