"""Make `nbs/data/relations.parquet`: how much sparse maps between the layers of the embedded suite carry over.

    python make_relations.py OUT

One pass of SmolLM2-135M over every third of the shipped texts (120 documents of at most 256 tokens; kept in
OUT/states.safetensors). Every other document is used to fit weights, the rest (15,283 tokens) to score maps from layer
14 to 15. OUT then holds relations.parquet with the columns set ("curve", "fitted", "frontier", "pairs", "coherent"),
a, b, map, entries, F1, EV, active, tokens. What is in it already is not made again.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from saematch.ground import notebook_data, progress_bar, read_safetensors, write_safetensors
from saematch.judging.carried import fidelity, of_strangers, refitted, sparsity_curve
from saematch.judging.frontier import trained, tuned
from saematch.judging.routes import ridge
from saematch.matching.budget import budgeted
from saematch.matching.match import match
from saematch.matching.relations import relations
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.cards import cards
from saematch.model.gather import within
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text, tokenize
from saematch.saes.suite import load_suite
from saematch.studies.tables import read_table, write_table

LAYERS, STEP = range(14, 20), 3  # a position counts if it does in all six
PAIR, FAR = (14, 15), tuple(LAYERS[2:])
NEIGHBOURS = [(layer, layer + 1) for layer in LAYERS[:-1]]
PAIRS = [*NEIGHBOURS, *((PAIR[0], layer) for layer in FAR)]


def tokens_of(lm):
    return tokenize(lm, [text for source in TEXTS for text in load_text(source)], 256)


def states(lm, path):
    "Hidden states of all layers at the positions that count, and which document each is of."
    if path.exists():
        return read_safetensors(path)[0]
    tokens = tokens_of(lm)
    chosen = torch.arange(1, len(tokens), STEP)
    limits = norm_limits(lm, tokens[chosen[::4]], LAYERS)
    found = {f"layer_{layer}": [] for layer in LAYERS} | dict(document=[])
    for rows in progress_bar(chosen.split(8), True, desc="states"):
        x = hidden_states(lm, tokens[rows], LAYERS)
        keep = within(x, limits) & tokens[rows].counted
        for layer in LAYERS:
            found[f"layer_{layer}"].append(x[layer][keep].half())
        found["document"].append(rows[:, None].expand(keep.shape)[keep])
    found = {name: torch.cat(parts) for name, parts in found.items()}
    write_safetensors(path, found, dict(format="states"))
    return found


def fitted(suite, x, other, pair):
    "Maps with weights from the weights of the SAEs, and the same fitted on other documents."
    a, b = (suite[layer] for layer in pair)
    f, f_b, f_fit = a.encode(x[pair[0]]), b.encode(x[pair[1]]), a.encode(other[pair[0]])
    score = lambda name, k, g: dict(map=name, entries=k, **fidelity(b, g, f_b, x[pair[1]]))
    for k in (4, 8):
        r = relations(a, b, k=k - 1)
        yield score("relations", k, r.apply(f))
        yield score("the same, fitted", k, refitted(r, f_fit, other[pair[1]]).apply(f))
        yield score("budgeted", k, budgeted(a, b, entries=k).apply(f))
        size = f_fit.square().mean(0).sqrt()  # what the budget would like to know
        yield score("budgeted, activations known", k, budgeted(a, b, entries=k, priority=size).apply(f))
    full = ridge(f_fit, other[pair[1]], 3e-2).float()
    yield score("dense", b.d_sae, b.encode(a.decode(f)))
    yield score("the same, fitted", b.d_sae, b.encode(f @ full[:-1] + full[-1]))


def frontier(suite, x, other):
    "Maps of few entries trained on other documents, strangers trained as well, and the curve for pairs farther apart."
    for p in NEIGHBOURS:
        a, b = (suite[layer] for layer in p)
        f, f_b, f_fit, y = a.encode(x[p[0]]), b.encode(x[p[1]]), a.encode(other[p[0]]), other[p[1]]
        row = lambda name, k, r: dict(a=p[0], b=p[1], map=name, entries=k, **fidelity(b, r.apply(f), f_b, x[p[1]]))
        for k in (2, 4, 8, 16, 32) if p == PAIR else (4, 8):
            own, strange = relations(a, b, k=k - 1), of_strangers(a, b, k=k - 1)
            yield row("weights trained", k, tuned(own, f_fit, y, steps=80))
            yield row("strangers, weights trained", k, tuned(strange, f_fit, y, steps=80))
            if p == PAIR:
                yield row("trained", k, trained(a, b, f_fit, y, k, steps=80))
            else:
                yield row("relations", k, own)
                yield row("strangers", k, strange)
    first, a = PAIR[0], suite[PAIR[0]]
    for far in FAR:
        how = dict(m=match(a, suite[far]), entries=(2, 4, 8, 16, 32), nothing=(2, 8, 32), spend=())
        for r in sparsity_curve(a, suite[far], x[first], x[far], **how).to_dict("records"):
            yield dict(a=first, b=far, **r)


def shipped():
    "The hidden states of the repository, by layer."
    hidden, _ = read_safetensors(notebook_data("hidden_states.safetensors"))
    return {layer: hidden[f"layer_{layer}"][hidden["keep"]].float() for layer in LAYERS}


def sizes_elsewhere(found, f):
    """`sizes` without these tokens: the hidden states of the repository are of eight of the texts that cards count.

    What is taken out are the activations found here, as cards count each of them.
    """
    table, times = found.file.read(["active", "mean"]).to_pandas(), (f != 0).sum(0).double()
    active, seen = torch.tensor(table["active"].to_numpy()).double(), found.header["seen"]
    total = (active * torch.tensor(table["mean"].to_numpy()).nan_to_num() - f.double().sum(0)).clamp(min=0)
    assert (active >= times).all(), "cards of other text"
    rest = active - times
    return (total / rest.clamp(min=1)) * (rest / (seen - len(f))) ** 0.5


def pairs(suite):
    "Maps of few entries between several pairs of layers, on the hidden states of the repository."
    x = shipped()
    for a, b in PAIRS:
        how = dict(m=match(suite[a], suite[b]), entries=(4, 8), nothing=(4, 8))
        found = sparsity_curve(suite[a], suite[b], x[a], x[b], **how)
        yield from (dict(a=a, b=b, **row, tokens=len(x[a])) for row in found.to_dict("records"))
        f, f_b, known = suite[a].encode(x[a]), suite[b].encode(x[b]), {}
        known["priority"] = sizes_elsewhere(cards(suite, a), f)
        for k in (4, 8):
            own = budgeted(suite[a], suite[b], entries=k, **known)
            strange = of_strangers(suite[a], suite[b], maker=budgeted, entries=k, **known)
            for name, r in {"budgeted by cards": own, "budgeted by cards, strangers": strange}.items():
                yield dict(a=a, b=b, map=name, entries=k, tokens=len(x[a]), **fidelity(suite[b], r.apply(f), f_b, x[b]))


def coherent(suite):
    "How much an error along the common direction should count, on the hidden states of the repository."
    x, (a, b) = shipped(), PAIR
    f, f_b = suite[a].encode(x[a]), suite[b].encode(x[b])
    for times in (1, 10, 30, 100, 300, 1000, 10_000):
        r = budgeted(suite[a], suite[b], entries=4, coherent=times)
        kept = float((r.common != 0).double().mean())
        score = fidelity(suite[b], r.apply(f), f_b, x[b])
        yield dict(a=a, b=b, map="budgeted", entries=4, coherent=times, common=kept, tokens=len(x[a]), **score)


def on_documents(suite, kind, path):
    "Maps from layer 14 to 15 on many documents: the curve, or fitted weights beside those of the SAEs."
    found, pair = states(load_lm("smollm2-135m"), path), dict(a=PAIR[0], b=PAIR[1])
    even = (found["document"] // STEP) % 2 == 0
    x, other = ({layer: found[f"layer_{layer}"][rows].float() for layer in LAYERS} for rows in (even, ~even))
    a, b = (suite[layer] for layer in PAIR)
    if kind == "fitted":
        return [dict(pair, **row) for row in fitted(suite, x, other, PAIR)]
    if kind == "frontier":
        return frontier(suite, x, other)
    how = dict(m=match(a, b), entries=(2, 4, 5, 8, 9, 16, 32), nothing=(2, 4, 8, 32))
    return [
        dict(pair, **r) for r in sparsity_curve(a, b, x[14], x[15], **how).assign(tokens=len(x[14])).to_dict("records")
    ]


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    suite, path = replace(load_suite("smollm2-135m-resid"), keep=6), out / "relations.parquet"
    rows = read_table(path).to_dict("records") if path.exists() else []
    done = {r["set"] for r in rows}
    shorter = dict(pairs=pairs, coherent=coherent)
    kinds = ("curve", "fitted", "frontier", *shorter)
    for kind in progress_bar([k for k in kinds if k not in done], True, desc="maps"):
        made = shorter[kind](suite) if kind in shorter else on_documents(suite, kind, out / "states.safetensors")
        rows += [dict(set=kind, **row) for row in made]
        write_table(path, pd.DataFrame(rows).round(4))


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
