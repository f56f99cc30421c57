# Written from nbs/studies/36_cost.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.studies.cost import (
    GPUS,
    Size,
    operations,
    memory,
    Machine,
    seconds,
)


import pytest
import torch

from saematch.ground import UsageError


def test_cost_grows_as_measured():
    small, large = Size(2048, 576), Size(16384, 576)
    assert operations("match", large) > 8 * operations("match", small)
    assert memory("match", large) > memory("match", small) > 2**28
    with pytest.raises(UsageError, match="unknown part of a run 'macth'; closest: match"):
        operations("macth", small)
    operations("match", large) / operations("match", small)


def test_the_gpu_is_known_for_assignments_alone():
    gpu = Machine("one H100", 16, 2**37, 5e10, gpu="H100", gpus=1)
    for n, D, measured in GPUS["H100"]:
        assert 0.5 < seconds("match", Size(n, (D - 1) // 2), gpu) / measured < 2
    assert seconds("pairs", Size(16384, 2304), gpu) != seconds("pairs", Size(16384, 2304), gpu)  # NaN: not measured
    seconds("match", Size(262144, 2560), gpu)
