"""Lineages of the embedded suite: writes nbs/data/lineages.safetensors and nbs/data/lineage_weights.parquet.

python nbs/making/make_lineages.py    about a minute on one core

The first holds all that the search finds, and notebooks choose a rate: `Lineages.load(...).cut(0.05)`. That it is what
`lineages` finds is checked in judging/11_depth. The second says what decoder, encoder and both together give at a rate
of 5 %, and how often later members fire where earlier ones do (Matching Score) on the shipped hidden states, by span;
beside it the same for strangers: each later member is that of another lineage.
"""

from itertools import combinations
from pathlib import Path

import pandas as pd
import torch

from saematch import lineages, load_suite
from saematch.ground import read_safetensors
from saematch.judging.splits import BOTH
from saematch.studies.tables import write_table

DATA = Path(__file__).parents[1] / "data"
WAYS = {"decoder": "decoder", "encoder": "encoder", "both": BOTH}


def scores(t, fires):
    "Pairs of members of one lineage, by span: how many, their Matching Score, and that of strangers."
    rows = []
    for x, y in combinations(range(len(t.layers)), 2):
        i, j = t.members[(t.members[:, [x, y]] >= 0).all(1)][:, [x, y]].T
        A, B = fires[t.layers[x]][:, i], fires[t.layers[y]]
        both, chance = ((A & B[:, k]).sum() for k in (j, j.roll(1)))
        rows.append(dict(span=y - x, pairs=len(i), fired=int(A.sum()), both=int(both), chance=int(chance)))
    table = pd.DataFrame(rows).groupby("span").sum()
    return table.assign(score=table.both / table.fired, strangers=table.chance / table.fired).reset_index()


def main():
    suite = load_suite("smollm2-135m-resid")
    hidden, _ = read_safetensors(DATA / "hidden_states.safetensors")
    fires = {layer: suite[layer].encode(hidden[f"layer_{layer}"][hidden["keep"]].float()) > 0 for layer in suite}
    tables = []
    for way, weights in WAYS.items():
        everything = lineages(suite, q=1, weights=weights)
        if way == "decoder":
            everything.save(DATA / "lineages.safetensors")
        t = everything.cut(0.05)
        kept, whole = int((t.lengths > 1).sum()), int((t.lengths == len(t.layers)).sum())
        null = float(t.nulls().drop(columns="lineages").max(axis=1).sum())
        tables.append(scores(t, fires).assign(weights=way, kept=kept, whole=whole, kept_of_strangers=null))
        write_table(DATA / "lineage_weights.parquet", pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    with torch.no_grad():
        main()
