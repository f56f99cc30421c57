"Results with one byte changed: matches, chunks, tables, records, caches, cards, lineages. Refused, or as they were."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from harness import SEEDS, Refused, flip, sentences, tried
from hypothesis import event, given

from saematch import Match, load_suite, match, planted, random_sae, save_sae
from saematch.ground import notebook_data, open_parquet, read_json, write_json, write_safetensors
from saematch.making.states import cache_states, open_states, pack
from saematch.matching.lineage import Lineages
from saematch.model.cards import Cards, make_cards
from saematch.model.lm import load_lm
from saematch.model.text import tokenize
from saematch.model.toys import Letters, letters_lm, random_lm
from saematch.studies.passes import load_chunk
from saematch.studies.tables import read_table, write_table

TEXT = " ".join(f"w{(7 * k * k) % 60}" for k in range(600))


class Remade(Exception):
    "A damaged file counts as one that is not there, and is computed again."


def a_match(folder):
    a = random_sae(8, 24)
    match(a, planted(a, seed=2).sae).save(folder / "m.safetensors")
    seen = lambda m: (m.index.tolist(), m.cost.tolist(), m.info, m.proof and (m.proof.objective, m.proof.status))
    return folder / "m.safetensors", lambda path: seen(Match.load(path))


def a_chunk(folder):
    write_safetensors(folder / "c.safetensors", dict(x=torch.arange(40.0), n=torch.ones(3)), dict(key="this"))

    def read(path):
        if (found := load_chunk(path, "this")) is None:
            raise Remade
        return {k: t.tolist() for k, t in found.items()}

    return folder / "c.safetensors", read


def a_table(folder):
    words = pd.DataFrame(dict(n=range(99), s=["word"] * 99, x=np.linspace(0, 1, 99)))
    write_table(folder / "t.parquet", words)
    return folder / "t.parquet", lambda path: read_table(path).to_dict()


def a_summary(folder):
    write_json(folder / "summary.json", read_json(notebook_data("paper") / "summary.json"))
    return folder / "summary.json", read_json


def a_record(folder):
    write_json(folder / "run.json", dict(options=dict(fold=True, reject=None), layers=[1, 2], said="é\n"))
    return folder / "run.json", read_json


def cached_states(folder):
    states = cache_states(letters_lm(), pack([TEXT], Letters(), context=64), [0, 1], folder / "states", progress=False)
    return states.folder / "layer_1.npy", lambda path: open_states(path.parent)[1].tolist()


def a_file_of_cards(name):
    "Cards of two toys; the whole file is read, and one card with its texts."

    def made(folder):
        lm = load_lm(random_lm(folder / "lm"), "cpu", torch.float32)
        for layer in (1, 2):
            save_sae(random_sae(16, 24, seed=layer), folder / "suite" / f"layer_{layer}.safetensors")
        tokens = tokenize(lm, [TEXT[k : k + 200] for k in range(0, 1200, 100)])
        cards = make_cards(load_suite(folder / "suite"), lm, tokens, share=3, progress=False)
        seen = lambda path: (open_parquet(path).read().to_pylist(), str(vars(Cards(path.parent, 2)[3])))
        return cards / f"{name}.parquet", seen

    return made


def lineages(folder):
    one = torch.arange(24)
    half = torch.stack([torch.full((24,), 0.5), torch.full((24,), torch.nan)], 1)
    info = dict(name="toys", fingerprints=["a", "b"], objective=1.0, bound=2.0)
    t = Lineages(torch.stack([one, one.flip(0)], 1), (1, 2), (24, 24), torch.ones(24), half, info=info)
    t.save(folder / "l.safetensors")
    return folder / "l.safetensors", lambda path: str(vars(Lineages.load(path)))


KINDS = dict(match=a_match, chunk=a_chunk, table=a_table, summary=a_summary, record=a_record, states=cached_states)
KINDS["lineages"] = lineages
KINDS |= {f"cards: {name}": a_file_of_cards(name) for name in ("layer_2", "texts", "words")}


@pytest.fixture(scope="module", params=KINDS)
def kept(request, tmp_path_factory):
    "(file, how to read it, its bytes, what it holds) of each kind of result."
    path, read = KINDS[request.param](Path(tmp_path_factory.mktemp("results")))
    return path, read, path.read_bytes(), read(path)


@tried(30)
@given(seed=SEEDS)
def test_a_flipped_byte_of_a_result(kept, seed):
    "Each carries a checksum, so that no flip makes another result."
    path, read, data, before = kept
    flip(path, data, seed)
    try:
        with sentences(path):
            found = read(path)
    except Refused:
        return
    except Remade:
        event("computed again")
        return
    event("as it was")
    assert str(found) == str(before)
