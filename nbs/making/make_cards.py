"""Make the cards that the embedded suite ships: `saematch/suites/smollm2-135m-resid/cards`.

    python make_cards.py OUT

One pass of SmolLM2-135M over the shipped texts (360 documents of at most 256 tokens; fetched by `load_lm` if need be),
then one parquet file a layer. Activations are rounded to 7 significant bits, and every activation is kept on each 20th
document, so that the six layers take less than 6 MB together. A pass that was killed goes on from OUT/pass.safetensors.
"""

import sys
from dataclasses import replace
from pathlib import Path

from saematch.model.activations import norm_limits
from saematch.model.cards import write_cards
from saematch.model.gather import gather
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text, tokenize
from saematch.saes.suite import load_suite

if __name__ == "__main__":
    out = Path(sys.argv[1])
    suite = replace(load_suite("smollm2-135m-resid"), keep=6)
    saes = {layer: suite[layer] for layer in suite}
    lm = load_lm("smollm2-135m")
    tokens = tokenize(lm, [text for source in TEXTS for text in load_text(source)], 256)
    limits = norm_limits(lm, tokens, saes)
    shared = range(5, len(tokens), 20)
    found = gather(lm, saes, tokens, limits, shared, path=out / "pass.safetensors", key="shipped", progress=True)
    write_cards(out, suite, lm, tokens, found, bits=7)
    (out / "pass.safetensors").unlink()
