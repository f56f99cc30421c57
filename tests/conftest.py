import pytest
import torch


def pytest_collection_modifyitems(items):
    "GPU tests are skipped, and counted as skipped, where there is no CUDA device."
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
