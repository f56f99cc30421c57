# Written from nbs/course/01_exercise.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.exercise import (
    PASSED,
    Wrong,
    difference,
    called,
    Mistake,
    Exercise,
)


from dataclasses import replace

from saematch.saes.toys import random_sae


def test_what_differs_is_named():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    assert difference(x + 1e-14, x) is None
    for answer in (x.T, x.float(), x.numpy(), x * (x != 5)):
        print(difference(answer, x))
    assert "transposed" in difference(x.T, x) and "float32" in difference(x.float(), x)
    assert difference(x * (x != 5), x).startswith("1 of 6 numbers of the result are wrong; the first is the result[1, 1]")
    assert difference(2.0, 2) is None and "is 3, expected is 2" in difference(3, 2.0)
    assert "nan" in difference(x / 0 * 0, x)


def test_a_mistake_is_recognised():
    def tables():
        return [(torch.tensor([[1.0, 2.0], [5.0, 4.0]]),), (torch.arange(6.0).view(2, 3),)]


    mean_row = Exercise(
        "mean_row",
        right=lambda x: x.mean(0),
        cases=tables,
        mistakes=(Mistake("this is the mean of each row: the rows are axis 0", lambda x: x.mean(1)),),
    )


    def stub(x):
        raise NotImplementedError


    def in_place(x):
        x /= len(x)
        return x.sum(0)


    def stops(x):
        total = x.sum(0)
        return total / rows  # noqa: F821


    said = [
        mean_row(f) for f in (stub, in_place, stops, lambda x: x.mean(1), lambda x: x.sum(0), print, 3, lambda x: x.mean(0))
    ]
    for verdict in said:
        print(verdict)
    assert [bool(v) for v in said] == [False] * 7 + [True]
    hints = (
        "not written yet",
        "writes into",
        "NameError",
        "the mean of each row",
        "2 of 2 numbers",
        "returns nothing",
        "itself",
    )
    assert all(hint in v.says for hint, v in zip(hints, said))
    assert "line 3" in said[2].says and "mean_row" in PASSED
    said[3]


def test_a_loop_without_end_is_stopped():
    def forever(x):
        while True:
            x = x + 1


    try:
        called(forever, (torch.zeros(2),), seconds=0.2)
        said = None
    except Wrong as e:
        said = str(e)
    assert "does its loop end" in said
    said


def test_an_sae_is_compared_by_name():
    a = random_sae(4, 6, seed=0)
    scaled = replace(a, b_enc=a.b_enc * 2)
    assert difference(a, a) is None and "numbers of b_enc" in difference(scaled, a)
    lost = replace(a, apply_b_dec_to_input=not a.apply_b_dec_to_input)
    assert "has lost apply_b_dec_to_input" in difference(lost, a)
    print(difference(scaled, a))
    print(difference(lost, a))
