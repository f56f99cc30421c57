"Each matcher of the benchmark against the same idea written out: permutations, loops, SciPy, POT on whole matrices."

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import ot
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from saematch.judging.depth import lineages
from saematch.judging.transport import distributions, shared_space
from saematch.judging.worlds import Around, States, World
from saematch.matching.relations import relations
from saematch.saes.toys import planted, random_sae
from saematch.studies.matchers import MATCHERS, claims_of

N = 6


def toy_world():
    a = random_sae(8, N, seed=4)
    b = replace(planted(a, decoder_noise=0.8, encoder_noise=0.8, seed=3).sae, normalize="none")
    g = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(400, 8, generator=g, dtype=a.dtype)
    y = x + 0.5 * torch.randn(400, 8, generator=g, dtype=a.dtype) @ torch.diag(torch.arange(1.0, 9).double() / 4)
    U = torch.randn(8, 30, generator=g, dtype=a.dtype)
    return World("toy", "planted", 1, a, b, States(x, y), unembedding=U, around=Around({0: a, 1: b}), layers=(0, 1))


WORLD = toy_world()


def folded(sae, blocks=("encoder", "decoder", "bias"), unit=None):
    t = (sae.threshold if unit is None else unit).numpy()
    rows = dict(
        encoder=(sae.W_enc.numpy() / t).T, decoder=sae.W_dec.numpy() * t[:, None], bias=(sae.b_enc.numpy() / t)[:, None]
    )
    return np.concatenate([rows[k] for k in blocks], axis=1)


def squared(X, Y):
    return np.array([[((x - y) ** 2).sum() for y in Y] for x in X])


def minus_cosine(X, Y):
    return np.array([[-(x @ y) / np.linalg.norm(x) / np.linalg.norm(y) for y in Y] for x in X])


def pair(of):
    return of(WORLD.a), of(WORLD.b)


def activity(sae, states):
    z = states.numpy() @ sae.W_enc.numpy() + sae.b_enc.numpy()
    return z * (z > sae.threshold.numpy())


F, G = activity(WORLD.a, WORLD.fit.x), activity(WORLD.b, WORLD.fit.y)


def whitened():
    C = sum(np.cov(z.numpy().T, bias=True) for z in WORLD.fit) / 2
    value, vector = np.linalg.eigh(C)
    W = vector @ np.diag((value + 1e-3 * value.mean()) ** -0.5) @ vector.T
    rows = []
    for sae in (WORLD.a, WORLD.b):
        t = sae.threshold.numpy()
        enc, dec = np.linalg.inv(W) @ (sae.W_enc.numpy() / t), (sae.W_dec.numpy() * t[:, None]) @ W
        rows.append(np.concatenate([enc.T, dec, (sae.b_enc.numpy() / t)[:, None]], axis=1))
    return squared(*rows)


def by_ridge():
    x, y = (z.numpy() - z.numpy().mean(0) for z in WORLD.fit)
    C = x.T @ x
    R = np.linalg.solve(C + 1e-3 * np.trace(C) / len(C) * np.eye(len(C)), x.T @ y)
    return minus_cosine(WORLD.a.W_dec.numpy() @ R, WORLD.b.W_dec.numpy())


def by_rotation():
    x, y = (z.numpy() - z.numpy().mean(0) for z in WORLD.fit)
    return minus_cosine(WORLD.a.W_dec.numpy() @ orthogonal_procrustes(x, y)[0], WORLD.b.W_dec.numpy())


def promoted(sae):
    logits = sae.W_dec.numpy() @ WORLD.unembedding.numpy()
    return logits - logits.mean(1, keepdims=True)


def overlap():
    on, there = F != 0, G != 0
    return np.array(
        [[-(on[:, i] & there[:, j]).sum() / max(1, (on[:, i] | there[:, j]).sum()) for j in range(N)] for i in range(N)]
    )


def correlations():
    return -np.array([[np.corrcoef(F[:, i], G[:, j])[0, 1] for j in range(N)] for i in range(N)])


def virtual():
    a, b, t, s = WORLD.a.W_dec.numpy(), WORLD.b.W_enc.numpy(), WORLD.a.threshold.numpy(), WORLD.b.threshold.numpy()
    return np.array([[-(a[i] * t[i]) @ (b[:, j] / s[j]) for j in range(N)] for i in range(N)])


ONES = torch.ones(N, dtype=torch.float64)
COSTS = dict(
    match=lambda: squared(*pair(folded)),
    unfolded=lambda: squared(*pair(lambda s: folded(s, unit=ONES))),
    encoder=lambda: squared(*pair(lambda s: folded(s, ("encoder",)))),
    decoder=lambda: squared(*pair(lambda s: folded(s, ("decoder",)))),
    bias=lambda: squared(*pair(lambda s: folded(s, ("bias",)))),
    cosine=lambda: minus_cosine(*pair(folded)),
    directions=lambda: minus_cosine(*pair(lambda s: s.W_dec.numpy())),
    virtual=virtual,
    whitened=whitened,
    ridge=by_ridge,
    procrustes=by_rotation,
    correlation=correlations,
    jaccard=overlap,
)
COSTS["logit lens"] = lambda: minus_cosine(*pair(promoted))


def total(C, index):
    return sum(C[i, j] for i, j in enumerate(index))


@pytest.mark.parametrize("name", COSTS)
def test_no_permutation_is_cheaper(name):
    C, index = COSTS[name](), claims_of(name, MATCHERS[name], WORLD).index.tolist()
    assert sorted(index) == list(range(N))
    assert total(C, index) <= min(total(C, p) for p in permutations(range(N))) + 1e-9


def test_greedy_and_mutual_in_loops():
    C = COSTS["match"]()
    left, taken = {(i, j) for i in range(N) for j in range(N)}, [-1] * N
    while left:
        i, j = min(left, key=lambda at: C[at])
        taken[i] = j
        left = {(k, l) for k, l in left if k != i and l != j}
    assert claims_of("greedy", MATCHERS["greedy"], WORLD).index.tolist() == taken
    both = [j if C[:, j].argmin() == i else -1 for i, j in enumerate(C.argmin(1))]
    assert claims_of("mutual", MATCHERS["mutual"], WORLD).index.tolist() == both


def test_the_nearest_decoder_row():
    C, found = minus_cosine(*pair(lambda s: s.W_dec.numpy())), claims_of("nearest", MATCHERS["nearest"], WORLD)
    assert found.index.tolist() == C.argmin(1).tolist()
    assert np.allclose(found.score, -C.min(1))


def test_the_cheapest_half():
    C, found = COSTS["match"](), claims_of("partial", MATCHERS["partial"], WORLD)
    at = (found.index >= 0).nonzero()[:, 0].tolist()
    cheapest = min(
        sum(C[i, j] for i, j in zip(rows, columns))
        for rows in combinations(range(N), N // 2)
        for columns in permutations(range(N), N // 2)
    )
    assert len(at) == N // 2 and abs(sum(C[i, found.index[i]] for i in at) - cheapest) < 1e-9


def test_semantic_transport_is_that_of_whole_plans():
    found = claims_of("semantic", MATCHERS["semantic"], WORLD)
    (p, u), (q, v) = (distributions(torch.from_numpy(f), z) for f, z in zip((F, G), shared_space(*WORLD.fit)))
    W = np.full((N, N), np.inf)
    for i in range(N):
        for j in range(N):
            if u[i].sum() and v[j].sum():
                M = ot.dist(p[i].numpy(), q[j].numpy())
                W[i, j] = (ot.emd(*(np.ascontiguousarray(w) for w in (u[i], v[j])), M) * M).sum()
    alive = np.isfinite(W).any(1)
    assert alive.sum() > 2 and found.index[alive].tolist() == W[alive].argmin(1).tolist()
    assert np.allclose(found.score[alive], -W[alive].min(1)) and (found.index[~alive] == -1).all()


def test_the_strongest_relation():
    found = claims_of("relations", MATCHERS["relations"], WORLD)
    table = relations(WORLD.a, WORLD.b, k=4).frame()
    best = table.loc[table.groupby("latent").share.idxmax()].set_index("latent")
    assert {i: j for i, j in enumerate(found.index.tolist()) if j >= 0} == best.successor.to_dict()


def test_members_of_one_lineage():
    found = claims_of("joint", MATCHERS["joint"], WORLD)
    t = lineages({0: WORLD.a, 1: WORLD.b}, q=1, forks=False, progress=False)
    both = {int(i): int(j) for i, j in t.members if i >= 0 and j >= 0}
    assert {i: j for i, j in enumerate(found.index.tolist()) if j >= 0} == both


@pytest.mark.parametrize("name", ["identity", "random"])
def test_the_blind_ones(name):
    index = claims_of(name, MATCHERS[name], WORLD).index
    assert torch.equal(index.sort().values, torch.arange(N)) and (
        name == "random" or torch.equal(index, torch.arange(N))
    )


def test_every_matcher_is_checked_here():
    other = {"greedy", "mutual", "nearest", "partial", "semantic", "relations", "joint", "identity", "random"}
    assert set(MATCHERS) == set(COSTS) | other
