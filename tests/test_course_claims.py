# Written from nbs/course/09_claims.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.claims import (
    doubts,
    real_by_all,
    confirmed,
    claim,
    asked,
    by_each,
    some_nulls,
    two_means,
    sentence,
)





def test_claims_know_their_mistakes():
    answers = dict(
        doubts=(doubts, lambda a, b: asked(a, b) | {"other width": a.d_sae != b.d_sae}, "what must agree"),
        real_by_all=(real_by_all, lambda p, q: by_each(p, q).any(0), "*every* null"),
        confirmed=(confirmed, lambda s, t, r: two_means(s, t, r).flip(0), "exchanged"),
        claim=(claim, lambda called, of, q, z: f"{called} of {of} matches are real", "false discovery rate: 0.05"),
    )
    for exercise, answer, told in answers.values():
        print(exercise(answer))
        assert told in exercise(answer).says and exercise(exercise.right)
    assert claim(lambda c, n, q, z: f"{c:,} of {n:,} at {q:.0%}, {z} among strangers")
    assert "promises" in claim(lambda c, n, q, z: sentence(c, n, q, z) + " This proves it.").says


def test_all_nulls_are_the_largest_adjusted_p():
    from saematch.judging.calibrate import benjamini_hochberg

    for p, q in some_nulls():
        adjusted = torch.stack([benjamini_hochberg(row) for row in p]).amax(0)
        assert torch.equal(real_by_all.right(p, q), adjusted <= q)
