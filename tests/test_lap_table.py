# Written from nbs/lap/00_table.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.lap.table import (
    Made,
    taken,
    unit,
    stacked,
    held,
    check_rows,
)


import torch
from fastcore.test import expect_fail
from torch.nn.functional import normalize


def test_a_made_table_gives_the_rows_of_the_tensor():
    W = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    rows, order = unit(W), torch.randperm(50)[:20]
    assert rows.shape == (50, 8) and torch.equal(rows[:], normalize(W.float(), dim=1))
    assert torch.equal(taken(rows, order)[3:9], rows[:][order[3:9]])
    assert torch.equal(taken(taken(rows, order), torch.tensor([4, 1]))[:], rows[:][order[[4, 1]]])
    rows[:3]


def test_tables_below_each_other_are_one():
    W, order = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), torch.arange(50).flip(0)[:20]
    several = stacked([W[:20], taken(W, order), W[20:]])
    assert several.shape == (70, 8) and torch.equal(several[15:42], torch.cat([W[:20], W[order], W[20:]])[15:42])
    assert torch.equal(several[torch.tensor([69, 0, 20])], torch.stack([W[49], W[0], W[order[0]]]))
    several.shape


def test_a_table_can_be_held():
    W = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert held(W) is W and torch.equal(held(Made((5, 3), lambda at: W[at])), W)
    held(unit(W.bfloat16())).dtype


def test_a_number_that_is_none_is_found_in_a_table():
    W = torch.ones(5000, 2).index_fill(0, torch.tensor([4097]), float("nan"))
    with expect_fail(ValueError, "X, from row 4096 on, has 2 NaN"):
        check_rows("X", Made((5000, 2), lambda at: W[at]))
    check_rows("X", W[:4096])
