# Written from nbs/course/06_lives.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.lives import (
    compose,
    members,
    births_deaths,
    second_child,
    chained,
    ends,
    added,
)





def test_lives_know_their_mistakes():
    without_care = lambda ab, bc: bc[ab]
    right_angles = lambda a, b, c: b**2
    with_edges = lambda t: ends(t, edges=True)
    first_layer = lambda steps, last: chained(steps, last)[: len(steps[0])]
    for exercise, answer in (
        (compose, without_care),
        (members, first_layer),
        (births_deaths, with_edges),
        (second_child, right_angles),
    ):
        print(exercise(answer))
        assert not exercise(answer) and exercise(exercise.right)
    assert "-1 is no latent" in compose(without_care).says and "0 at the edges" in births_deaths(with_edges).says


def test_a_split_is_least_squares():
    g = torch.Generator().manual_seed(1)
    parent, one, two = torch.nn.functional.normalize(torch.randn(3, 6, dtype=torch.float64, generator=g), dim=1)
    both = torch.stack([one, two], 1)
    rebuilt = both @ torch.linalg.lstsq(both, parent).solution
    gain = 1 - (parent - rebuilt).square().sum() - (parent @ one) ** 2
    assert torch.isclose(gain, added(parent @ one, parent @ two, one @ two))
    float(gain)
