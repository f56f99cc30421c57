"""Make `nbs/data/calibrated.parquet`, `planted.parquet` and `planted_from.parquet`: matches beside nulls and truth.

    python make_calibrated.py OUT

`calibrated.parquet`: the scores of all pairs of neighbouring layers of the embedded suite (kind "match") and of their
nulls ("rotation", "signs", "halves"), as `calibrate` finds them, in columns layers, kind, latent_a, latent_b and
`SCORES`. `planted.parquet`: precision and recall of seven methods on planted pairs of growing difficulty, with and
without the filter of `calibrate`, in columns axis, value, new (the base setting lies on all axes and is new once),
method, filter, claims, precision, recall, fdp. `planted_from.parquet`: the same of the exact match where new latents
are others of the same layer, by score and null, in columns noise, replaced, seed, score, null, claims, precision,
recall, fdp. About two minutes on one core. What is in OUT already is not made again.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

from saematch import load_suite, planted, random_sae
from saematch.ground import progress_bar
from saematch.judging.calibrate import calibrate
from saematch.judging.nulls import planted_from, precision_recall
from saematch.judging.scores import SCORES
from saematch.studies.tables import write_table

Q = 0.05
METHODS = {
    "exact": {},
    "greedy": dict(method="greedy"),
    "mutual": dict(method="mutual"),
    "cosine": dict(metric="cosine"),
    "unfolded": dict(fold=False),
    "identity": dict(method="identity"),
    "random": dict(method="random"),
}
BASE = dict(decoder_noise=1.2, encoder_noise=1.2, replaced=0.3, threshold_jitter=0.2)
SWEEPS = dict(
    decoder_noise=(0.0, 0.6, 1.2, 2.4),
    encoder_noise=(0.0, 0.6, 1.2, 2.4),
    replaced=(0.0, 0.3, 0.6, 0.9),
    threshold_jitter=(0.0, 0.2, 0.5, 1.0),
)


def layers_beside_nulls():
    "Scores of neighbouring layers and of their nulls."
    suite, parts = load_suite("smollm2-135m-resid"), []
    for i, j in progress_bar(list(zip(suite.layers, suite.layers[1:])), True, desc="layers"):
        c = calibrate(suite[i], suite[j], q=Q)
        for kind, scores in dict(match=c.scores, **c.nulls).items():
            parts.append(scores.assign(layers=f"{i} to {j}", kind=kind))
    table = pd.concat(parts, ignore_index=True)
    small = {k: "float32" for k in SCORES} | dict(latent_a="int32", latent_b="int32")
    return table[["layers", "kind", "latent_a", "latent_b", *SCORES]].astype(small)


def judged(toy, setting):
    "Every method on one planted pair, with and without the filter."
    b, truth = planted(toy, **setting, seed=1)
    found = []
    for name, how in METHODS.items():
        c = calibrate(toy, b, null="rotation", q=Q, repeats=1 if name in ("exact", "cosine", "unfolded") else 3, **how)
        for f, index in (("all matches", c.given.index), ("called real", c.match().index)):
            found.append(dict(method=name, filter=f, **precision_recall(index, truth)))
    return found


def planted_pairs():
    "All methods on all settings."
    toy, rows, once = random_sae(48, 300, seed=0), [], {}
    for axis, value in progress_bar([(k, v) for k in SWEEPS for v in SWEEPS[k]], True, desc="planted"):
        setting = tuple((BASE | {axis: value}).items())
        if new := setting not in once:
            once[setting] = judged(toy, dict(setting))
        rows += [dict(axis=axis, value=value, new=new, **r) for r in once[setting]]
    return pd.DataFrame(rows)


def planted_from_a_layer(seeds=5):
    "Claims of the exact match on pairs planted from latents of layer 15, by score and by null."
    layer, rows = load_suite("smollm2-135m-resid")[15].select(torch.arange(600)), []
    settings = [(n, r, s) for n in (1.0, 2.0, 3.0) for r in (0.25, 0.5, 0.75) for s in range(seeds)]
    for noise, replaced, seed in progress_bar(settings, True, desc="planted from a layer"):
        a, b, truth = planted_from(layer, noise=noise, replaced=replaced, seed=seed)
        c = calibrate(a, b, q=Q)
        for score in ("cosine", "margin", "slack"):
            for null in (*c.nulls, None):
                said = precision_recall(c.by(score).match(null).index, truth)
                setting = dict(noise=noise, replaced=replaced, seed=seed, score=score, null=null or "all three")
                rows.append(setting | said)
    return pd.DataFrame(rows)


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    tables = {"calibrated": layers_beside_nulls, "planted": planted_pairs, "planted_from": planted_from_a_layer}
    for name, make in ((f"{k}.parquet", make) for k, make in tables.items()):
        if not (out / name).exists():
            write_table(out / name, make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
