# Written from nbs/model/05_label.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.model.label import (
    UNCLEAR,
    word,
    quoted,
    best_words,
    Label,
    Places,
    fits,
    label,
    detection,
)


import numpy as np


def test_words_are_what_a_reader_sees():
    assert [word(t) for t in (" was", "Was", "WAS\n", "\n\n    ", "  ", "")] == [
        "was",
        "was",
        "was",
        "line break",
        "spaces",
        "",
    ]
    assert "\x1b" not in word("\x1b[31mred")
    assert quoted(["is", ",", "x."]) == "is, ',', x."
    quoted(map(word, [" Was", ",", "\n"]))


def test_no_other_set_predicts_better():
    from itertools import combinations

    g = np.random.default_rng(0)
    for _ in range(20):
        n = g.integers(50, 90, 7)
        k = g.integers(2, n)
        counts = {f"w{i}": (int(k[i]), int(n[i])) for i in range(7)}
        active = int(k.sum() + g.integers(0, 40))
        chosen, f1 = best_words(counts, active, most=7)
        sets = [list(s) for r in range(1, 8) for s in combinations(counts, r)]
        score = lambda s: 2 * sum(counts[w][0] for w in s) / (sum(counts[w][1] for w in s) + active)
        assert abs(f1 - score(chosen)) < 1e-12 and f1 > max(map(score, sets)) - 0.01, "up to the correction for luck"
    assert best_words({}, 5) == ([], 0.0)
    chosen, f1


def test_a_label_is_a_prediction():
    places = Places.of([["one", " of", " them"], [" of", " One", " of"], ["7", "x"]])
    assert fits(Label("", "tokens", at=frozenset(["of"])), places).tolist() == [0, 1, 0, 1, 0, 1, 0, 0]
    after_one = Label("of, after one", "context", at=frozenset(["of"]), before=frozenset(["one"]))
    assert fits(after_one, places).tolist() == [0, 1, 0, 0, 0, 1, 0, 0], "the second document does not follow the first"
    assert fits(Label("", "context", after=frozenset(["them"])), places).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert fits(Label("digits", "class", token_class="digits"), places).tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert not fits(UNCLEAR, places).any()
    [places.tokens[i] for i in places.here[fits(after_one, places)]]


def test_each_rule_gives_its_label():
    from fastcore.test import expect_fail

    be = [(" is", 40, 0.4, 0.8), (" was", 30, 0.3, 0.9), ("Is", 5, 0.05, 1.0), (" the", 5, 0.05, 0.001)]
    assert str(label(be, 100)) == "is, was" and label(be, 100).kind == "tokens"
    one_of = [([" some", " one", " of", " them"], 2)] * 5
    said = label([(" of", 10, 0.5, 0.01)], 20, one_of)
    assert str(said) == "of after one before them" and said.before == {"one"} and said.at == {"of"}
    digits = [(str(d), 9, 0.1, 0.5) for d in range(10)]
    assert str(label(digits, 100)) == "digits"
    next_to = [([f"x{k}", w], 0) for k, w in enumerate((" to", " to", " to", " from", " from", " by"))]
    assert str(label([("x0", 6, 0.1, 0.01)], 60, next_to)) == "before to, from"
    spread = [([f"a{k}", f"b{k}", w], 1) for k, w in enumerate((" to", " from", " by", " in", " at", " on"))]
    assert label([("b1", 2, 0.1, 0.01)], 60, spread, [" to", " from", " by", " in", " at"]).kind == "promotes"
    assert str(label([(" the", 5, 0.05, 0.001)], 100)) == "unclear" == str(label([], 0))
    with expect_fail(ValueError, "share of occurrences of ' is'"):
        label([(" is", 40, 0.4, 0.0)], 100)
    with expect_fail(ValueError, "but on 3 in all"):
        label(be, 3)
    [str(label(be, 100)), str(said), str(label(digits, 100))]


def test_detection_is_what_it_says():
    g = np.random.default_rng(0)
    p, a = g.random((2, 500)) < 0.3
    found = detection(p, a)
    brute = [sum(x and y for x, y in zip(p, a)) / sum(z) for z in (p, a)]
    assert np.allclose([found["precision"], found["recall"]], brute)
    assert abs(found["f1"] - 2 * brute[0] * brute[1] / sum(brute)) < 1e-12
    assert np.isnan(detection(p & False, a)["precision"]) and detection(p & False, a)["f1"] == 0
    found
