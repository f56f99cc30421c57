"""Damage after writing: one changed byte in a match or a chunk, a suite file replaced while a run goes on."""

import random
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from saematch.ground import read_safetensors, write_safetensors
from saematch.matching.match import Match, match
from saematch.saes.files import save_sae
from saematch.saes.suite import fingerprint, load_suite
from saematch.saes.toys import planted, random_sae
from saematch.studies.matches import match_all
from saematch.studies.options import Options
from saematch.studies.passes import load_chunk
from saematch.studies.plan import plan


def changed(path, place, rng):
    "The file with one bit of one byte turned over."
    whole = path.read_bytes()
    path.unlink()  # tensors that were read from it may still be mapped
    path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
    return whole


def test_a_changed_byte_in_the_data_of_a_match_is_refused(tmp_path):
    a = random_sae(8, 24, seed=1)
    m, path, rng = match(a, planted(a, seed=2)[0]), tmp_path / "m.safetensors", random.Random(0)
    m.save(path)
    size = path.stat().st_size
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for place in rng.sample(range(start, size), 60):
        whole = changed(path, place, rng)
        with pytest.raises(ValueError, match="damaged"):
            Match.load(path)
        path.write_bytes(whole)
    for place in rng.sample(range(start), 60):  # in the header: refused, or nothing of the match has changed
        whole = changed(path, place, rng)
        try:
            again = Match.load(path)
            assert torch.equal(again.index, m.index) and torch.equal(again.cost, m.cost) and again.info == m.info
        except ValueError:
            pass
        path.write_bytes(whole)


def test_a_match_without_a_checksum_is_still_read(tmp_path):
    a = random_sae(8, 24, seed=1)
    m, path = match(a, planted(a, seed=2)[0]), tmp_path / "m.safetensors"
    m.save(path)
    tensors, meta = read_safetensors(path)
    save_file(tensors, path, meta)  # as earlier versions wrote it
    assert torch.equal(Match.load(path).index, m.index)


def test_a_changed_byte_in_a_chunk_is_computed_again(tmp_path):
    path, rng = tmp_path / "c.safetensors", random.Random(0)
    write_safetensors(path, dict(x=torch.arange(40.0), n=torch.ones(3, dtype=torch.int64)), dict(key="this"))
    assert load_chunk(path, "this") is not None
    size, start = path.stat().st_size, 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for place in rng.sample(range(start, size), 60):
        whole = changed(path, place, rng)
        assert load_chunk(path, "this") is None
        path.write_bytes(whole)


def suite_in(folder):
    "Two layers in a folder, and what a run of them needs."
    for layer in (1, 2):
        save_sae(random_sae(8, 24, seed=layer), folder / "suite" / f"layer_{layer}.safetensors")
    suite = load_suite(folder / "suite")
    return suite, {str(layer): fingerprint(suite[layer]) for layer in suite}, plan([1, 2], Options())


def test_a_suite_file_replaced_between_plan_and_load_poisons_nothing(tmp_path):
    suite, hashes, tasks = suite_in(tmp_path)
    right = tmp_path / "suite" / "layer_2.safetensors"
    kept = right.read_bytes()
    save_sae(random_sae(8, 24, seed=9), right)
    again = load_suite(tmp_path / "suite")  # nothing of it is loaded yet
    with pytest.raises(ValueError, match="layer 2 .* was replaced meanwhile"):
        match_all(again, tasks, tmp_path / "out", hashes, jobs=1)
    right.write_bytes(kept)
    found = match_all(load_suite(tmp_path / "suite"), tasks, tmp_path / "out", hashes, jobs=1)
    by_hand = match(suite[1], suite[2], **asdict(replace(Options(), dead="keep")))
    assert torch.equal(found.direct(1, 2).index, by_hand.index)


def test_damaged_matches_of_a_run_are_made_again(tmp_path):
    suite, hashes, tasks = suite_in(tmp_path)
    found, rng = match_all(suite, tasks, tmp_path / "out", hashes, jobs=1), random.Random(0)
    for path in (tmp_path / "out").rglob("*.safetensors"):
        changed(path, path.stat().st_size - rng.randrange(1, 100), rng)
    again = match_all(suite, tasks, tmp_path / "out", hashes, jobs=1)
    for a, b, name, m in found:
        torch.testing.assert_close(again[a, b, name].cost, m.cost, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(again[a, b, name].index, m.index)
