"""Make the cards that the embedded suite ships: `saematch/suites/smollm2-135m-resid/cards`.

    python make_cards.py OUT

One pass of SmolLM2-135M over the shipped texts (360 documents of at most 256 tokens; fetched by `load_lm` if need be),
then one parquet file a layer. Activations are rounded to 7 significant bits, and every activation is kept on each 20th
document, so that the six layers take less than 6 MB together. The limit for massive hidden states is taken from each
20th document as well. A pass that was killed goes on from OUT/pass.safetensors if model, weights and texts are the
same.
"""

import sys
from dataclasses import replace
from pathlib import Path

from saematch.model.cards import make_cards
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text, tokenize
from saematch.saes.suite import load_suite

if __name__ == "__main__":
    suite = replace(load_suite("smollm2-135m-resid"), keep=6)
    lm = load_lm("smollm2-135m")
    tokens = tokenize(lm, [text for source in TEXTS for text in load_text(source)], 256)
    make_cards(suite, lm, tokens, Path(sys.argv[1]), share=18, shared=range(5, len(tokens), 20), bits=7)
