"""How the time and memory of lineages grow with layers and width, and what that makes of a whole model.

    python benchmarks/lineages.py [--layers 4,8,16,26] [--width 2048] [--widths 2048,4096,8192,16384] [--d-model 576]
    python benchmarks/lineages.py --full              # one pair of layers and one sweep at full size
    python benchmarks/lineages.py --sweep 26x2048     # the search alone, on a planted list
    python benchmarks/lineages.py --whole FOLDER [--size 26x16384x2304]  # a planted suite on disk, all of `lineages`
    python benchmarks/lineages.py --device cuda       # products on a GPU

Planted suites of random directions, in which a tenth of the latents dies at each step; each in a process of its own.
Prints a Markdown table of CPU seconds (on a GPU: seconds) and peak memory: the listing of similarities (the products of
all pairs of layers), the search with its bound, and `lineages` with all nulls. Then the fitted growth, and the whole
model by the measured speed of its parts. What is extrapolated is called so.

`--whole` writes the suite to FOLDER in bfloat16 and keeps there what is finished: again, it goes on and says so.
Memory is `RssAnon`, as in large.py: mapped weights belong to the page cache.
"""

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from itertools import combinations
from pathlib import Path

import torch
from large import Watch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from saematch import lineages, load_suite, save_sae
from saematch.judging.depth import directions, pieces_of
from saematch.lap.above import pairs_above
from saematch.lap.similarities import Similarities, memory_needed
from saematch.matching.joint import Joint, joined, upper_bound
from saematch.saes.sae import SAE

LARGE = (26, 16_384, 2_304)
TAU = 0.3


def clock(work):
    "(CPU seconds or, on a GPU, seconds; result)"
    cuda = torch.cuda.is_available()
    now = time.perf_counter if cuda else time.process_time
    start = now()
    result = work()
    if cuda:
        torch.cuda.synchronize()
    return now() - start, result


def peak() -> float:
    "GiB of memory this process had at most."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def flops(layers, width, d_model) -> float:
    "Multiplications and additions of the products of all pairs of layers."
    return layers * (layers - 1) * width**2 * d_model


def measured(folder, layers, width, d_model, device) -> dict:
    "Listing, search with bound, and everything."
    write_suite(folder / "suite", layers, width, d_model)
    suite = load_suite(folder / "suite", dtype=torch.bfloat16)
    rows = [directions(s).to(device) for s in suite.values()]
    tau, base = torch.full((layers, layers), TAU, dtype=torch.float64), peak()
    listing, sims = clock(lambda: Similarities(rows, tau))
    search, (_, s) = clock(lambda: joined(sims))
    bound, most = clock(lambda: upper_bound(sims))
    search_peak = peak()
    everything, t = clock(lambda: lineages(suite))
    return dict(
        layers=layers,
        width=width,
        listing=listing,
        search=search,
        bound=bound,
        everything=everything,
        pairs=len(sims.p),
        sweeps=len(s.history) - 1,
        reached=s.objective / most,
        before=base,
        peak_search=search_peak,
        peak=peak(),
    )


class Planted(Similarities):
    "Similarities that are planted and not computed, all above the threshold listed: what the search sees at full size."

    def list_pairs(self, work, digests, tell):
        g, (L, n) = torch.Generator().manual_seed(0), (len(self.rows), len(self.rows[0]))
        name = torch.stack([torch.randperm(n, generator=g) for _ in range(L)])  # latent of each feature
        alive = torch.rand(L, n, generator=g).cumsum(0) < torch.rand(n, generator=g) * L
        keys = []
        for x, y in combinations(range(L), 2):
            k = (alive[x] & alive[y] & (torch.rand(n, generator=g) < 0.97 ** (y - x))).nonzero()[:, 0]
            i, j = name[x][k], name[y][k]
            relatives = torch.rand(len(k), generator=g) < 0.3  # a third has a second candidate
            other = torch.randint(0, n, (int(relatives.sum()),), generator=g)
            p, q = torch.cat([i, i[relatives]]) + self.first[x], torch.cat([j, other]) + self.first[y]
            keys.append(p * self.count + q)
        key = torch.cat(keys).unique()
        return dict(key=key, value=TAU + 0.4 * torch.rand(len(key), generator=g, dtype=torch.float64))

    def product(self, key):
        return TAU - 0.3 * (key.double() * 0.6180339887498949 % 1)  # below it, the same whenever it is asked for


def one_pair(width, d_model, device) -> tuple:
    "(seconds to list a pair of layers of full size, GFlop/s)"
    g = torch.Generator().manual_seed(0)
    X, Y = (torch.nn.functional.normalize(torch.randn(width, d_model, generator=g), dim=1).to(device) for _ in "XY")
    seconds, _ = clock(lambda: pairs_above(X, Y, TAU))
    return seconds, 2 * width**2 * d_model / seconds / 1e9


def one_sweep(layers, width) -> dict:
    "The search until nothing improves, on a planted list: the same list whatever code searches it."
    rows = [torch.zeros(width, 1) for _ in range(layers)]
    sims = Planted(rows, torch.full((layers, layers), TAU, dtype=torch.float64))
    search = Joint(sims)
    start, s = clock(lambda: search.init())
    sweep, s = clock(lambda: search.step(s))
    first, objective = sweep, s.objective
    while not s.done:
        more, s = clock(lambda s=s: search.step(s))
        sweep += more
    bound, most = clock(lambda: upper_bound(sims))
    times = dict(chain=start, first=first, search=sweep, sweeps=len(s.history) - 1, bound=bound)
    return dict(pairs=len(sims.p), **times, first_objective=objective, objective=s.objective, peak=peak())


def write_suite(folder: Path, layers: int, width: int, d_model: int, noise: float = 0.7, death: float = 0.1) -> list:
    "A planted suite in bfloat16, of random directions that turn from layer to layer; the feature of each latent."
    if (known := folder.with_name("truth.safetensors")).exists():
        return list(load_file(known)["truth"])
    g = torch.Generator().manual_seed(0)
    draw = lambda n: normalize(torch.randn(n, d_model, generator=g), dim=1)
    rows, feature, many, truth = draw(width), torch.arange(width), width, []
    for layer in range(layers):
        order = torch.randperm(width, generator=g)
        truth.append(feature[order])
        path = folder / f"layer_{layer:02}.safetensors"
        encoder = normalize(rows + 0.5 * draw(width), dim=1)
        threshold = (0.3 * torch.randn(width, generator=g)).exp()
        if not path.exists():
            parts = dict(W_enc=encoder[order].T.contiguous(), W_dec=rows[order], threshold=threshold)
            parts |= dict(b_enc=torch.zeros(width), b_dec=torch.zeros(d_model))
            save_sae(SAE(**{k: p.bfloat16() for k, p in parts.items()}, info=dict(layer=layer)), path)
        rows = normalize(rows + noise * draw(width), dim=1)
        born = torch.rand(width, generator=g) < death
        new = int(born.sum())
        rows[born], feature, many = draw(new), feature.index_put((born,), many + torch.arange(new)), many + new
    save_file(dict(truth=torch.stack(truth)), known)
    return truth


def found_of(t, truth) -> tuple[float, float]:
    "(share of the links that join two latents of one feature, share of all true neighbours that are joined)"
    k, x = (t.members >= 0).nonzero(as_tuple=True)
    feature = torch.stack(truth)[x, t.members[k, x]]
    same, joined = (feature[1:] == feature[:-1]), (k[1:] == k[:-1])
    alike = len(feature) - len(feature.unique())  # a feature of n layers has n - 1 true links
    return float((same & joined).sum() / joined.sum()), float((same & joined).sum() / alike)


class Spent(threading.Thread):
    "CPU seconds of this call and of those before it that were killed: a file for each, written every few seconds."

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.first = folder, time.process_time()
        self.file = folder / f"cpu-{time.time_ns()}.txt"
        self.start()

    def note(self):
        self.file.write_text(f"{time.process_time() - self.first}")

    def run(self):
        while True:
            self.note()
            time.sleep(5)

    def all(self) -> float:
        self.note()
        return sum(float(f.read_text() or 0) for f in self.folder.glob("cpu-*.txt"))


def whole(folder: Path, layers: int, width: int, d_model: int) -> None:
    "The whole model, measured."
    truth = write_suite(folder / "suite", layers, width, d_model)
    suite, work = load_suite(folder / "suite", dtype=torch.bfloat16), folder / "work"
    again = f", going on from {len(list(work.iterdir()))} files" if work.exists() else ""
    watch, wall = Watch(), time.perf_counter()
    spent = Spent(folder)
    print(f"{layers} x {width:,} x {d_model:,}{again}", flush=True)
    t = lineages(suite, work=work, progress=True)
    cpu, wall = spent.all(), time.perf_counter() - wall
    right, found = found_of(t, truth)
    print(f"{cpu:,.0f} CPU s in all calls, {wall:,.0f} s in this one, {watch.most - watch.before:.2f} GiB; ", end="")
    print(f"{right:.2%} of the links are right, {found:.2%} of the true ones found; ", end="")
    print(f"{t.objective / t.bound:.2%} of the bound")
    print(t.summary().to_string())
    t.save(folder / "lineages.safetensors")


def in_process(*args) -> dict:
    "What this script measures in a process of its own."
    out = subprocess.run([sys.executable, __file__, *map(str, args)], capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def growth(rows, by, what) -> float:
    "The exponent with which `what` grows with `by`, by least squares."
    x, y = (torch.tensor([math.log(r[k]) for r in rows], dtype=torch.float64) for k in (by, what))
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def table(sizes, d_model, device):
    "Rows of measurements, printed as they come."
    names = ["layers", "width", "listing, s", "search, s", "bound, s", "with nulls, s", "pairs listed", "sweeps"]
    print(f"| {' | '.join([*names, 'of the bound', 'peak, GiB'])} |\n|{'---|' * 10}")
    rows = []
    for layers, width in sizes:
        r = in_process("--one", f"{layers}x{width}", "--d-model", d_model, "--device", device)
        times = " | ".join(f"{r[k]:.2f}" for k in ("listing", "search", "bound", "everything"))
        shown = f"{r['pairs']:,} | {r['sweeps']} | {r['reached']:.1%} | {r['peak']:.2f}"
        print(f"| {layers} | {width:,} | {times} | {shown} |", flush=True)
        rows.append(r)
    return rows


def full(device):
    "Parts of full size, and the whole by their speed."
    layers, width, d_model = LARGE
    seconds, speed = one_pair(width, d_model, device)
    pairs = layers * (layers - 1) // 2
    print(f"one pair of layers, {width:,} x {width:,} x {d_model:,}: {seconds:.1f} s, {speed:.0f} GFlop/s")
    s = in_process("--sweep", f"{layers}x{width}")
    print(
        f"search at {layers} x {width:,}: {s['search']:.0f} s for {s['sweeps']} sweeps on {s['pairs']:,} pairs ",
        end="",
    )
    print(f"({s['peak']:.1f} GiB), start {s['chain']:.0f} s, bound {s['bound']:.0f} s")
    worlds = min(2, pieces_of(width)) / pieces_of(width) ** 2  # rotation and signs, each
    listing, nulls = pairs * seconds, pairs * seconds * (2 * worlds + 2 / layers)
    forks = seconds * 2 * (layers - 1 + layers / 2)  # rows of encoder and decoder: each layer with the next, and itself
    hours = lambda t: f"{t / 3600:.2f} h"
    print(f"\n{layers} x {width:,} x {d_model:,}, extrapolated and not measured, seconds as above:")
    print(f"listing {hours(listing)}, nulls {hours(nulls)}, splits and merges {hours(forks)}, ", end="")
    print(f"search with start and bound {hours(s['chain'] + s['search'] + s['bound'])}.")
    print(
        f"Memory by `memory_needed`: {memory_needed([width] * layers, d_model) / 2**30:.1f} GiB with rows in memory, ",
        end="",
    )
    print(f"{memory_needed([width] * layers, d_model, held=False) / 2**30:.1f} GiB with rows made from mapped weights.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="4,8,16,26")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--widths", default="2048,4096,8192,16384")
    parser.add_argument("--few", type=int, default=3, help="layers at which width grows")
    parser.add_argument("--d-model", type=int, default=576)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--whole", type=Path, metavar="FOLDER")
    parser.add_argument("--size", default="x".join(map(str, LARGE)), help="of --whole")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--sweep", metavar="LxN", help="one sweep of the search on a planted list, without products")
    a = parser.parse_args()
    if a.one:
        with tempfile.TemporaryDirectory() as folder:
            return print(json.dumps(measured(Path(folder), *map(int, a.one.split("x")), a.d_model, a.device)))
    if a.sweep:
        return print(json.dumps(one_sweep(*map(int, a.sweep.split("x")))))
    device = torch.cuda.get_device_name() if a.device == "cuda" else "cpu"
    print(f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), {device}, d_model {a.d_model}\n")
    if a.whole:
        return whole(a.whole, *map(int, a.size.split("x")))
    if a.full:
        return full(a.device)
    numbers = lambda text: [int(k) for k in text.split(",")]
    deep = table([(l, a.width) for l in numbers(a.layers)], a.d_model, a.device)
    print()
    wide = table([(a.few, w) for w in numbers(a.widths)], a.d_model, a.device)
    print()
    for what in ("listing", "search", "everything"):
        x, y = growth(deep, "layers", what), growth(wide, "width", what)
        print(f"{what}: layers^{x:.2f}, width^{y:.2f}")


if __name__ == "__main__":
    main()
