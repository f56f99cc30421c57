"""Memory and time of matching two SAEs that lie on disk in half precision, and what that makes of 262,144 latents.

    python benchmarks/large.py [--widths 8192,16384,32768] [--d-model 2560] [--weights decoder] [--folder FOLDER]

Planted pairs in SAELens' layout, bfloat16, written to FOLDER (a temporary one if none is given) and matched, each in a
process of its own. No products are kept, as at sizes where they would not fit. Memory is `RssAnon` of
/proc/self/status, looked at every 10 ms, less what it was after the import: mapped files are left out, for they
belong to the page cache. Prints a Markdown table, what `memory_needed` says, the fit by width and the extrapolation,
called so.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from saematch import assign, load_sae
from saematch.lap.assign import memory_needed
from saematch.matching.descriptors import described

LARGE = 262_144


def write_pair(folder: Path, n: int, d: int) -> None:
    "Two planted SAEs: the second has the directions of the first, shuffled, with noise as long as 0.8 of them."
    g = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(n, d, generator=g), dim=1)
    for side in range(2):
        path = folder / f"{n}x{d}" / f"layer_{side}"
        if side:
            noise = normalize(torch.randn(n, d, generator=g), dim=1).mul_(0.8)
            rows = normalize(rows.add_(noise), dim=1)[torch.randperm(n, generator=g)]
        if path.exists():
            continue
        path.mkdir(parents=True)
        encoder = rows.bfloat16().T.contiguous()
        vectors = dict(b_enc=0.1 * torch.randn(n, generator=g), threshold=(0.3 * torch.randn(n, generator=g)).exp())
        tensors = dict(W_enc=encoder, W_dec=rows, b_dec=torch.randn(d, generator=g), **vectors)
        save_file({k: p.bfloat16() for k, p in tensors.items()}, path / "sae_weights.safetensors")
        cfg = dict(architecture="jumprelu", d_in=d, d_sae=n, apply_b_dec_to_input=False)
        (path / "cfg.json").write_text(
            json.dumps(cfg | dict(metadata=dict(hook_name=f"blocks.{side}.hook_resid_post")))
        )


def anonymous() -> float:
    "GiB of memory of this process that is no mapped file."
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


class Watch(threading.Thread):
    "The most memory seen."

    def __init__(self):
        super().__init__(daemon=True)
        self.before = self.most = anonymous()
        self.start()

    def run(self):
        while True:
            self.most = max(self.most, anonymous())
            time.sleep(0.01)


def measured(folder: Path, n: int, d: int, weights: str) -> dict:
    "Load, describe, assign."
    watch, start = Watch(), time.process_time()
    a, b = (load_sae(folder / f"{n}x{d}" / f"layer_{k}", dtype=torch.bfloat16) for k in range(2))
    every = torch.arange(n)
    _, X, Y = described(a, b, (every, every), weights=weights)
    found = assign(X, Y, keep=False)
    need = memory_needed(n, n, X.shape[1], made=True) / 2**30
    passes = found.history[-1]["passes"]
    seconds = time.process_time() - start
    return dict(n=n, seconds=seconds, passes=passes, peak=watch.most - watch.before, need=need, status=found.status)


def fitted(rows: list[dict], what: str, power: float) -> tuple[float, float]:
    "a, b of `what` = a + b n^power, by least squares."
    A = torch.tensor([[1.0, r["n"] ** power] for r in rows], dtype=torch.float64)
    y = torch.tensor([r[what] for r in rows], dtype=torch.float64)
    return tuple(torch.linalg.lstsq(A, y[:, None]).solution[:, 0].tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="8192,16384,32768")
    parser.add_argument("--d-model", type=int, default=2560)
    parser.add_argument("--weights", default="decoder")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        return print(json.dumps(measured(a.folder, a.one, a.d_model, a.weights)))
    with tempfile.TemporaryDirectory() as scratch:
        folder, rows = a.folder or Path(scratch), []
        threads = torch.get_num_threads()
        print(f"{date.today()}, {platform.machine()}, {threads} thread(s), d_model {a.d_model}, {a.weights}\n")
        print("| latents | CPU s | passes over all pairs | peak, GiB | `memory_needed`, GiB | status |")
        print("| --- | --- | --- | --- | --- | --- |")
        for n in map(int, a.widths.split(",")):
            write_pair(folder, n, a.d_model)
            args = ["--one", n, "--folder", folder, "--d-model", a.d_model, "--weights", a.weights]
            out = subprocess.run([sys.executable, __file__, *map(str, args)], capture_output=True, text=True)
            if out.returncode:
                raise SystemExit(out.stderr)
            rows.append(r := json.loads(out.stdout.splitlines()[-1]))
            sizes = f"{r['passes']:.1f} | {r['peak']:.2f} | {r['need']:.2f}"
            print(f"| {n:,} | {r['seconds']:.0f} | {sizes} | {r['status']} |", flush=True)
    if len(rows) > 1:
        (c, k), (s, q) = fitted(rows, "peak", 1), fitted(rows, "seconds", 2)
        exponent = math.log(rows[-1]["seconds"] / rows[-2]["seconds"]) / math.log(rows[-1]["n"] / rows[-2]["n"])
        print(
            f"\npeak = {c:.2f} GiB + {k * 2**30:,.0f} bytes a latent; time grew with n^{exponent:.2f} at the last step"
        )
        hours = (s + q * LARGE**2) / 3600
        print(f"{LARGE:,} latents, extrapolated and not measured: {c + k * LARGE:.1f} GiB, {hours:.1f} CPU hours")


if __name__ == "__main__":
    main()
