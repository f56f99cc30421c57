# Written from nbs/judging/16_verdicts.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.verdicts import (
    sampled,
    strangers,
    questions,
    Firings,
    firings,
    judged_pairs,
    verdicts,
    mean_level,
)


from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from saematch import match, random_sae
from saematch.model.activations import hidden_states
from saematch.model.text import Tokens
from saematch.model.toys import letters_lm


def test_the_same_latents_are_asked_about_in_every_route():
    saes = {l: random_sae(6, 20, seed=l) for l in (3, 4, 5)}
    pairs = [(3, 4), (4, 5), (3, 5)]
    matches = {(a, b): {h: match(saes[a], saes[b], method=h) for h in ("exact", "mutual", "identity")} for a, b in pairs}
    asked = questions(saes, matches, features=8)
    of = lambda a, b, route: asked.query("layer_a == @a and layer_b == @b and route == @route")
    assert of(3, 4, "exact").latent_a.tolist() == of(3, 5, "identity").latent_b.tolist() == sampled(20, 8).tolist()
    assert (of(3, 4, "exact").latent_b.values == matches[3, 4]["exact"].index[sampled(20, 8)].numpy()).all()
    assert len(of(3, 4, "mutual")) == int(matches[3, 4]["mutual"].matched[sampled(20, 8)].sum()) < 8
    W = [torch.nn.functional.normalize(saes[l].W_dec, dim=1) for l in (3, 4)]
    assert (of(3, 4, "nearest").latent_b.values == (W[0] @ W[1].T).argmax(1)[sampled(20, 8)].numpy()).all()
    null = of(3, 4, "strangers")
    assert not set(null.latent_a) & set(null.latent_b) and len(null) == 8 and len(of(3, 5, "strangers")) == 0
    asked.groupby(["layer_a", "layer_b", "route"]).size().unstack()


def test_firings_are_those_of_the_whole_text():
    lm, saes = letters_lm(), {l: random_sae(32, 24, seed=l, dtype=torch.float32) for l in (1, 2)}
    ids = torch.randint(3, 60, (5, 12), generator=torch.Generator().manual_seed(0))
    tokens, limits = Tokens(ids, torch.tensor([12, 12, 7, 12, 9])), {1: 1e9, 2: 1e9}
    wanted = {1: torch.tensor([0, 3, 20]), 2: torch.tensor([5])}
    f = firings(lm, saes, wanted, tokens, limits, batch=2)
    x = hidden_states(lm, tokens, (1, 2))
    for l, latents in wanted.items():
        whole = saes[l].encode(x[l])[tokens.counted]
        for i in latents.tolist():
            np.testing.assert_allclose(f.of(l, i), whole[:, i].detach().numpy(), rtol=1e-5, atol=1e-5)
    assert (f.token == ids[tokens.counted].numpy()).all() and (f.document == tokens.counted.nonzero()[:, 0].numpy()).all()
    with TemporaryDirectory() as folder:
        kept = dict(batch=2, folder=Path(folder), key="a")
        firings(lm, saes, wanted, tokens, limits, **kept)
        files = {p: p.stat().st_mtime_ns for p in Path(folder).iterdir()}
        list(files)[0].write_bytes(b"damaged")
        again = firings(lm, saes, wanted, tokens, limits, **kept)
        assert (again.of(1, 3) == f.of(1, 3)).all() and len(files) == 3
        assert sum(p.stat().st_mtime_ns == at for p, at in files.items()) == 2, "only the damaged one is made again"
    {l: {i: len(at) for i, (at, _) in found.items()} for l, found in f.found.items()}


def test_a_copied_sae_means_the_same():
    lm, sae = letters_lm(), random_sae(32, 24, seed=1, dtype=torch.float32)
    ids = torch.randint(3, 60, (40, 30), generator=torch.Generator().manual_seed(0))
    tokens, saes = Tokens(ids, torch.full((40,), 30)), {1: sae, 2: sae}
    matches = {(1, 2): {"match": match(sae, sae), "random": match(sae, sae, method="random")}}
    table = verdicts(lm, saes, matches, tokens, {1: 1e9, 2: 1e9}, features=24)
    assert set(table.route) == {"match", "random", "nearest", "strangers"} and set(table.level) <= {0, 1, 2, 3}
    m, r = (mean_level(table.level[table.route == route]) for route in ("match", "random"))
    assert m.value > r.value and np.isnan(mean_level(np.zeros(4)).value)
    f = firings(lm, {1: sae}, {1: torch.arange(24)}, tokens, {1: 1e9})
    alike = Firings(f.token, f.document, {1: f.found[1], 2: f.found[1]})  # both read the same: the match is a copy
    table = judged_pairs(questions(saes, matches, 24), alike)
    copies = table.query("route == 'match' and level > 0")
    assert len(copies) > 5 and (copies.level == 3).all() and (copies.score == 1).all()
    assert (table.query("route == 'nearest'").latent_b.values == table.query("route == 'match'").latent_b.values).all()
    table.groupby("route")["level"].value_counts().unstack(fill_value=0)
