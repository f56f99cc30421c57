"""Make `nbs/data/benchmark.parquet`: every matcher on planted worlds, on seeds of one layer, and on pairs of layers.

    python make_benchmark.py OUT

OUT keeps hidden states and finished cells, so run it again if it was stopped. About half an hour on one core.
"""

import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from saematch.judging.worlds import seed_worlds
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text
from saematch.saes.suite import load_suite
from saematch.studies.benchmark import benchmark
from saematch.studies.measure import read_effects, read_states, worlds_of
from saematch.studies.tables import write_table

DATA, DOCUMENTS = Path(__file__).parents[1] / "data", 20


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    suite = replace(load_suite("smollm2-135m-resid"), keep=6)
    same, other = (load_suite(DATA / f"smollm2-135m-{name}") for name in ("sameseed", "diffseed"))
    lm = load_lm("smollm2-135m")
    texts = [t for source in TEXTS for t in load_text(source, DOCUMENTS)]
    layers = sorted({*suite.layers, *(set(same) & set(other))})
    states = read_states(lm, texts, layers, out / "states.safetensors", progress=True)
    effects = read_effects(lm, suite, texts, out)
    worlds = chain(
        worlds_of(suite, ("planted",)),
        seed_worlds(same, other, {l: states[f"layer_{l}"] for l in same if l in other}, states["document"]),
        worlds_of(suite, ("layers",), states=states, unembedding=lm.W_U.detach(), effects=effects),
    )
    found = benchmark(worlds, out=out, progress=True)
    numbers = found.table.select_dtypes("number").columns
    write_table(DATA / "benchmark.parquet", found.table.assign(**found.table[numbers].astype("float32").round(4)))


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
