"""Make `nbs/data/causal.parquet`: which latents answer when one of an earlier layer is ablated or doubled.

    python nbs/making/make_causal.py [--documents 3]

Every latent of layer A of the embedded suite that is active in a document, changed alone on all tokens of the document,
and where its partners stand among the latents of layer B (`saematch.judging.causal.responses`). Documents are the first
32 tokens of the shipped texts, some of each kind; matches by activations are made from the hidden states that the
repository ships, which are of other documents. Finished documents are kept, so run it again.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import normalize

from saematch.ground import progress_bar, read_safetensors
from saematch.judging.calibrate import calibrate
from saematch.judging.causal import responses
from saematch.judging.nulls import null
from saematch.matching.match import match
from saematch.model.activations import norm_limits
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text, tokenize
from saematch.saes.suite import load_suite
from saematch.studies.fitting import best_correlation
from saematch.studies.tables import read_table, write_table

KEPT = Path(__file__).parents[1] / "data" / "causal.parquet"
TASKS = {(14, 15, 0.0): 1, (14, 15, 2.0): 3, (14, 17, 0.0): 3}  # (A, B, factor) -> every n-th document
LENGTH, LAYERS = 32, (14, 15, 17)


def partners(suite, states, pair):
    "Partners by name, and which matches are called real."
    a, b = (suite[l] for l in pair)
    cosine = normalize(a.W_dec, dim=1) @ normalize(b.W_dec, dim=1).T
    judged = calibrate(a, b)
    return dict(
        match=judged.given,
        nearest=cosine.argmax(1),
        correlation=best_correlation(*(suite[l].encode(states[l]) for l in pair)),
        strangers=match(null(a, "signs"), b),
        random=match(a, b, method="random"),
    ), judged.real()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=3, help="of each kind of text")
    each = parser.parse_args().documents
    lm, suite = load_lm("smollm2-135m"), load_suite("smollm2-135m-resid")
    texts = [load_text(source) for source in TEXTS]
    tokens = tokenize(lm, [t[k] for k in range(each) for t in texts], LENGTH)
    limits = norm_limits(lm, tokenize(lm, [text for t in texts for text in t[-4:]], 2 * LENGTH), LAYERS)
    hidden, _ = read_safetensors(KEPT.with_name("hidden_states.safetensors"))
    states = {l: hidden[f"layer_{l}"][hidden["keep"]].float() for l in LAYERS}
    known = {pair: partners(suite, states, pair) for pair in dict.fromkeys(task[:2] for task in TASKS)}
    found = read_table(KEPT) if KEPT.exists() else pd.DataFrame(columns=["a", "b", "factor", "document"])
    tasks = [(d, *task) for d in range(len(tokens)) for task in TASKS if (d // len(TEXTS)) % TASKS[task] == 0]
    for d, *pair, factor in progress_bar(tasks, True, desc="documents"):
        if ((found.a == pair[0]) & (found.b == pair[1]) & (found.factor == factor) & (found.document == d)).any():
            continue
        index, real = known[tuple(pair)]
        new = responses(lm, *(suite[l] for l in pair), index, tokens[[d]], limits, factor=factor, seed=d)
        new = new.assign(a=pair[0], b=pair[1], factor=factor, document=d, real=real.numpy()[new.latent.to_numpy()])
        kinds = dict.fromkeys(["factor", "rank", "auc", "lost", "had"], "float32") | dict(name="str", real="bool")
        new = new.astype({column: kinds.get(column, "int32") for column in new}).round(4)
        found = pd.concat([found, new], ignore_index=True) if len(found) else new
        write_table(KEPT, found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
