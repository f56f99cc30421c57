# Written from nbs/judging/08_meaning.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.judging.meaning import (
    placements,
    cross_detection,
    overlap,
    correlation,
    same_meaning,
    meanings,
    texts_behind,
    quoted,
)


import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from fastcore.test import expect_fail

from saematch.ground import write_parquet
from saematch.model.text import Tokens


def test_placements_are_those_of_the_definition():
    g = np.random.default_rng(0)
    n, token = 400, np.random.default_rng(1).integers(0, 12, 400)
    a = np.where(g.random(n) < 0.2, g.random(n), 0)
    b = np.where(g.random(n) < 0.4, g.integers(-2, 4, n) + 3 * (a > 0), 0).astype(float)
    a[token == 3] = 1.0  # always active on this token: no hard negative


    def brute(a, b, token):
        for p in np.flatnonzero(a):
            rivals = [x for x in range(len(a)) if a[x] == 0 and token[x] == token[p]]
            rivals = rivals or [x for x in range(len(a)) if a[x] == 0]
            yield sum((b[x] < b[p]) + 0.5 * (b[x] == b[p]) for x in rivals) / len(rivals)


    found, hard = placements(a, b, token)
    np.testing.assert_allclose(found, list(brute(a, b, token)), rtol=0, atol=1e-12)
    assert abs(hard - np.mean(token[a > 0] != 3)) < 1e-12
    from scipy.stats import mannwhitneyu

    one = np.zeros(n, dtype=int)
    auroc = mannwhitneyu(b[a > 0], b[a == 0]).statistic / (a > 0).sum() / (a == 0).sum()
    np.testing.assert_allclose(placements(a, b, one)[0].mean(), auroc)
    found.mean(), hard


def test_a_copy_is_detected_and_a_stranger_is_not():
    g = np.random.default_rng(0)
    n, token, document = 6000, g.integers(0, 40, 6000), np.arange(6000) // 100
    latent = lambda: np.where(g.random(n) < 0.05, 1 + g.random(n), 0)
    a, stranger = latent(), latent()
    copy, other = (cross_detection(a, f, token, document) for f in (a, stranger))
    assert copy.value == 1 and copy.interval() == (1, 1) and other.interval()[0] < 0.5 < other.interval()[1]
    assert abs(other.value - 0.5) < 0.03
    same_token = np.where(np.isin(token, [1, 2]), 1.0, 0)  # both like the tokens 1 and 2, in other contexts
    x, y = (np.where(g.random(n) < 0.5, same_token, 0) for _ in range(2))
    assert abs(cross_detection(x, y, token, document).value - 0.5) < 0.06 and overlap(x, y, token) > 0.85
    assert abs(overlap(a, a, token) - 1) < 1e-12 and np.isnan(overlap(a, 0 * a, token))
    assert abs(correlation(a, x) - np.corrcoef(a, x)[0, 1]) < 1e-12 and np.isnan(correlation(a, 0 * a + 2))
    assert abs(correlation(a - 3, x) - np.corrcoef(a, x)[0, 1]) < 1e-12
    copy, other, overlap(x, y, token)


def test_verdicts():
    g = np.random.default_rng(0)
    n, token, document = 6000, g.integers(0, 40, 6000), np.arange(6000) // 100
    latent = lambda: np.where(g.random(n) < 0.05, 1 + g.random(n), 0)
    a, stranger = latent(), latent()
    half = np.where((a > 0) & (g.random(n) < 0.4), a, 0)  # active in part of the places of a
    assert [same_meaning(a, x, token, document).level for x in (a, half, stranger)] == [3, 2, 1]
    assert abs(same_meaning(a, a, token, document).correlation - 1) < 1e-12
    rare = np.where(np.arange(n) < 9, 1.0, 0)
    few = np.where(np.arange(n) < 300, a, 0)  # in three documents
    assert same_meaning(a, rare, token, document).level == 0 == same_meaning(few, a, token, document).level
    assert same_meaning(a, 0 * a, token, document).verdict == "cannot say"
    with expect_fail(ValueError, "must be lists of one length"):
        same_meaning(a, a[:-1], token, document)
    with expect_fail(ValueError, "1 activations are NaN"):
        same_meaning(a, np.where(np.arange(n) == 3, np.nan, a), token, document)
    with expect_fail(ValueError, "must not lie above"):
        same_meaning(a, a, token, document, different=0.9, same=0.6)
    for x in (a, half, stranger, rare):
        print(same_meaning(a, x, token, document))


def test_a_table_of_verdicts():
    g = np.random.default_rng(0)
    token, document = g.integers(0, 5, 900), np.arange(900) // 30
    f = np.where(g.random((3, 900)) < 0.2, 1.0, 0)
    table = meanings(f, f, [(0, 0), (0, 1), (2, -1)], token, document)
    assert table.level.tolist() == [3, 1] and table.score[1] == same_meaning(f[0], f[1], token, document).score
    assert len(meanings(f, f, [], token, document)) == 0
    table.round(2)


def test_a_document_behind_the_cards_is_found():
    ids = torch.randint(0, 900, (6, 40), generator=torch.Generator().manual_seed(0))
    tokens = Tokens(ids, torch.tensor([40, 40, 40, 40, 10, 40]))
    ids[5, 20:36] = ids[0, 3:19]  # sixteen tokens in a row, elsewhere in the document
    ids[3, 20:35] = ids[0, 3:18]  # fifteen
    behind = [ids[0].tolist(), ids[2, :30].tolist(), ids[4, :10].tolist()]
    found = quoted(tokens, behind)
    assert found.tolist() == [True, False, True, False, True, True] and not quoted(tokens, []).any()
    with tempfile.TemporaryDirectory() as folder:
        assert texts_behind(folder) == []
        table = pa.table(dict(ids=pa.array(behind, pa.list_(pa.int32()))))
        write_parquet(table, Path(folder) / "texts.parquet")
        assert texts_behind(folder) == behind
    found


def test_no_held_out_document_stands_behind_a_card():
    import re

    from saematch.model.cards import cards, cards_folder
    from saematch.model.text import HELD_OUT, TEXTS, load_text


    def shingles(text: str) -> set:
        "Eight words in a row."
        words = re.findall(r"\w+", text.lower())
        return {" ".join(words[k : k + 8]) for k in range(len(words) - 7)}


    here, behind = cards("smollm2-135m-resid", 14), texts_behind(cards_folder("smollm2-135m-resid"))
    shown = set().union(*(shingles("".join(here.words()[i] for i in ids)) for ids in behind))
    shipped = [text for name in TEXTS for text in load_text(name)]
    assert len(behind) == len(shipped) and sum(bool(shown & shingles(text)) for text in shipped) == len(shipped)
    held = [shingles(text) for text in load_text(HELD_OUT)]
    assert len(held) == 360 and not any(own & shown for own in held)
    assert sum(map(len, held)) == len(set().union(*held)), "no passage repeats another"
    f"{len(shown):,} runs of eight words behind the cards, {sum(map(len, held)):,} held out, none in both"
