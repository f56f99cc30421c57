"""How the tests are shared out and reported; what they share."""

import os

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of all workers, and of what they start, together use the cores once
    threads = max(1, CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def pytest_xdist_auto_num_workers():
    "`-n auto`: a worker for each core that this process may use."
    return CORES


def pytest_collection_modifyitems(items):
    "GPU tests are skipped, and counted as skipped, where there is no CUDA device. What takes longest starts first."
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    items.sort(key=lambda item: not any(item.get_closest_marker(m) for m in ("notebook", "build")))


def pytest_terminal_summary(terminalreporter):
    "Numbers that tests have recorded with `record_property` are told."
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def unpainted(monkeypatch):
    "Figures are made and not painted: for tests that run a study several times and look at none of its pictures."
    blank = Image.new("RGB", (1, 1))
    monkeypatch.setattr(Figure, "savefig", lambda fig, file, **_: blank.save(file, "png"))
