"""saematch: which feature at layer 20 is this feature of layer 19?

`__all__` holds the names that most analyses start from; a few more for those who look closer (`calibrate`,
`compare`, `descriptors`, `verify` and others) are here, too. They are imported at first use, so that `saematch --help`
does not wait for PyTorch.
"""

__version__ = "0.1.0"

import importlib
import sys
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .judging.calibrate import calibrate
    from .judging.causal import responses
    from .judging.compare import compare
    from .judging.depth import lineages
    from .judging.evidence import delta_loss, explained_variance, matching_score
    from .judging.meaning import same_meaning
    from .lap.assign import assign
    from .lap.certificate import verify
    from .matching.compose import compose
    from .matching.descriptors import descriptors
    from .matching.lineage import Lineages
    from .matching.match import Match, match
    from .model.cards import card, cards
    from .model.lm import load_lm
    from .saes.files import load_sae, save_sae
    from .saes.gauge import fold
    from .saes.sae import SAE, permute, rescale
    from .saes.suite import Suite, load_suite
    from .saes.toys import planted, random_sae
    from .studies.run import run

_HOME = {
    "saes.sae": ("SAE", "permute", "rescale"),
    "saes.toys": ("random_sae", "planted"),
    "saes.files": ("load_sae", "save_sae"),
    "saes.suite": ("load_suite", "Suite"),
    "saes.gauge": ("fold",),
    "lap.assign": ("assign",),
    "lap.certificate": ("verify",),
    "matching.descriptors": ("descriptors",),
    "matching.match": ("match", "Match"),
    "matching.compose": ("compose",),
    "matching.relations": ("relations",),
    "judging.splits": ("splits", "merges"),
    "model.lm": ("load_lm",),
    "model.cards": ("card", "cards"),
    "matching.draw": ("Lineages",),  # with all that can be asked of them
    "judging.depth": ("lineages",),
    "judging.meaning": ("same_meaning",),
    "judging.calibrate": ("calibrate",),
    "judging.compare": ("compare",),
    "judging.causal": ("responses",),
    "judging.judge": ("judge",),
    "studies.run": ("run",),
    "judging.evidence": ("matching_score", "explained_variance", "delta_loss"),
}
_HOME = {name: module for module, names in _HOME.items() for name in names}
__all__ = [
    "SAE",
    "Suite",
    "Match",
    "load_sae",
    "save_sae",
    "load_suite",
    "fold",
    "random_sae",
    "planted",
    "assign",
    "match",
    "compose",
    "lineages",
    "load_lm",
    "card",
    "cards",
    "same_meaning",
    "matching_score",
    "explained_variance",
    "delta_loss",
]


# a room whose class gets a method from another room -> that room: `SAE.from_saelens`, `Lineages.nulls`
_WHOLE = {"saes.sae": "saes.files", "matching.draw": "judging.depth"}

# (class, method) -> what shows it: methods of low floors that a high floor fills, when they are called
_SHOWN = {
    ("matching.match", "Match", "show"): ("model.show", "show_match"),
    ("matching.match", "Match", "__getitem__"): ("matching.compose", "partner"),
    ("matching.match", "Match", "plot"): ("studies.picture", "plot_match"),
    ("saes.sae", "SAE", "card"): ("model.show", "show_latent"),
    ("saes.sae", "SAE", "to_saelens"): ("saes.exchange", "to_saelens"),
    ("model.card", "Card", "_repr_html_"): ("model.show", "card_html"),
    ("model.card", "Card", "text"): ("model.show", "Card.text"),
    ("model.card", "Card", "iframe"): ("model.show", "Card.iframe"),
    ("matching.lineage", "Lineages", "explore"): ("studies.look", "explore_lineages"),
    **{
        (room, kind, method): ("studies.share", f"{kind}.{method}")
        for room, kind in (("matching.match", "Match"), ("matching.lineage", "Lineages"), ("model.cards", "Cards"))
        for method in ("save_pretrained", "push_to_hub", "from_pretrained")
    },
}


def _later(module, function):
    "A method that imports its room when it is called."

    def method(self, *args, **kwargs):
        return attrgetter(function)(importlib.import_module(f"{__name__}.{module}"))(self, *args, **kwargs)

    method.__doc__ = f"See `saematch.{module}.{function}`."
    return method


def _noted(function):
    "A function whose docstring also has the notes that stand beside its parameters: `help` and Jupyter show them."
    from inspect import getdoc

    from fastcore.docments import docments

    notes = {k: " ".join(v.split()) for k, v in docments(function).items() if v and k != "return"}
    listed = "".join(f"\n{k}\n    {note}" for k, note in notes.items())
    if listed and "\nParameters\n" not in (function.__doc__ or ""):
        function.__doc__ = f"{getdoc(function) or ''}\n\nParameters\n----------{listed}\n"
    return function


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    importlib.import_module(f"{__name__}.{_WHOLE.get(home, home)}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if isinstance(value, FunctionType):
        _noted(value)
    for (room, kind, method), by in _SHOWN.items():
        loaded = sys.modules.get(f"{__name__}.{room}")
        if loaded and not hasattr(getattr(loaded, kind), method):
            setattr(getattr(loaded, kind), method, _later(*by))
    return value


def __dir__():
    return sorted({*globals(), *__all__})
