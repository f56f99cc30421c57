# Written from nbs/course/04_false_discovery.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.false_discovery import (
    p_values,
    called_real,
    wrong_share,
    mended,
    analysed,
)





def test_the_three_tools_know_their_mistakes():
    zero = lambda s, z: (z >= s[:, None]).double().mean(1)
    alone = lambda p, q: p <= q
    of_all = lambda index, truth: float((index != truth).double().mean())
    for exercise, answer in ((p_values, zero), (called_real, alone), (wrong_share, of_all)):
        print(exercise(answer))
    assert "no finite null" in p_values(zero).says and "for each one alone" in called_real(alone).says
    assert "no claim" in wrong_share(of_all).says
    assert all(e(e.right) for e in (p_values, called_real, wrong_share))


def test_what_is_left_to_mend_is_said():
    given = lambda a, b, q: analysed(a, b, q, False, False, False)
    two_left = lambda a, b, q: analysed(a, b, q, True, False, False)
    one_left = lambda a, b, q: analysed(a, b, q, True, True, False)
    for answer in (given, two_left, one_left):
        print(mended(answer))
    assert "All three" in mended(given).says and "Two of the three" in mended(two_left).says
    assert "One mistake" in mended(one_left).says and "judged alone" in mended(one_left).says and mended(analysed)
