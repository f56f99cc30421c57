"""Make `nbs/data/tokens.parquet`: what more text to train on changes, layers 14 and 15 of SmolLM2-135M.

    python make_tokens.py TEXT OUT TOKENS[:SAMPLES[:PRICE]] ...

TEXT is what `train_corpus.py PACKAGES EVALUATION TEXT 20` wrote, about eight times the text of the embedded suite; its
last documents are held out. For each number of TOKENS two SAEs are trained on the first so many states, with the recipe
of the embedded suite (2,048 latents, another seed for each layer), then matched and judged on the hidden states that
the repository ships. SAMPLES is how many states training draws (default: each token once, but at least the 1.3 million
of the embedded suite), PRICE that of an active latent (default 0.4, as there). OUT keeps states, SAEs and
tokens.parquet; what is there is not made again. The shipped table (three hours on two cores, two for the states):

    python make_tokens.py TEXT OUT 700000 700000:1300000:0.61 5390000:1300000 5390000

`python tools/embed_suite.py OUT/5390000_5390000_0.4 nbs/data/smollm2-135m-longer` ships the longest training.
"""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from train_corpus import HELD_OUT

from saematch.ground import notebook_data, progress_bar, read_safetensors
from saematch.judging.calibrate import calibrate
from saematch.judging.carried import fidelity, of_strangers, permuted
from saematch.judging.compare import compare
from saematch.making.states import States, cache_states, open_states, pack
from saematch.making.train import quality, train_sae
from saematch.matching.match import match
from saematch.matching.relations import relations
from saematch.model.lm import load_lm
from saematch.saes.files import load_sae
from saematch.saes.suite import load_suite
from saematch.studies.tables import read_table, write_table

LAYERS, SAMPLES, PRICE = (14, 15), 1_300_000, 0.4


def texts(path: Path) -> tuple[list[str], list[str]]:
    "To train on, and held out."
    docs = [json.loads(line) for line in path.open()]
    held = sum(max(1, round(HELD_OUT * n)) for n in Counter(d["source"] for d in docs).values())
    return tuple([d["text"] for d in part] for part in (docs[:-held], docs[-held:]))


def states(path: Path, out: Path, tokens: int) -> tuple[States, States]:
    "At least so many states to train on, and states of 60 documents held out."
    try:
        found, held = (open_states(out / name) for name in ("train", "held"))
    except FileNotFoundError:
        found = None
    if found is None or found.rows < tokens:
        lm, (train, unseen) = load_lm("smollm2-135m"), texts(path)
        held = cache_states(lm, pack(unseen[:60], lm.tokenizer, 256), LAYERS, out / "held")
        found = cache_states(lm, pack(train, lm.tokenizer, 256), LAYERS, out / "train")
    return replace(found, record={**found.record, "rows": min(tokens, found.rows)}), held


@torch.no_grad()
def judged(a, b, x, y) -> list[dict]:
    "Matches, relations and strangers of a pair on hidden states."
    unfolded = match(a, b, fold=False, dead="keep")
    table = compare({"unfolded": unfolded}, a, b, x, y).rename(columns={"explained variance": "EV of the match"})
    f, g = a.encode(x), b.encode(y)
    real = calibrate(a, b).real()
    table.loc["folded", "real"] = float(real.double().mean())
    carried = {"permutation": permuted(a, b, match(a, b), f), "dense": b.encode(a.decode(f))}
    carried["relations"] = relations(a, b, k=3).apply(f)
    carried["relations, strangers"] = of_strangers(a, b, k=3).apply(f)
    rows = [dict(what="match", map=name, **row) for name, row in table.to_dict("index").items()]
    return rows + [dict(what="map", map=name, **fidelity(b, h, g, y)) for name, h in carried.items()]


def how(said: str) -> dict:
    "What `TOKENS[:SAMPLES[:PRICE]]` says."
    tokens, *more = said.split(":")
    samples, price = [*more, *[max(int(tokens), SAMPLES), PRICE][len(more) :]]
    return dict(tokens=int(tokens), samples=int(samples), price=float(price))


def main(path: Path, out: Path, pairs: list[dict]) -> None:
    shipped, _ = read_safetensors(notebook_data("hidden_states.safetensors"))
    x, y = (shipped[f"layer_{layer}"][shipped["keep"]].float() for layer in LAYERS)
    table = out / "tokens.parquet"
    rows = read_table(table).to_dict("records") if table.exists() else []
    suite = load_suite("smollm2-135m-resid")
    if not rows:
        of = dict(tokens=701_000, samples=SAMPLES, price=PRICE, text="of the embedded suite")
        rows = [of | r for r in judged(*(suite[l] for l in LAYERS), x, y)]
    done = [{k: r[k] for k in ("tokens", "samples", "price")} for r in rows if r["text"] == "more"]
    for pair in progress_bar([p for p in pairs if p not in done], True, desc="pairs of SAEs"):
        (found, held), saes, of = states(path, out, pair["tokens"]), [], dict(pair, text="more")
        if found.rows < pair["tokens"]:
            raise SystemExit(f"{path} has {found.rows:,} states, {pair['tokens']:,} were asked for; make more text")
        for layer in LAYERS:
            folder = out / "_".join(f"{n:.7g}" for n in pair.values()) / f"layer_{layer}"
            settings = dict(l0_coefficient=pair["price"], samples=pair["samples"], d_sae=2048, seed=layer)
            train_sae(found, layer, folder, **settings)
            row = dict(what="SAE", map=f"layer {layer}", **quality(folder, held[layer]))
            saes.append(load_sae(folder))
            rows.append(row | of | dict(held=row["tokens"]))
        rows += [of | r for r in judged(*saes, x, y)]
        write_table(table, pd.DataFrame(rows).round(4))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), list(map(how, sys.argv[3:])))
