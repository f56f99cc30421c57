# Written from nbs/matching/07_joint.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.matching.joint import (
    pairs_within,
    cross_gain,
    regroup,
    Joint,
    lineage_gain,
    alone,
    chained,
    upper_bound,
    join_layers,
)


from fastcore.test import expect_fail
from torch.nn.functional import normalize

from saematch.ground import UsageError


def noisy_layers(layers, n, d, noise, seed=0):
    "The same n directions in every layer, with noise, each layer in another order: (rows, which direction a row is)."
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    base, order = draw(n, d), [torch.randperm(n, generator=g) for _ in range(layers)]
    return [normalize(base[o] + noise * draw(n, d), dim=1) for o in order], order
def best_of_all(rows, tau):
    "The largest objective of all partitions into lineages."
    nodes = [(x, i) for x, r in enumerate(rows) for i in range(len(r))]
    value = lambda a, b: float(rows[a[0]][a[1]].double() @ rows[b[0]][b[1]].double()) - float(tau[a[0], b[0]])

    def rest(k, groups):
        if k == len(nodes):
            return 0.0
        here, best = nodes[k], rest(k + 1, [*groups, [nodes[k]]])
        for g, group in enumerate(groups):
            if all(here[0] != other[0] for other in group):
                gained = sum(value(other, here) for other in group)
                best = max(best, gained + rest(k + 1, [*groups[:g], [*group, here], *groups[g + 1 :]]))
        return best

    return rest(0, [])


def test_certain_pairs_need_not_be_looked_at():
    from scipy.optimize import linear_sum_assignment

    from saematch.lap.similarities import Similarities

    for seed, noise in enumerate((0.5, 0.8, 1.2)):
        rows, _ = noisy_layers(5, 14, 6, noise, seed)
        sims = Similarities(rows, torch.full((5, 5), 0.3))
        members = chained(sims)
        for side in Joint(sims).sides():
            K, heads, tails = len(members), members.masked_fill(~side, -1), members.masked_fill(side, -1)
            gain = cross_gain(sims, heads.repeat_interleave(K, 0), tails.repeat(K, 1)).view(K, K).clamp(min=0)
            best = float(gain[linear_sum_assignment(gain, maximize=True)].sum())
            apart = float(lineage_gain(sims, heads).sum() + lineage_gain(sims, tails).sum())
            members, inner = regroup(sims, members, pairs_within(sims, members), side)
            assert abs(apart + best - float(lineage_gain(sims, members).sum())) < 1e-9
            assert abs(float(inner.gain.sum()) - float(lineage_gain(sims, members).sum())) < 1e-9
            assert sorted(members[members >= 0].tolist()) == list(range(sims.count))


def test_a_killed_search_ends_as_if_it_had_not_been():
    import tempfile
    from pathlib import Path
    from unittest import mock

    rows, _ = noisy_layers(7, 40, 12, noise=0.7)
    whole, _, s = join_layers(rows, 0.4)
    step, counted = Joint.step, []


    def killed(self, state):
        counted.append(1)
        if len(counted) == 2:
            raise KeyboardInterrupt
        return step(self, state)


    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Joint, "step", killed):
        with expect_fail(KeyboardInterrupt, ""):
            join_layers(rows, 0.4, work=folder)
        files = {p.name for p in Path(folder).iterdir()}
        again, _, s2 = join_layers(rows, 0.4, work=folder)
        assert files < {p.name for p in Path(folder).iterdir()}
        made = len(counted)
        third, _, s3 = join_layers(rows, 0.4, work=folder)
    assert len(counted) == made == len(s.history), "each sweep is made once, and the one that was killed again"
    assert torch.equal(again, whole) and torch.equal(third, whole) and s2.history == s3.history == s.history
    f"{len(s.history) - 1} sweeps, {made} begun"


def test_sweeps_of_other_rows_are_not_taken():
    import tempfile

    rows = ([1, 1, 0], [1, 0, 1], [0, 0.4, 1], [0, -5, 1])
    first, second, third, other = (torch.tensor([r], dtype=torch.float64) for r in rows)
    with tempfile.TemporaryDirectory() as folder:
        found = [join_layers([first, second, r], 0.5, work=folder)[2].objective for r in (third, other)]
    assert abs(found[0] - 0.9) < 1e-12, "one lineage of all three, with a pair that is 0.1 below the threshold"
    assert abs(found[1] - 0.5) < 1e-12 and found[1] == join_layers([first, second, other], 0.5)[2].objective
    found


def test_a_search_that_runs_out_of_sweeps_says_so():
    import warnings

    rows, _ = noisy_layers(7, 40, 12, noise=0.7)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        whole = join_layers(rows, 0.4)[2]
        assert whole.done and not said
        short = join_layers(rows, 0.4, sweeps=2)[2]
    assert not short.done and len(said) == 1 and short.objective < whole.objective
    str(said[0].message)


def test_planted_lineages_are_found():
    rows, order = noisy_layers(5, 30, 40, noise=0.4)
    members, sims, s = join_layers(rows, 0.5)
    truth = torch.cat(order)[members.clamp(min=0)]
    assert len(members) == 30 and (members >= 0).all() and (truth == truth[:, :1]).all()
    s.history


def test_search_and_bound_embrace_the_best_of_all_partitions():
    reached = 0
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        rows = [normalize(torch.randn(2 + (seed + x) % 2, 3, generator=g, dtype=torch.float64), dim=1) for x in range(4)]
        tau = torch.rand(4, 4, generator=g, dtype=torch.float64) * 0.6
        tau = (tau + tau.T) / 2
        best = best_of_all(rows, tau)
        for start in ("chain", "alone"):
            members, sims, s = join_layers(rows, tau, start=start)
            assert s.objective <= best + 1e-9 and best <= upper_bound(sims) + 1e-9
            assert all(b >= a - 1e-9 for a, b in zip(s.history, s.history[1:])), "the objective fell"
            assert abs(s.objective - float(lineage_gain(sims, members).sum())) < 1e-9
            assert sorted(members[members >= 0].tolist()) == list(range(sims.count)), "every latent exactly once"
            reached += s.objective > best - 1e-9
    reached, "of 24 searches end at the best of all partitions"


def test_special_cases_of_lineages():
    from saematch.lap.assign import assign

    rows, _ = noisy_layers(2, 25, 10, noise=1.0)
    members, sims, s = join_layers(rows, 0.3)
    a = assign(rows[0], rows[1], metric="inner", reject=-0.3)
    assert abs(s.objective - (-a.objective - 0.3 * 25)) < 1e-9 and abs(s.objective - upper_bound(sims)) < 1e-9
    whole = members[(members >= 0).all(1)]
    assert {(int(i), int(j) - 25) for i, j in whole} == {(i, int(j)) for i, j in enumerate(a.index) if j >= 0}
    members, sims, s = join_layers(rows[:1], 0.3)
    assert len(members) == 25 and s.objective == 0 == upper_bound(sims)


def test_order_of_latents_and_layers_does_not_matter():
    rows, _ = noisy_layers(4, 20, 16, noise=0.6)
    members, sims, s = join_layers(rows, 0.4)
    sets = lambda m, at: {frozenset((x, int(at[x][i - 20 * x])) for x, i in enumerate(r.tolist()) if i >= 0) for r in m}
    straight = [torch.arange(20)] * 4
    order = [torch.randperm(20, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    again, _, s2 = join_layers([r[o] for r, o in zip(rows, order)], 0.4)
    assert sets(again, order) == sets(members, straight) and abs(s2.objective - s.objective) < 1e-9
    back, _, s3 = join_layers(rows[::-1], 0.4)
    assert abs(s3.objective - s.objective) < 1e-9
    search = Joint(sims)
    half = search.step(search.init("alone"))
    kept = search.init(half.members)
    for _ in range(5):
        half, kept = search.step(half), search.step(kept)
    assert torch.equal(search.result(half), search.result(kept)), "a search taken up again ends the same"


def test_bad_layers_are_refused():
    rows, _ = noisy_layers(2, 5, 4, noise=0.1)
    with expect_fail(UsageError, "at least one layer"):
        join_layers([], 0.3)
    with expect_fail(UsageError, "rows of one width, these have 4, 3"):
        join_layers([rows[0], rows[1][:, :3]], 0.3)
    with expect_fail(ValueError, "thresholds has 4 NaN"):
        join_layers(rows, float("nan"))
    with expect_fail(ValueError, "start must be"):
        join_layers(rows, 0.3, start="middle")
