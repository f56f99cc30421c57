# Written from nbs/course/07_pairs.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.pairs import (
    rows,
    matched,
    margin,
    every,
    relative_cost,
    beside,
    squared,
)





def test_pairs_know_their_mistakes():
    answers = dict(
        rows=(rows, lambda s: beside(s, False), "fold first"),
        matched=(matched, lambda a, b: squared(a, b).argmin(1), "none twice"),
        margin=(margin, lambda C, i: C.topk(2, largest=False).values.diff(dim=1)[:, 0], "leave out the partner"),
        relative_cost=(relative_cost, lambda C, i: float(every(C, i).mean() / C.mean()), "-1 is no partner"),
    )
    for exercise, answer, told in answers.values():
        print(exercise(answer))
        assert told in exercise(answer).says and exercise(exercise.right)


def test_pairs_agree_with_the_engine():
    from saematch.matching.match import match

    for a, b in matched.cases():
        assert torch.equal(matched.right(a, b), match(a, b, dead="keep").index)
