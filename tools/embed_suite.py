"""Copy SAEs in SAELens' layout with their two matrices in half precision.

    python tools/embed_suite.py SOURCE DEST     SOURCE/layer_*/ -> DEST/layer_*/

Biases and thresholds stay float32. What this changes is measured in nbs/01_io.ipynb.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save

source, dest = map(Path, sys.argv[1:])
for folder in sorted(source.glob("layer_*")):
    out = dest / folder.name
    out.mkdir(parents=True, exist_ok=True)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors = {k: v.to(torch.float16) if k.startswith("W_") else v for k, v in tensors.items()}
    (out / "sae_weights.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    cfg = json.loads((folder / "cfg.json").read_text())
    (out / "cfg.json").write_text(json.dumps(cfg, indent=1, sort_keys=True) + "\n")
    print(out, sum(p.stat().st_size for p in out.iterdir()), "bytes")
