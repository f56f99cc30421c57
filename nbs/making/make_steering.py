"""Make `nbs/data/steering.parquet`: lineages written into the model and taken out of it, beside strangers.

    python nbs/making/make_steering.py [--lineages 40]

Lineages of the embedded suite that go through all six layers, in random order. Each is steered and ablated
(`saematch.judging.steering`) on short pieces of the shipped texts. Finished lineages are kept, so run it again.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from saematch.ground import progress_bar
from saematch.judging.steering import ablated, bystanders, promoted_by, steered, written
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.gather import within
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text, tokenize
from saematch.saes.suite import load_suite
from saematch.studies.lives import lineages_of, steps_of
from saematch.studies.tables import read_table, write_table

KEPT = Path(__file__).parents[1] / "data" / "steering.parquet"
SUITE, LENGTH, SHORT = "smollm2-135m-resid", 24, 8  # tokens
SEARCHED, ABLATED, STEERED = 16, 3, 1  # documents of each kind to search, to ablate in, and of each kind to steer in
STRENGTH = 0.25  # length of what is written, relative to the median norm of the first layer's hidden states


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lineages", type=int, default=40)
    lm, suite = load_lm("smollm2-135m"), load_suite(SUITE)
    t, texts = lineages_of(SUITE), [load_text(source) for source in TEXTS]
    tokens = tokenize(lm, [x[8 + k] for k in range(SEARCHED) for x in texts], LENGTH)
    steer_in = tokenize(lm, [x[-1 - k] for k in range(STEERED) for x in texts], 16)
    prompts = tokenize(lm, [x[30] for x in texts], SHORT).ids
    first, layers = t.layers[0], list(t.layers)
    limits = norm_limits(lm, tokens[::8], layers)
    length = STRENGTH * limits[first] / 5  # limits are five medians
    x = hidden_states(lm, tokens, [first])
    on = (suite[first].encode(x[first]) != 0) & (tokens.counted & within(x, limits))[..., None]
    documents = on.any(1).T  # [latents, documents]
    generator = torch.Generator().manual_seed(0)
    whole = (t.lengths == len(layers)).nonzero()[:, 0]
    whole = whole[torch.randperm(len(whole), generator=generator)].tolist()
    whole = [k for k in whole if documents[steps_of(t, k)[first]].sum() >= 2]
    found = read_table(KEPT) if KEPT.exists() else pd.DataFrame(columns=["lineage"])
    chosen = whole[: parser.parse_args().lineages]
    for k, other in progress_bar(list(zip(chosen, whole[1:])), True, desc="lineages"):
        if (found.lineage == k).any():
            continue
        members, strangers = steps_of(t, k), steps_of(t, other)
        promoted = promoted_by(lm, suite, members, prompts, length)
        single = {f"layer {l}": {l: i} for l, i in members.items()}
        mixed = {**strangers, first: members[first]}
        ways = {**single, "every": members, "strangers": strangers, "first + strangers": mixed}
        keep = steer_in.counted & within(hidden_states(lm, steer_in, layers), limits)
        new = [steered(lm, written(suite, ways, length), promoted, steer_in, keep).assign(test="steered")]
        rows = documents[members[first]].nonzero()[:ABLATED, 0]
        here, states = tokens[rows], hidden_states(lm, tokens[rows], layers)
        keep = here.counted & within(states, limits)
        drawn = bystanders(suite, members, states, keep, torch.Generator().manual_seed(k))
        ways = {**single, "every": members, "strangers, first": {first: drawn[first]}, "strangers, every": drawn}
        new.append(ablated(lm, suite, ways, members, here, keep).assign(test="ablated"))
        new[1]["document"] = rows[torch.tensor(new[1].document.tolist())].numpy()
        new = pd.concat(new, ignore_index=True).assign(lineage=k).round(5)
        found = pd.concat([found, new], ignore_index=True) if len(found) else new
        write_table(KEPT, found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
