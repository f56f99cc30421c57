"""Units of the course: with their solutions all checks pass, with stubs none does, and wrong answers are told why."""

import ast
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from saematch.course.check import UNITS
from saematch.course.exercise import PASSED, Verdict

NOTEBOOKS = {int(p.name.split("_")[1]): p for p in (Path(__file__).parents[1] / "nbs" / "course").glob("unit_*.ipynb")}
DEFINED = re.compile(r"^def (\w+)\(", re.M)


def cells(unit, kind):
    content = json.loads(NOTEBOOKS[unit].read_text())
    return ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == kind]


def stubs(unit):
    "The cells that a reader is to write, by the name of the exercise."
    return {DEFINED.search(c)[1]: c for c in cells(unit, "code") if "raise NotImplementedError" in c}


def solutions(unit):
    "The code in the folded solutions, by the name of the exercise."
    blocks = re.findall(r"<summary>Solution.*?```python\n(.*?)```", "\n".join(cells(unit, "markdown")), re.S)
    return {DEFINED.findall(code)[-1]: code for code in blocks}


def run(unit, answers, briefly=False):
    "What the cells of a unit show, with some stubs replaced by answers. Briefly: only what the checks need."
    replaced = {stub: answers.get(name, stub) for name, stub in stubs(unit).items()}
    space, shown = {"__name__": "__main__"}, []
    PASSED.clear()
    for number, source in enumerate(cells(unit, "code")):
        if briefly and not re.search(r"^(def|from|import) |^check\.", source, re.M):
            continue
        body = ast.parse(replaced.get(source, source)).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), space)
        if last:
            shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space))
    return shown


def verdicts(shown):
    return {v.exercise: v for v in shown if isinstance(v, Verdict)}


@pytest.fixture(autouse=True)
def without_a_screen(monkeypatch):
    plt.switch_backend("agg")
    monkeypatch.chdir(NOTEBOOKS[2].parent)
    yield
    plt.close("all")


@pytest.mark.parametrize("unit", sorted(NOTEBOOKS))
def test_every_exercise_has_a_stub_a_check_and_one_solution(unit):
    names = {e.name for e in UNITS[unit]}
    assert names == set(stubs(unit)) == set(solutions(unit))
    code = "\n".join(cells(unit, "code"))
    assert all(f"check.{name}({name})" in code for name in names) and f"check.closing({unit}, " in code
    text = "\n".join(cells(unit, "markdown"))
    assert len(re.findall(r"difficulty [1-5]", text)) >= len(names), "each exercise says how difficult it is"
    assert text.count("<details>") == text.count("</details>") > len(names)


@pytest.mark.parametrize("unit", sorted(NOTEBOOKS))
def test_with_its_solutions_a_unit_passes_and_ends_in_a_figure(unit):
    shown = run(unit, solutions(unit))
    wrong = [v for v in verdicts(shown).values() if not v]
    assert not wrong and len(verdicts(shown)) == len(UNITS[unit])
    assert plt.get_fignums(), "the closing figure is drawn"


@pytest.mark.parametrize("unit", sorted(NOTEBOOKS))
def test_with_its_stubs_a_unit_runs_and_says_what_is_missing(unit):
    found = verdicts(run(unit, {}))
    assert len(found) == len(UNITS[unit]) + 1 and not any(found.values())
    assert all("not written yet" in found[e.name].says for e in UNITS[unit])
    assert all(e.name in found[f"unit {unit}"].says for e in UNITS[unit])


SCORED = "s, r = (cosines(a, b, match(a, b, method=how).index) for how in ('exact', 'random'))"
# what a reader may write in place of `raise NotImplementedError`, and what must be said about it
WRONG = [
    (1, "l0", "return float(f.sum(1).mean())", "adds the activations up"),
    (1, "l0", "return float((f > 0).double().mean())", "share of all entries"),
    (1, "explained_variance", "return float((x_hat - x).var(0).sum() / x.var(0).sum())", "*not* explained"),
    (1, "explained_variance", "return float((1 - (x_hat - x).var(0) / x.var(0)).mean())", "before you divide"),
    (1, "top_tokens", "return ids[f.topk(count).indices]", "strongest activations"),
    (1, "label_fits", "both = (active & word).sum(); return both / word.sum(), both / active.sum()", "exchanged"),
    (2, "encode", "z = sae.prepare(x) @ sae.W_enc; return z * (z > sae.threshold)", "`b_enc` is missing"),
    (2, "encode", "return torch.relu(sae.prepare(x) @ sae.W_enc + sae.b_enc - sae.threshold)", "jumps"),
    (2, "encode", "return sae.W_enc.T @ x + sae.b_enc", "it stops at line 3"),
    (2, "encode", "z = sae.prepare(x) @ sae.W_enc + sae.b_enc; return (z * (z > sae.threshold)).half()", "float16"),
    (
        2,
        "rescale",
        "W = sae.W_dec / scale[:, None]; return replace(sae, W_enc=sae.W_enc * scale, W_dec=W)",
        "are wrong",
    ),
    (2, "rescale", "for p in (sae.W_enc, sae.b_enc): p.mul_(scale)", "writes into"),
    (2, "fold", "return rescale(sae, sae.threshold)", "wrong way round"),
    (2, "fold", "rescale(sae, 1 / sae.threshold)", "returns nothing"),
    (2, "fold", "return replace(rescale(sae, 1 / sae.threshold), b_enc=sae.b_enc)", "`b_enc` is not divided"),
    (2, "fold", "return replace(rescale(sae, 1 / sae.threshold), apply_b_dec_to_input=False)", "has lost apply_b_dec"),
    (2, "carry", "return f[:, index] * t_b / t_a[index]", "gathers"),
    (2, "carry", "g = torch.zeros(len(f), len(t_b)).to(f); g[:, index] = f; return g", "units are missing"),
    (2, "carry", "g = torch.zeros(len(f), len(t_b)).to(f); g[:, index] = f / t_a * t_b[index]; return g", "(-1)"),
    (3, "costs", "return torch.cdist(X, Y)", "square them"),
    (3, "costs", "return X @ Y.T", "inner products"),
    (3, "bound", "return (C - v).min(1).values.sum()", "the prices are missing"),
    (3, "bound", "return (C - v).min().sum() + v.sum()", "expected is"),
    (3, "gap", "return C[:, index].sum() - bound(C, v)", "whole columns"),
    (3, "auction", "return C.argmin(1), torch.zeros(len(C))", "must be free again"),
    (3, "auction", "return greedy(C), torch.zeros(len(C))", "the greedy pairing"),
    (3, "auction", "return torch.arange(len(C))", "return index, v"),
    (5, "p_values", "return (null_score >= score[:, None]).double().mean(1)", "no finite null"),
    (
        5,
        "p_values",
        "return (1 + (null_score > score[:, None]).double().sum(1)) / (1 + len(null_score))",
        "equal counts",
    ),
    (5, "called_real", "return p <= q", "each one alone"),
    (5, "called_real", "return p <= q / len(p)", "Bonferroni"),
    (5, "wrong_share", "return float((index != truth).double().mean())", "no claim"),
    (5, "mended", "s = cosines(a, b, match(a, b).index); return called_real(p_values(s, s), q)", "are wrong"),
    (5, "mended", f"{SCORED}; return called_real(p_values(s, r), q)", "One mistake is still there"),
    (5, "mended", f"{SCORED}; return p_values(s, r) <= q", "Two of the three"),
    (7, "compose", "return bc[ab]", "-1 is no latent"),
    (7, "compose", "return ab[bc]", "wrong way round"),
    (7, "members", "return torch.stack(steps)", "expected is shape"),
    (
        7,
        "births_deaths",
        "there = (table >= 0).sum(0); return torch.stack([there, there])",
        "the latents of each layer",
    ),
    (7, "second_child", "return b**2", "right angles"),
]


@pytest.mark.parametrize("unit, name, code, told", WRONG, ids=[f"{w[0]} {w[1]}: {w[3][:20]}" for w in WRONG])
def test_a_wrong_answer_is_told_what_is_wrong(unit, name, code, told):
    answer = stubs(unit)[name].replace("raise NotImplementedError", code)
    found = verdicts(run(unit, solutions(unit) | {name: answer}, briefly=True))
    assert not found[name] and told in found[name].says, found[name].says
    assert not found[f"unit {unit}"] and name in found[f"unit {unit}"].says


def test_every_unit_has_three_typical_wrong_answers():
    assert set(NOTEBOOKS) <= set(UNITS)
    assert all(sum(w[0] == unit for w in WRONG) >= 3 for unit in NOTEBOOKS)


@pytest.mark.parametrize("exercise", [e for unit in sorted(UNITS) for e in UNITS[unit]], ids=lambda e: e.name)
def test_an_exercise_tells_its_mistakes_apart(exercise):
    "The right answer passes, and each known mistake is told so, in the first case where it shows."
    assert exercise(exercise.right)
    for mistake in exercise.mistakes:
        verdict = exercise(mistake.does)
        assert not verdict and verdict.says == mistake.says, (mistake.says, verdict.says)
