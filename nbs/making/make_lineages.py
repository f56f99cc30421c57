"""Lineages of the embedded suite, all that the search finds: writes nbs/data/lineages.safetensors.

python nbs/making/make_lineages.py    less than a minute on one core

Notebooks that only look at lineages read them from there and choose a rate: `Lineages.load(...).cut(0.05)`. That the
file holds what `lineages` finds is checked in judging/11_depth.
"""

from pathlib import Path

from saematch import lineages, load_suite

if __name__ == "__main__":
    lineages(load_suite("smollm2-135m-resid"), q=1).save(Path(__file__).parents[1] / "data" / "lineages.safetensors")
