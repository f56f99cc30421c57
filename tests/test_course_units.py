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


@pytest.mark.parametrize("answered", (True, False), ids=("solutions", "stubs"))
@pytest.mark.parametrize("unit", sorted(NOTEBOOKS))
def test_a_unit_passes_with_its_solutions_and_says_what_is_missing_without(unit, answered):
    found = verdicts(run(unit, solutions(unit) if answered else {}))
    each = [found[e.name] for e in UNITS[unit]]
    if answered:
        assert all(each) and len(found) == len(each), [v for v in each if not v]
        assert plt.get_fignums(), "the closing figure is drawn"
    else:
        assert not any(found.values()) and len(found) == len(each) + 1
        assert all("not written yet" in v.says for v in each)
        assert all(e.name in found[f"unit {unit}"].says for e in UNITS[unit])


SCORED = "s, r = (cosines(a, b, match(a, b, method=how).index) for how in ('exact', 'random'))"
COSTS = "C = torch.cdist(rows(a).double(), rows(b).double()) ** 2"
BOTH = "at = index >= 0; x, y = f[:, at] > 0, g[:, index[at]] > 0"
SPREAD = "at = index >= 0; g = torch.zeros(len(x), b.d_sae).to(x); g[:, index[at]]"
CARRIED = "a.encode(x)[:, at] / a.threshold[at] * b.threshold[index[at]]"
NATS = "nats = lambda l, k: -torch.log_softmax(l[:, : 6 - k], 2).gather(2, ids[:, k:, None]).mean()"
DOUBTS = "from saematch.course.claims import asked; return {**asked(a, b)"
TURNED = "from scipy.optimize import linear_sum_assignment as lsa; return torch.as_tensor(lsa(C.T.numpy())[1])"
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
    (4, "rows", "return torch.cat([sae.W_enc.T, sae.W_dec, sae.b_enc[:, None]], 1)", "fold first"),
    (4, "rows", "s = fold(sae); return torch.cat([s.W_enc, s.W_dec, s.b_enc[:, None]], 1)", "transpose it"),
    (4, "rows", "s = fold(sae); return torch.cat([s.W_enc.T, s.W_dec], 1)", "bias is missing"),
    (4, "matched", f"{COSTS}; return C.argmin(1)", "none twice"),
    (4, "matched", f"{COSTS}; return greedy(C)", "this is greedy"),
    (4, "matched", f"{COSTS}; {TURNED}", "the wrong way round"),
    (4, "margin", "return C.sort(1).values[:, 1] - C.sort(1).values[:, 0]", "not the smallest"),
    (4, "margin", "return C.amin(1) - C[torch.arange(len(C)), index]", "leave it out"),
    (4, "relative_cost", "return float(C[torch.arange(len(C)), index].mean() / C.mean())", "-1 is no partner"),
    (4, "relative_cost", "return C.mean() / C[torch.arange(len(C)), index].mean()", "the other way round"),
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
    (6, "matching_score", "return float(((f > 0) & (g[:, index] > 0)).sum() / (f > 0).sum())", "-1 is no partner"),
    (6, "matching_score", f"{BOTH}; return float((x & y).sum() / (x | y).sum())", "Jaccard"),
    (6, "matching_score", f"{BOTH}; return float((x & y).sum() / y.sum())", "the partner's tokens"),
    (6, "carried_state", "return b.decode(a.encode(x)[:, index] / a.threshold[index] * b.threshold)", "this gathers"),
    (6, "carried_state", f"{SPREAD} = a.encode(x)[:, at]; return b.decode(g)", "units are missing"),
    (6, "carried_state", f"{SPREAD} = {CARRIED}; return g @ b.W_dec", "`b_dec` is missing"),
    (6, "over_copy", "return float(1 - (x_hat - y).var(0).sum() / y.var(0).sum())", "subtract what a copy"),
    (6, "over_copy", "return float(1 - (x_hat - x).var(0).sum() / x.var(0).sum())", "held against x"),
    (6, "delta_loss", f"{NATS}; return float(nats(changed, 0) - nats(logits, 0))", "predict the token at t + 1"),
    (6, "delta_loss", f"{NATS}; return float(nats(logits, 1) - nats(changed, 1))", "predicts worse"),
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
    (8, "doubts", f"{DOUBTS}, 'other width': a.d_sae != b.d_sae}}", "what must agree"),
    (8, "doubts", f"{DOUBTS}, 'one seed': a.info.get('seed') == b.info.get('seed')}}", "None is no seed"),
    (8, "doubts", "return {'one seed': True}", "it returns 1 parts"),
    (8, "real_by_all", "return torch.stack([called_real(r, q) for r in p]).any(0)", "*every* null must"),
    (8, "real_by_all", "return (p <= q).all(0)", "each match alone"),
    (8, "real_by_all", "return called_real(p.mean(0), q)", "no p-value"),
    (8, "confirmed", "return torch.stack([score[real].mean(), score[~real].mean()])", "fewer than ten"),
    (8, "confirmed", "k = tokens > 10; return torch.stack([score[k & real].mean(), score[k & ~real].mean()])", "`>=`"),
    (8, "claim", "return f'{called} of {of} at {q}'", "among strangers: 3"),
    (8, "claim", "return f'{called} of {of} at {q}, strangers {among_strangers}; they are the same'", "too much"),
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
