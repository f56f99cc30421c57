# Written from nbs/course/02_scale.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.scale import (
    encode,
    rescale,
    fold,
    carry,
    carried,
)


from dataclasses import replace


def test_encode_knows_its_mistakes():
    def without_bias(sae, x):
        z = sae.prepare(x) @ sae.W_enc
        return z * (z > sae.threshold)


    def soft(sae, x):
        return (sae.prepare(x) @ sae.W_enc + sae.b_enc - sae.threshold).relu()


    def half(sae, x):
        return sae.encode(x).half()


    for answer in (without_bias, soft, half):
        print(encode(answer))
    assert "b_enc" in encode(without_bias).says and "jumps" in encode(soft).says and "float16" in encode(half).says
    assert encode(lambda sae, x: sae.encode(x))


def test_rescale_knows_its_mistakes():
    inverse = lambda sae, s: sae.rescale(1 / s)
    no_bias = lambda sae, s: replace(sae.rescale(s), b_enc=sae.b_enc)
    wrong_axis = lambda sae, s: replace(sae.rescale(s), W_dec=sae.W_dec / s)


    def in_place(sae, s):
        sae.b_enc.mul_(s)
        return sae.rescale(s)


    for answer in (inverse, no_bias, wrong_axis, in_place):
        print(rescale(answer))
    assert "wrong way round" in rescale(inverse).says and "`b_enc` is unchanged" in rescale(no_bias).says
    assert "[:, None]" in rescale(wrong_axis).says and "writes into" in rescale(in_place).says
    assert rescale(lambda sae, s: sae.rescale(s))


def test_fold_knows_its_mistakes():
    backwards = lambda sae: sae.rescale(sae.threshold)
    no_bias = lambda sae: replace(fold_by(sae), b_enc=sae.b_enc)
    mean = lambda sae: sae.rescale(1 / sae.threshold.mean())


    def in_half(sae):
        return fold_by(sae.to(torch.float16))


    from saematch.saes.gauge import fold as fold_by

    for answer in (backwards, no_bias, mean, in_half):
        print(fold(answer))
    assert "wrong way round" in fold(backwards).says and "`b_enc` is not divided" in fold(no_bias).says
    assert "not the mean" in fold(mean).says and "float16" in fold(in_half).says and fold(fold_by)


def test_carry_knows_its_mistakes():
    gathers = lambda f, index, t, u: f[:, index] / t[index] * u
    plain = lambda f, index, t, u: carried(f, index, torch.ones_like(t), torch.ones_like(u))


    def last_one(f, index, t, u):
        g = torch.zeros(len(f), len(u), dtype=f.dtype)
        g[:, index] = f / t * u[index]
        return g


    for answer in (gathers, plain, last_one):
        print(carry(answer))
    assert "this gathers" in carry(gathers).says and "units are missing" in carry(plain).says
    assert "-1" in carry(last_one).says and carry(carried)
