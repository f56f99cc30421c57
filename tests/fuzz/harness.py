"How many examples the fuzz targets try, and what they share."

import os
import random
from contextlib import contextmanager

import pandas as pd
import torch
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st

from saematch.matching.match import Match

LONG = int(os.environ.get("SAEMATCH_FUZZ", 0))  # examples of each target at length; 0: few, the same every time


def tried(few, cost=1):
    "Settings of a target: a few examples, always the same, or SAEMATCH_FUZZ / cost of them, from --hypothesis-seed."
    return settings(
        max_examples=max(1, LONG // cost) if LONG else few,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Refused(Exception):
    "The package has refused its input in a sentence."


@contextmanager
def sentences(place):
    """What comes out of reading `place` may be an error that names it, and nothing else.

    An error of the documented kinds is turned into `Refused`; any other error, and one that does not say which file
    is meant, goes through.
    """
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as e:
        if str(place) not in str(e):
            raise
        event("refused")
        raise Refused from e


def same(a, b):
    "Whether two results are equal; NaN is equal to NaN."
    if isinstance(a, Match):
        claims = lambda m: m.proof and (m.proof.objective, m.proof.bound, m.proof.status)
        told = torch.equal(a.index, b.index) and a.cost.allclose(b.cost, rtol=0, atol=0, equal_nan=True)
        return told and a.info == b.info and claims(a) == claims(b)
    if isinstance(a, dict) and any(isinstance(v, torch.Tensor) for v in a.values()):
        return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())
    return a.equals(b) if isinstance(a, pd.DataFrame) else str(a) == str(b)


def flip(path, data, seed):
    """Write the same bytes, one of them changed; every place is as likely as any other, which drawn numbers are not.

    The file is a new one: what was read from the old one may still lie in its memory.
    """
    draw, data = random.Random(seed), bytearray(data)
    data[draw.randrange(len(data))] ^= draw.randint(1, 255)
    path.unlink()
    path.write_bytes(data)


SEEDS = st.integers(0, 2**32 - 1)
