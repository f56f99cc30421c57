# Written from nbs/studies/38_many_machines.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.many_machines import (
    done_there,
    OnRay,
    started,
)


import sys
from pathlib import Path
from unittest import mock

import pytest

import saematch
from saematch.ground import UsageError
from saematch.tasks import Job


def test_without_ray_it_says_what_to_install():
    with mock.patch.dict(sys.modules, ray=None), pytest.raises(ImportError, match=r"pip install 'saematch\[cluster\]'"):
        OnRay()
    ray = mock.Mock()  # nobody listens there, so it is not asked
    with mock.patch.dict(sys.modules, ray=ray), pytest.raises(UsageError, match="no Ray cluster answers at 127.0.0.1:1 "):
        OnRay("127.0.0.1:1")
    assert not ray.init.called
    with pytest.raises(
        OSError, match="does not see /nowhere: the run's folder must be on a file system that all nodes share"
    ):
        done_there(print, saematch.__version__, Path("/nowhere"))
    with pytest.raises(UsageError, match="has saematch .*, this run was started with 0.0.0; install the same"):
        done_there(print, "0.0.0", None)
