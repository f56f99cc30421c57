"""Copy SAEs in SAELens' layout with their two matrices in half precision.

    python tools/embed_suite.py SOURCE DEST     every folder of SOURCE with a cfg.json -> the same folder in DEST

Biases and thresholds stay float32. What this changes is measured in nbs/saes/05_suite.ipynb.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save

source, dest = map(Path, sys.argv[1:])
for folder in sorted(p.parent for p in source.rglob("cfg.json")):
    out = dest / folder.relative_to(source)
    out.mkdir(parents=True, exist_ok=True)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors = {k: v.to(torch.float16) if k.startswith("W_") else v for k, v in tensors.items()}
    (out / "sae_weights.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    cfg = json.loads((folder / "cfg.json").read_text())
    (out / "cfg.json").write_text(json.dumps(cfg, indent=1, sort_keys=True) + "\n")
    if (folder / "training.json").exists():  # how it was trained, see nbs/making/02_train.ipynb
        shutil.copy(folder / "training.json", out)
    print(out, sum(p.stat().st_size for p in out.iterdir()), "bytes")
