# Written from nbs/matching/05_compose.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.compose import (
    compose,
)


from dataclasses import replace

from fastcore.test import expect_fail

from saematch.matching.match import Match, match
from saematch.saes.toys import planted, random_sae


def test_a_match_names_the_partner_of_a_latent():
    import saematch  # gives the classes of low floors what higher rooms do for them

    m = saematch.Match(torch.tensor([2, -1, 0]), 3, torch.zeros(3))
    assert list(m) == [2, -1, 0] and type(m[0]) is int and m[torch.tensor(2)] == 0
    with expect_fail(IndexError, "no latent 3; A has latents 0 to 2"):
        m[3]
    with expect_fail(TypeError, "takes the number of one latent, not slice"):
        m[:2]


def test_direction_of_a_composition():
    a = random_sae(32, 50, seed=0)
    b, ab_truth = planted(a, decoder_noise=0.1, encoder_noise=0.1, seed=1)
    c, bc_truth = planted(b, decoder_noise=0.1, encoder_noise=0.1, seed=2)
    ab, bc = match(a, b), match(b, c)
    assert torch.equal(compose(ab, bc).index, match(a, c).index) and not torch.equal(
        compose(bc, ab).index, match(a, c).index
    )
    cut = Match(ab.index.index_fill(0, torch.tensor([4]), -1), 50, ab.cost)
    assert compose(cut, bc).index[4] == -1 and (compose(cut, bc).index == compose(ab, bc).index).sum() == 49
    assert torch.equal(compose(ab, bc, bc.inverse()).index, ab.index)
    assert torch.nn.functional.cosine_similarity(a.permute(ab.index).W_dec, b.W_dec).min() > 0.9, (
        "permute and match share one direction"
    )


def test_matches_that_do_not_meet_are_not_composed():
    at = {n: replace(random_sae(6, 9, seed=n), info=dict(layer=n, source=f"here/{n}")) for n in (1, 2, 3, 4)}
    step = lambda x, y: match(at[x], at[y])
    with expect_fail(ValueError, "goes from layer 1 to layer 2, the second from layer 3 to layer 4, so they do not meet"):
        compose(step(1, 2), step(3, 4))
    with expect_fail(ValueError, "In the other order they do: give the match from layer 1 to layer 2 first"):
        compose(step(2, 3), step(1, 2))
    with expect_fail(ValueError, "goes from layer 1 to layer 3, the second from layer 2 to layer 4"):
        compose(step(1, 2), step(2, 3), step(2, 4))
    known = compose(step(2, 3), step(1, 2), check=False)
    assert torch.equal(known.index, step(1, 2).index[step(2, 3).index]) and known.info["b"]["layer"] == 2
    copied = replace(at[2], info=dict(layer=2, source="there/2"))
    assert torch.equal(compose(step(1, 2), match(copied, at[3])).index, compose(step(1, 2), step(2, 3)).index)
    inside, after = (
        replace(at[2], info=dict(layer=2, hook_name=f"blocks.2.hook_{h}")) for h in ("resid_mid", "resid_post")
    )
    with expect_fail(
        ValueError, "to hook_name blocks.2.hook_resid_mid, the second from hook_name blocks.2.hook_resid_post"
    ):
        compose(match(at[1], inside), match(after, at[3]))


def test_widths_that_do_not_fit_are_refused():
    a = random_sae(6, 9, seed=1)
    with expect_fail(ValueError, "compose(ab, bc) takes them in the order they are walked"):
        compose(match(a, random_sae(6, 7)), match(a, a))
