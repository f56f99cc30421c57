"""Lineages in the folder of a run are forged by the package itself: `check` finds each number and names it."""

from dataclasses import replace

import pytest
import torch

from saematch.ground import write_json
from saematch.judging import audit
from saematch.judging.audit import Audit
from saematch.judging.depth import lineages
from saematch.judging.recomputed import grouped, q_of_p
from saematch.matching.lineage import Lineages
from saematch.matching.select import q_values
from saematch.saes.files import save_sae
from saematch.saes.suite import fingerprint, load_suite
from saematch.saes.toys import planted_suite, random_sae
from saematch.studies.check import check
from saematch.studies.lives import LINEAGES, deciding
from saematch.writer import write_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A folder that holds nothing but the record of a run and its lineages."
    at = tmp_path_factory.mktemp("forged")
    toy = planted_suite(random_sae(12, 180, seed=3, dtype=torch.float32), layers=4, width=60, noise=0.4, seed=1).suite
    for layer, sae in toy.items():
        save_sae(sae, at / "suite" / f"layer_{layer}.safetensors")
    suite = load_suite(str(at / "suite"))
    shas = {str(layer): fingerprint(suite[layer]) for layer in suite}
    write_json(at / "out" / "run.json", dict(suite=str(at / "suite"), layers=list(suite), weights_sha256=shas))
    t = lineages(suite, progress=False)
    save(at, replace(t, info={**t.info, "code": deciding()}))
    return at


def save(at, t):
    t.save(at / "out" / LINEAGES)
    write_manifest(at / "out", {})


@pytest.fixture
def made(folder):
    "The lineages as they were made; they are put back after a test."
    yield (t := Lineages.load(folder / "out" / LINEAGES))
    save(folder, t)


def times(by, at=0):
    "One number of a tensor times another."

    def forged(x):
        known = (~x.reshape(-1).isnan()).nonzero()[at, 0]
        return x.reshape(-1).index_put((known,), x.reshape(-1)[known] * by).reshape(x.shape)

    return forged


FIELDS = [
    ("gain", times(1.001), "the gain of lineage 0 is not that of the weights"),
    ("link", times(0.999), "the link of lineage 0 is not that of the weights"),
    ("p", times(0.5), "the p-values of lineages are not those"),
    ("p", times(2.0, -1), "the q-values of lineages do not follow from their p-values"),
    ("q", times(0.99), "the q-values of lineages do not follow from their p-values"),
    ("q", lambda q: q * 0 + 1, "have a q-value of at most 0.05"),
    ("p_link", times(0.5), "the p-values of links (suite) are not those"),
    ("q_link", times(0.5, 3), "the q-values of links are not those"),
]
INFO = [
    ("objective", lambda t: (t.objective + t.bound) / 2, "the search reaches an objective of"),
    ("objective", lambda t: t.bound * 1.1, "gains add up to"),
    ("bound", lambda t: t.bound * 1.001, "the upper bound is"),
    ("thresholds", lambda t: {**t.info["thresholds"], "2": 0.9}, "is not that of the weights"),
    ("nulls", lambda t: {**t.info["nulls"], "signs": {"2": 5.0, "3": 0.0, "4": 0.0}}, "does not count what the file"),
    ("nulls", lambda t: {k: v for k, v in t.info["nulls"].items() if k != "parts"}, "(parts)"),
    ("nulls", lambda t: {**t.info["nulls"], "lineages": {"2": 1e3, "3": 0.0, "4": 0.0}}, "(lineages)"),
]
STRANGERS = [
    ("weight", times(0.5), "do not stand for as many as they should"),
    ("link", times(0.99), "the links of strangers of the null signs are not those"),
    ("p_link", times(2.0), "the p-values of links (signs) are not those"),
    ("p", times(2.0), "the p-values of lineages are not those that the gains of strangers give"),
    ("q", times(0.01), "the q-values of strangers are not those of lineages as good"),
    ("source", lambda x: torch.where(x >= 0, 0, x), "are not of the layers that they should be of"),
    ("members", lambda x: x[[0, *range(len(x) - 1)]], "are not of the layers that they should be of, each once"),
]


@pytest.mark.parametrize("name, forged, said", FIELDS)
def test_a_falsified_field_is_found_and_named(name, forged, said, made, folder):
    save(folder, replace(made, **{name: forged(getattr(made, name))}))
    assert any(said in line for line in lines_of(folder)), lines_of(folder)


@pytest.mark.parametrize("name, forged, said", INFO)
def test_a_falsified_fact_is_found_and_named(name, forged, said, made, folder):
    save(folder, replace(made, info={**made.info, name: forged(made)}))
    assert any(said in line for line in lines_of(folder)), lines_of(folder)


@pytest.mark.parametrize("name, forged, said", STRANGERS)
def test_falsified_strangers_are_found_and_named(name, forged, said, made, folder):
    c = made.drawn["signs"]
    save(folder, replace(made, drawn={**made.drawn, "signs": replace(c, **{name: forged(getattr(c, name))})}))
    assert any(said in line for line in lines_of(folder)), lines_of(folder)


def lines_of(folder):
    "What is wrong, all of it in the file of lineages."
    found = check(folder / "out", progress=False)
    assert set(found.wrong.file) == {LINEAGES} and (found.wrong.question == "true").all(), "its checksum fits"
    return [line for line in found.lines() if "not recomputed" not in line]


def test_a_file_that_says_what_is_true_is_right_and_what_was_not_asked_is_said(made, folder):
    found = check(folder / "out", progress=False)
    assert found.ok and found.unknown.said.str.startswith("not recomputed: thresholds, which lineages").all()
    assert len(found.unknown) == 1 and found.lines()[0].startswith(f"{LINEAGES}: not recomputed")
    again = check(folder / "out", progress=False, again=True)
    assert again.ok and again.unknown.empty, again.lines()
    shown = again._repr_markdown_()
    assert "lineages, right: " in shown and "upper bound" in shown


def test_what_only_the_search_tells_is_found_by_the_search(made, folder):
    save(folder, replace(made, q_forks=made.q_forks / 2))
    assert check(folder / "out", progress=False).ok
    said = check(folder / "out", progress=False, again=True).wrong.said
    assert len(said) == 1 and said.iloc[0].startswith("the same search does not give its q_forks;")


def test_another_version_of_the_code_may_find_other_lineages(made, folder):
    save(folder, replace(made, info={**made.info, "code": "older", "objective": (made.objective + made.bound) / 2}))
    found = check(folder / "out", progress=False)
    assert found.ok and any("made by another version of saematch" in line for line in found.lines())


def test_of_a_large_suite_it_is_said_what_was_not_recomputed(made, folder, monkeypatch):
    monkeypatch.setattr(audit, "TOO_MANY", 239)
    found = check(folder / "out", progress=False)
    assert found.ok and "upper bound, objective, links of strangers (240 latents are more than 239)" in str(
        found.lines()
    )
    assert "p-values of lineages agree with each other, but were not recomputed" in str(found.lines())
    lower = replace(made, p=made.p * 0.5, q=made.q * 0.5)  # agree with each other, and with no count of strangers
    save(folder, lower)
    assert any("the p-values of lineages" in line for line in lines_of(folder))


def test_without_weights_the_file_is_asked_whether_it_agrees_with_itself(made):
    asked = Audit(made, None).asked()
    asked["table of nulls"](), asked["p and q of links"]()
    for q, said in {
        "p and q of lineages": "agree with each other",
        "links and gains": "links, gains, objective",
    }.items():
        with pytest.raises(audit.Unknown, match=said):
            asked[q]()
    with pytest.raises(ValueError, match="do not follow from their p-values"):
        Audit(replace(made, q=times(0.5)(made.q)), None).rates()


def test_the_bound_is_that_of_another_solver(made, folder):
    from scipy.optimize import linear_sum_assignment

    suite, total = load_suite(str(folder / "suite")), 0.0
    rows = [torch.nn.functional.normalize(suite[l].W_dec.double(), dim=1) for l in made.layers]
    for x in range(len(rows)):
        for y in range(x + 1, len(rows)):
            gain = (rows[x] @ rows[y].T - made.info["thresholds"][str(y - x)]).clamp(min=0)
            total += float(gain[linear_sum_assignment(gain, maximize=True)].sum())
    assert abs(total - made.bound) < 1e-5
    Audit(made, suite).bound()


@pytest.mark.parametrize("seed", range(5))
def test_q_values_of_p_values_are_those_of_counts(seed):
    g = torch.Generator().manual_seed(seed)
    gain, more = torch.rand(50, generator=g).double(), torch.randint(0, 9, (50,), generator=g).double()
    more = more.sort().values[gain.argsort(descending=True).argsort()]  # the stronger, the fewer strangers
    q = q_values(torch.zeros(50).long(), gain, 1 + more)
    assert torch.allclose(q_of_p((1 + more) / (1 + 1000), gain, 1000), q, rtol=1e-12)


def test_lengths_are_put_together_only_with_their_neighbours():
    pools = {(2, 3), (4, 4), (5, 7)}
    assert grouped(lambda a, b: (a, b) in pools, 7) and not grouped(lambda a, b: (a, b) in pools - {(4, 4)}, 7)
