# Written from nbs/course/03_duality.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.course.duality import (
    costs,
    bound,
    gap,
    auction,
    bids,
)





def test_prices_and_their_mistakes():
    free = lambda C, v: (C - v).min(1).values.sum()
    turned = lambda C, index, v: bound.right(C, v) - C[range(len(C)), index].sum()
    for exercise, answer in ((costs, torch.cdist), (bound, free), (gap, turned)):
        print(exercise(answer))
    assert "square them" in costs(torch.cdist).says and "v.sum()" in bound(free).says
    assert "never negative" in gap(turned).says
    assert all(e(e.right) for e in (costs, bound, gap))


def test_the_auction_is_judged_by_what_it_must_fulfil():
    from saematch.matching.baselines import greedy


    def favourites(C, eps):
        return C.argmin(1), torch.zeros(len(C), dtype=C.dtype)


    def by_greed(C, eps):
        return greedy(C), torch.zeros(len(C), dtype=C.dtype)


    def no_prices(C, eps):
        index, v = bids(C, eps)
        return index, torch.zeros_like(v)


    def other_sign(C, eps):
        index, v = bids(C, eps)
        return index, -v


    for answer in (favourites, by_greed, no_prices, other_sign):
        print(auction(answer))
    assert "must be free again" in auction(favourites).says and "greedy" in auction(by_greed).says
    assert "would rather have" in auction(no_prices).says and "other sign" in auction(other_sign).says
    assert auction(bids)
