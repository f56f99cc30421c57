# Written from nbs/course/08_states.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.states import (
    matching_score,
    carried_state,
    over_copy,
    delta_loss,
    jaccard,
    over,
    gathered,
    toy_states,
    variance,
    worse,
)





def test_states_know_their_mistakes():
    answers = dict(
        matching_score=(matching_score, jaccard, "Jaccard"),
        carried_state=(carried_state, gathered, "this gathers"),
        over_copy=(over_copy, lambda h, x, y: float(1 - variance(h - y) / variance(y)), "subtract what a copy"),
        delta_loss=(delta_loss, lambda c, l, ids: float(worse(c, l, ids, 0).mean()), "predict the token at t + 1"),
    )
    for exercise, answer, told in answers.values():
        print(exercise(answer))
        assert told in exercise(answer).says and exercise(exercise.right)


def test_a_carried_state_is_eq_5():
    from saematch.matching.match import Match
    from saematch.saes.gauge import fold

    a, b, index, x = toy_states()[1]
    m = Match(index, b.d_sae, torch.zeros(len(index)))
    assert torch.allclose(over(a, b, index, x), fold(b).decode(m.scatter(fold(a).encode(x))))
