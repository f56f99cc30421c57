# Written from nbs/model/06_card.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.card import (
    token_texts,
    window,
    histogram,
    fires_on,
    direct_logits,
    exact_logits,
    card_by_hand,
)


from dataclasses import replace

import numpy as np

from saematch.model.activations import hidden_states, site
from saematch.model.lm import load_lm
from saematch.model.text import tokenize
from saematch.model.toys import toy_lm, toy_sae, toy_texts

LM, TOY = toy_lm(initializer_range=0.5), toy_sae()
TOKENS = tokenize(LM, toy_texts())
STATES = hidden_states(LM, TOKENS, [2])[2]


def test_half_characters_are_escapes():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["Ġthe", "é", "ðŁ", "Ċ", "</", "<|end|>"]
    tiny = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, pieces[0]))
    tiny.decoder = decoders.ByteLevel()
    shown = token_texts(PreTrainedTokenizerFast(tokenizer_object=tiny), range(6))
    assert shown == [" the", "\\xe9", "\\xf0\\x9f", "\n", "</", "<|end|>"]
    tiny.decoder = decoders.Metaspace()
    assert token_texts(PreTrainedTokenizerFast(tokenizer_object=tiny), [0]) == ["Ġthe"]
    shown


def test_a_context_stops_at_positions_that_do_not_count():
    keep = np.ones(40, dtype=bool)
    assert window(keep, 20) == (4, 28) and window(keep, 3) == (0, 11) and window(keep, 39) == (23, 40)
    keep[[15, 23]] = False
    assert window(keep, 20) == (16, 23) and window(keep, 16) == (16, 23) and window(keep, 24) == (24, 32)
    window(keep, 20)


def test_a_histogram_counts_everything():
    x = np.array([0.3, 1.0, 2.5, 3.999, 4.0])
    edges, counts = histogram(x)
    assert edges[-1] == 8 and counts.sum() == 5
    assert (counts == np.histogram(x, edges)[0]).all()
    assert fires_on(np.array([4, 4, 7]), np.array([4, 4, 4, 4, 7, 9]), 2) == [(4, 2, 2 / 3, 0.5), (7, 1, 1 / 3, 1.0)]
    edges[:4], counts.nonzero()[0]


def test_after_the_last_block_the_approximation_is_exact():
    last, d = LM.cfg.n_layers - 1, TOY.W_dec[5]
    far = [(site(last), lambda x, hook: x + 1e9 * d)]  # a state that is this direction and nothing else
    logits = LM.run_with_hooks(TOKENS.ids[:1], fwd_hooks=far)[0, 3]
    direct = direct_logits(LM, TOY.W_dec[[5]])[0]
    torch.testing.assert_close(direct, logits - logits.mean(), rtol=0, atol=1e-6)
    direct.topk(3).indices.tolist(), logits.topk(3).indices.tolist()


def test_the_exact_effect_is_that_of_the_blocks_that_follow():
    ids, rows = TOKENS.ids[:3, :9], TOY.W_dec[[5, 7]]
    x = hidden_states(LM, replace(TOKENS, ids=ids), [1])[1]
    for row, found in zip(rows, exact_logits(LM, rows, 1, ids)):
        logits = []
        for state in (x, torch.cat([x[:, :-1], x[:, -1:] + row], 1)):  # block by block, by hand
            for block in LM.blocks[2:]:
                state = block(state)
            logits.append(LM.unembed(LM.ln_final(state))[:, -1])
        change = logits[1] - logits[0]
        torch.testing.assert_close(found, change - change.mean(-1, keepdim=True), rtol=0, atol=1e-9)
    last = exact_logits(LM, 1e9 * rows, LM.cfg.n_layers - 1, ids)  # nothing comes after, and the state is drowned
    for i in range(len(ids)):
        plain = LM(ids)[i, -1]
        torch.testing.assert_close(last[:, i] + plain - plain.mean(), direct_logits(LM, rows), rtol=0, atol=1e-6)
    found.std(-1)


def test_a_card_by_hand():
    sae = replace(TOY, info=dict(layer=2, neuronpedia_id="toy/2-res"))
    card = card_by_hand(sae, 5, TOKENS, STATES, TOKENS.counted, LM, suite="toy")
    f = sae.encode(STATES)[TOKENS.counted][:, 5]
    assert card.active == int((f > 0).sum()) and card.seen == int(TOKENS.counted.sum())
    assert np.isclose(card.mean, f[f > 0].mean()) and np.isclose(card.largest, f.max())
    assert np.allclose(card.in_thresholds, np.array([card.mean, card.largest]) / card.threshold)
    assert card.histogram[1].sum() == card.active and card.largest <= card.histogram[0][-1]
    top = [c for c in card.contexts if c.quantile == "top"]
    assert [c.activations[c.peak] for c in top] == sorted((c.activations.max() for c in top), reverse=True)
    assert top[0].activations[top[0].peak] == card.largest and top[0].tokens[top[0].peak].startswith("w")
    assert len({c.document for c in card.contexts}) == len(card.contexts)
    assert card.url == "https://www.neuronpedia.org/toy/2-res/5" and not card.dead and card.duplicate_of is None
    card
