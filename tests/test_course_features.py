# Written from nbs/course/05_features.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.features import (
    l0,
    explained_variance,
    top_tokens,
    label_fits,
    most_frequent,
    fit,
)





def test_features_know_their_mistakes():
    strengths = lambda f: float(f.sum(1).mean())
    unexplained = lambda x, x_hat: float((x_hat - x).var(0).sum() / x.var(0).sum())
    of_the_text = lambda f, ids, count: most_frequent(ids, count)
    turned = lambda active, word: fit(active, word)[::-1]
    answers = ((l0, strengths), (explained_variance, unexplained), (top_tokens, of_the_text), (label_fits, turned))
    for exercise, answer in answers:
        print(exercise(answer))
        assert not exercise(answer) and exercise(exercise.right)
    assert "not* explained" in explained_variance(unexplained).says and "f > 0" in top_tokens(of_the_text).says
