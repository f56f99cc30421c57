"""saematch: which feature at layer 20 is this feature of layer 19?

The names below are the whole public surface. They are imported at first use, so that `saematch --help` does not wait
for PyTorch.
"""

__version__ = "0.1.0"

import importlib
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .assign import assign, verify
    from .cost import descriptors
    from .evidence import delta_loss, explained_variance, matching_score
    from .fold import fold
    from .io import Suite, load_sae, load_suite, save_sae
    from .lm import load_lm
    from .match import Match, compose, match
    from .sae import SAE, permute, planted, random_sae, rescale

_HOME = dict(
    SAE="sae", permute="sae", rescale="sae", random_sae="sae", planted="sae",
    load_sae="io", save_sae="io", load_suite="io", Suite="io",
    fold="fold", descriptors="cost", assign="assign", verify="assign", match="match", Match="match", compose="match",
    load_lm="lm", matching_score="evidence", explained_variance="evidence", delta_loss="evidence",
)
__all__ = ["SAE", "Suite", "Match", "load_sae", "save_sae", "load_suite", "fold", "permute", "rescale", "random_sae",
           "planted", "descriptors", "assign", "verify", "match", "compose", "load_lm", "matching_score", "explained_variance", "delta_loss"]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """Keep `saematch.match`, `saematch.fold` and `saematch.assign` the functions: importing the submodules of the same names binds them here."""

    def __setattr__(self, name, value):
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
