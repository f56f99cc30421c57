# Written from nbs/judging/26_audit.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.audit import (
    Unknown,
    Audit,
)


from dataclasses import replace

import pytest
import torch

from saematch.judging.depth import lineages
from saematch.judging.recomputed import q_of_p
from saematch.matching.select import counted, link_q
from saematch.saes.toys import planted_suite, random_sae


def small_suite():
    "Four layers of planted features."
    a = random_sae(12, 180, seed=3, dtype=torch.float32)
    return planted_suite(a, layers=4, width=60, noise=0.4, seed=1).suite
def changed(t, name, by):
    "A field whose first value is another."
    x = getattr(t, name).clone()
    x.view(-1)[(~x.view(-1).isnan()).nonzero()[0]] *= by
    return replace(t, **{name: x})


def without_strangers(t):
    "As if the search drew nothing among strangers."
    best, several = 1 / (1 + sum(t.widths)), t.lengths > 1
    none = {kind: type(c)(**{k: x[:0] for k, x in vars(c).items()}) for kind, c in t.drawn.items()}
    p, q = t.p.where(~several, best), t.q.clone()
    q[several] = q_of_p(p[several], t.gain[several], sum(t.widths))
    lie = replace(t, drawn=none, p=p, q=q, p_link=t.p_link.where(t.link.isnan(), best))
    return replace(lie, q_link=link_q(lie), info={**t.info, "nulls": counted(lie)})


def lies(t):
    "Lineages with one number changed: name -> Lineages."
    info, strange = lambda **new: replace(t, info={**t.info, **new}), t.drawn["parts"]
    drawn = lambda c: replace(t, drawn={**t.drawn, "parts": c})
    nulls, limits = t.info["nulls"], t.info["thresholds"]
    own = {f"a {name}": changed(t, name, 0.9) for name in ("gain", "link", "p", "q", "p_link", "q_link", "q_forks")}
    return own | {
        "objective": info(objective=(t.objective + t.bound) / 2),
        "bound": info(bound=1.01 * t.bound),
        "a threshold": info(thresholds={**limits, "1": limits["1"] - 0.01}),
        "table of nulls": info(nulls={**nulls, "parts": {k: v + 1 for k, v in nulls["parts"].items()}}),
        "weights of strangers": drawn(replace(strange, weight=strange.weight / 2)),
        "a link of strangers": drawn(changed(strange, "link", 0.99)),
        "a p of strangers": drawn(changed(strange, "p", 1.1)),
        "a q of strangers": drawn(changed(strange, "q", 0.01)),
        "strangers left out": without_strangers(t),
    }


def said_by(work):
    "What a question says."
    try:
        work()
    except ValueError as e:
        return str(e)
    return ""


def test_a_number_of_lineages_that_is_not_true_is_found():
    suite = small_suite()
    t = lineages(suite, progress=False)
    honest = {q: said_by(work) for q, work in Audit(t, suite).asked().items()}
    *first, rest = honest
    assert not any(honest[q] for q in first) and honest[rest].startswith("not recomputed"), honest
    ours = {"a q_forks", "strangers left out"}  # nothing but the search tells these
    for name, lie in lies(t).items():
        asked = Audit(lie, suite).asked()
        assert any(said_by(asked[q]) for q in first) is (name not in ours), name
    assert said_by(Audit(lies(t)["strangers left out"], suite, again=True).everything)
    with pytest.raises(Unknown, match="another version of saematch"):
        Audit(lies(t)["objective"], suite, alike=False).objective()
