"""Lineages written and ablated, against plain Hugging Face hooks: formulas typed out again."""

from dataclasses import replace

import numpy as np
import torch
from test_causal_oracle import A, encoded, world  # noqa: F401  (a fixture)

from saematch.judging.steering import ablated, steered, written
from saematch.saes.toys import random_sae

LINEAGE = {0: 4, A: 5, 2: 3}


@torch.no_grad()
def running(hf, ids, change):  # layer -> function of the output of that block
    "Log probabilities of the next token with the outputs of blocks replaced."

    def hook(layer):
        def replaced(module, given, out):
            x = out[0] if isinstance(out, tuple) else out
            x = change[layer](x[0])[None]
            return (x, *out[1:]) if isinstance(out, tuple) else x

        return replaced

    handles = [hf.model.layers[layer].register_forward_hook(hook(layer)) for layer in change]
    try:
        return hf(ids[None]).logits[0].log_softmax(-1)
    finally:
        for h in handles:
            h.remove()


def test_ablating_and_steering_lineages_is_that_of_hugging_face(world):  # noqa: F811
    lm, hf, a, b, tokens = world
    saes = {l: replace(random_sae(16, 24, seed=l), info=dict(layer=l)) for l in LINEAGE}
    keep = tokens.counted
    table = ablated(lm, saes, dict(every=LINEAGE), LINEAGE, tokens, keep).set_index("document")
    vectors = written(saes, dict(every=LINEAGE), 3.0)
    promoted = torch.tensor([5, 9])
    writing = steered(lm, vectors, promoted, tokens, keep).set_index("document")
    for d in range(len(tokens)):
        n = int(tokens.lengths[d])
        ids, activity, seen = tokens.ids[d, :n], {}, {}

        def activation(layer, x):
            f = encoded(saes[layer], x)[:, LINEAGE[layer]].clone()
            f[0] = 0
            return f

        def look(layer, x):
            activity[layer] = activation(layer, x)
            return x

        def take(layer, x):
            seen[layer] = activation(layer, x)
            return x - seen[layer][:, None] * saes[layer].W_dec[LINEAGE[layer]]

        def write(layer, x):
            row = saes[layer].W_dec[LINEAGE[layer]]
            return torch.cat([x[:1], x[1:] + 3.0 / len(LINEAGE) * row / row.norm()])

        own, gone, more = (
            running(hf, ids, {l: lambda x, l=l, do=do: do(l, x) for l in LINEAGE}) for do in (look, take, write)
        )
        text = torch.arange(n - 1) > 0  # not the first, and the last predicts nothing
        at = text & torch.stack(list(activity.values())).any(0)[:-1]
        kl = lambda p: (own.exp() * (own - p)).sum(1)[:-1]
        loss = lambda p: (own - p)[:-1].gather(1, ids[1:, None])[:, 0]
        close = lambda found, expected: np.isclose(found, float(expected), atol=1e-4)
        row = table.loc[d]
        assert row.tokens == int(at.sum()) > 0
        assert close(row.kl, kl(gone)[at].sum()) and close(row.loss, loss(gone)[at].sum())
        assert close(row.left, seen[2][:-1][at].sum()) and close(row.had, activity[2][:-1][at].sum())
        rise = (more[:, promoted].logsumexp(1) - own[:, promoted].logsumexp(1))[:-1]
        row = writing.loc[d]
        assert row.tokens == n - 2 and close(row.rise, rise[text].sum())
        assert close(row.kl, kl(more)[text].sum()) and close(row.loss, loss(more)[text].sum())
