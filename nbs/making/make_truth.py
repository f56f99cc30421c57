"""Lineages of planted suites against the truth: writes nbs/data/lineage_truth.parquet.

python nbs/making/make_truth.py [--seeds 4]    about ten minutes on one core; finished worlds are kept, so run it again
"""

import argparse
from pathlib import Path

import pandas as pd

from saematch.judging.truth import all_ways
from saematch.saes.suite import load_suite
from saematch.saes.toys import random_sae
from saematch.studies.tables import read_table, write_table

DATA = Path(__file__).parents[1] / "data"
COMMON = dict(width=600, layers=6, noise=0.3, death=0.15, gap=0.03, split=0.03, merge=0.03)
WORLDS = {  # name -> (latents from, what differs)
    "random directions": ("random", {}),
    "real latents": ("real", {}),
    "noise grows with depth": ("real", dict(growth=0.5)),
    "one seed for all": ("real", dict(shared=0.5)),
    "hard": ("real", dict(blur=1.6, death=0.3)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    kept = DATA / "lineage_truth.parquet"
    done = read_table(kept) if kept.exists() else pd.DataFrame(columns=["world", "seed"])
    real = load_suite("smollm2-135m-resid")[14]
    for seed in range(parser.parse_args().seeds):
        for name, (source, differs) in WORLDS.items():
            if ((done.world == name) & (done.seed == seed)).any():
                continue
            a = real if source == "real" else random_sae(128, 2048, seed=seed)
            new = all_ways(a, seed=seed, **COMMON | differs).assign(world=name, seed=seed)
            done = pd.concat([done, new], ignore_index=True) if len(done) else new
            write_table(kept, done)
            print(name, seed, flush=True)


if __name__ == "__main__":
    main()
