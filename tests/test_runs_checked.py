"""A run with an evaluation and cards: one bit of any of its files is turned, and `check` names that file."""

from dataclasses import replace

import matplotlib
import pytest
import torch

from saematch import random_sae, save_sae
from saematch.model.cards import cards_folder
from saematch.model.toys import random_lm
from saematch.studies.check import check, kind_of
from saematch.studies.options import Trial
from saematch.studies.run import run
from saematch.writer import MANIFEST, files_in

KINDS = "record manifest summary match lineages table chunk facts figure page".split()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    "A run of two toy layers, judged on a random model, with cards: (folder, files of each kind)."
    folder = tmp_path_factory.mktemp("checked")
    random_lm(folder / "lm", dtype=torch.float32)
    for l in range(2):
        info = dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post")
        sae = replace(random_sae(16, 12, seed=l, dtype=torch.float32), info=info)
        save_sae(sae, folder / "suite" / f"layer_{l}.safetensors")
    words = torch.randint(0, 60, (16, 30), generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "text").mkdir()
    for d, row in enumerate(words):
        (folder / "text" / f"{d:02d}.txt").write_text(" ".join(f"w{i}" for i in row))
    few = dict(documents=6, loss_documents=2, fit_documents=4, length=24, features=4, feature_documents=10)
    trial = Trial(model=str(folder / "lm"), text=(str(folder / "text"),), cards=True, **few)
    with pytest.MonkeyPatch.context() as quick:
        blank = b"\x89PNG, which nobody looks at"
        quick.setattr("saematch.studies.report.png", lambda fig: blank)
        run(folder / "suite", out=folder / "out", trial=trial, jobs=1)
    matplotlib.pyplot.close("all")
    kinds = {}
    for name in [*files_in(folder / "out"), MANIFEST]:
        kinds.setdefault(kind_of(name), []).append(name)
    return folder, kinds


def test_a_run_is_whole_and_true(evaluated):
    folder, kinds = evaluated
    found = check(folder / "out", again=True)
    assert found.ok and found.unknown.empty, found.lines()
    said = check(folder / "out")
    assert said.ok and [*said.unknown.kind] == ["lineages"] and "not recomputed: thresholds" in said.lines()[0]
    assert sorted(kinds) == sorted(KINDS), "a kind of file that no test turns a bit of"
    assert {"match", "lineages", "facts", "table", "cards", "weights"} <= set(
        found.table[found.table.question == "true"].kind
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_bit_is_found_and_its_file_is_named(kind, evaluated):
    folder, kinds = evaluated
    for number, name in enumerate((kinds[kind][0], kinds[kind][-1])):
        path = folder / "out" / name
        before = path.read_bytes()
        at = (len(before) // 3, len(before) - 7)[number]
        path.write_bytes(before[:at] + bytes([before[at] ^ (1 << (at % 8))]) + before[at + 1 :])
        found = check(folder / "out")
        path.write_bytes(before)
        assert set(found.wrong.file) == {name}, found.lines()
    path.unlink()
    found = check(folder / "out")
    path.write_bytes(before)
    assert set(found.wrong.file) == {name} and "is missing" in found.lines()[0], found.lines()


@pytest.mark.parametrize("name", ["layer_1.parquet", "texts.parquet", "words.parquet"])
def test_a_turned_bit_of_cards_is_found(name, evaluated):
    folder, _ = evaluated
    path = cards_folder(str(folder / "suite")) / name
    before = path.read_bytes()
    for at in (5, len(before) // 2, before.rfind(b"saematch.blake2b"), len(before) - 2):
        path.write_bytes(before[:at] + bytes([before[at] ^ 4]) + before[at + 1 :])
        found = check(folder / "out")
        path.write_bytes(before)
        assert set(found.wrong.kind) == {"cards"} and name in " ".join(found.lines()), found.lines()


def test_a_turned_bit_of_the_weights_is_found(evaluated):
    folder, _ = evaluated
    path = folder / "suite" / "layer_1.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
    found = check(folder / "out")
    path.write_bytes(before)
    assert [*found.wrong.kind] == ["weights"] and "layer_1.safetensors" in found.lines()[0], found.lines()
