"Files, folders, names and devices that are wrong on purpose: each ends in a sentence, and nothing of them is run."

import json
import random
import re
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from saematch.ground import UsageError, checksum, notebook_data, read_json, without_sum, write_safetensors
from saematch.matching.lineage import Lineages
from saematch.model.lm import load_lm
from saematch.model.toys import random_lm
from saematch.saes.files import load_sae, read_npz, saes_below, save_sae
from saematch.saes.layers import digits_in, layer_of
from saematch.saes.releases import releases
from saematch.saes.suite import load_suite
from saematch.saes.toys import random_sae
from saematch.studies.run import run
from saematch.studies.scores import load_run
from saematch.writer import sweep


def own_code(folder, marker):
    "A file with classes that a configuration may name, which writes a marker when it is imported."
    (folder / "own.py").write_text(
        f"open({str(marker)!r}, 'w').write('ran')\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class Config(LlamaConfig):\n    model_type = 'own'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
        "class Words(PreTrainedTokenizerFast):\n    pass\n"
    )


@pytest.mark.parametrize(
    "name, more",
    [
        (
            "config.json",
            dict(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}),
        ),
        ("config.json", dict(auto_map={"AutoModelForCausalLM": "own.Model"})),
        ("tokenizer_config.json", dict(tokenizer_class="Words", auto_map={"AutoTokenizer": [None, "own.Words"]})),
    ],
)
def test_code_in_a_model_folder_is_not_run(tmp_path, monkeypatch, name, more):
    monkeypatch.setattr("builtins.input", lambda *question: "y")  # yes | saematch run --evaluate --model FOLDER
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = random_lm(tmp_path / "lm"), tmp_path / "marker"
    own_code(folder, marker)
    cfg = json.loads((folder / name).read_text()) | more
    (folder / name).write_text(json.dumps(cfg))
    with pytest.raises(UsageError, match=f"{name} has auto_map.*refused"):
        load_lm(folder, "cpu", torch.float64)
    assert not marker.exists()


def test_every_loader_of_a_model_folder_is_told_to_run_no_code(tmp_path, monkeypatch):
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    folder, said = random_lm(tmp_path / "lm", "gemma2"), []
    for cls, call in (
        (transformers.AutoTokenizer, "from_pretrained"),
        (transformers.AutoModelForCausalLM, "from_pretrained"),
        (TransformerBridge, "boot_transformers"),
    ):
        load = getattr(cls, call)
        watched = lambda *args, load=load, **how: said.append(how.get("trust_remote_code")) or load(*args, **how)
        monkeypatch.setattr(cls, call, watched)
    load_lm(folder, "cpu", torch.float64)
    assert len(said) >= 3 and said[0] is said[1] is said[2] is False


def suite_in(folder, layers=(0, 1), **info):
    for layer in layers:
        save_sae(replace(random_sae(4, 6, seed=layer), info=dict(info)), folder / f"layer_{layer}.safetensors")
    return folder


def saelens_in(folder, **metadata):
    sae = random_sae(8, 12, seed=4)
    folder.mkdir(parents=True)
    tensors = {k: p.contiguous() for k, p in sae.parameters().items()}
    (folder / "sae_weights.safetensors").write_bytes(safetensors_bytes(tensors))
    cfg = dict(architecture="jumprelu", d_in=8, d_sae=12, metadata=metadata)
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder


def within(seconds, command):
    "Output of `saematch ...` in a process of its own, which is killed when it takes longer."
    process = [sys.executable, "-m", "saematch", *map(str, command)]
    return subprocess.run(process, capture_output=True, text=True, timeout=seconds)


def test_links_to_their_own_folder_end(tmp_path):
    folder = suite_in(tmp_path / "suite")
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(".")
    (folder / "up").symlink_to("..")
    done = within(60, ["info", folder])
    assert done.returncode == 0 and "layers=[0, 1]" in done.stdout, done.stderr


def test_links_among_many_folders_end_and_links_to_other_folders_are_followed(tmp_path):
    store = tmp_path / "store"
    for i in range(12):
        (store / f"x{i}").mkdir(parents=True)
    for i in range(12):
        for j in range(12):
            (store / f"x{i}" / f"to{j}").symlink_to(store / f"x{j}")
    suite_in(store / "x3", [7])
    folder = suite_in(tmp_path / "suite")
    (folder / "store").symlink_to(store / "x0")
    found = saes_below(folder, None, "suite")
    assert list(found) == [0, 1, 7] and found[7].is_file()


def test_a_layer_may_be_a_link_into_a_store_of_the_same_folder(tmp_path):
    saelens_in(tmp_path / "store" / "abc", hook_name="blocks.3.hook_resid_post")
    (tmp_path / "layer_3").symlink_to(tmp_path / "store" / "abc")
    (tmp_path / "all").symlink_to(tmp_path)
    assert saes_below(tmp_path, None, "folder") == {3: tmp_path / "layer_3"}


def test_a_pattern_of_many_stars_is_matched_at_once():
    code = (
        "from saematch.saes.layers import by_layer\n"
        "names = ['layer_3/' + 'a' * 60, 'layer_4/' + 'a' * 59 + 'b']\n"
        "for stars in ('*' * 60, '*a' * 30 + '*'):\n"
        "    print(by_layer(names, 'layer_{layer}/' + stars + 'b', 'names'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("{4: 'layer_4/") == 2, done.stderr


def test_patterns_pick_what_a_regular_expression_picks():
    draw = random.Random(0)
    for _ in range(20_000):
        pattern = "".join(draw.choice(["{layer}", "*", "**", "a", "1", "/", "a1"]) for _ in range(draw.randint(1, 6)))
        name = "".join(draw.choice("a12/") for _ in range(draw.randint(0, 9)))
        regex = re.escape(pattern).replace(re.escape("{layer}"), r"(\d+)").replace(r"\*", "[^/]*")
        m = re.fullmatch(regex, name)
        if "{layer}" in pattern:
            assert digits_in(pattern, name) == (m[1] if m else None), (pattern, name)


def test_text_of_a_file_does_not_steer_the_terminal(tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    folder = saelens_in(tmp_path / "sae", hook_name=f"blocks.3.{evil}", model_name=evil)
    own = tmp_path / "own.safetensors"
    save_sae(replace(random_sae(4, 6), info=dict(hook_name=evil, model_name=evil, architecture=evil)), own)
    many = suite_in(tmp_path / "many", hook_name=evil)
    empty = tmp_path / f"x{evil}"
    empty.mkdir()
    for source in (folder, own, many, empty):
        done = within(60, ["info", source])
        said = done.stdout + done.stderr
        assert all(c.isprintable() or c == "\n" for c in said) and ("\\x1b]0;owned\\x07" in said), ascii(said)


def test_only_our_own_temporary_files_are_swept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = [".backup.20240101.v2.tmp", f".run.json.{dead.pid}.1.tmp", f".a.{dead.pid}.saematch.tmp", ".saematch.tmp"]
    for name in mine:
        (tmp_path / name).write_text("years of work")
    code = f"import os\nfrom saematch.ground import atomic\nwith atomic({str(tmp_path / 'x')!r}) as tmp:\n"
    code += "    tmp.write_text('half'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code])
    assert len(list(tmp_path.iterdir())) == len(mine) + 1
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(mine)


def damaged_archives(folder):
    "Archives of one array, each damaged in another way."
    np.savez_compressed(folder / "good.npz", W_enc=np.arange(4000.0))
    whole = (folder / "good.npz").read_bytes()
    at = whole.index(b"W_enc.npy") + 60
    yield "zlib", whole[:at] + bytes(20) + whole[at + 20 :]
    for name, kind in (("lzma", zipfile.ZIP_LZMA), ("bz2", zipfile.ZIP_BZIP2)):
        with zipfile.ZipFile(folder / name, "w", kind) as z:
            z.write(folder / "good.npz", "W_enc.npy")
        data = (folder / name).read_bytes()
        yield name, data[:60] + b"\xff" * 40 + data[100:]
    method = whole.replace(b"PK\x03\x04\x2d\x00\x00\x00\x08\x00", b"PK\x03\x04\x2d\x00\x00\x00\x63\x00")
    central = method.index(b"PK\x01\x02") + 10
    yield "method", method[:central] + b"\x63\x00" + method[central + 2 :]
    flag = bytearray(whole)
    flag[6] |= 1
    flag[whole.index(b"PK\x01\x02") + 8] |= 1
    yield "encrypted", bytes(flag)
    for name, header in (
        ("tokens", b"{'descr': (((((('<f8'"),
        ("literal", b"{'descr': '<f8', 'shape': 1+}"),
        ("quote", b"'''"),
    ):
        array = b"\x93NUMPY\x01\x00" + (64).to_bytes(2, "little") + header.ljust(63) + b"\n" + bytes(80)
        with zipfile.ZipFile(folder / name, "w") as z:
            z.writestr("W_enc.npy", array)
        yield name, (folder / name).read_bytes()


def test_a_damaged_archive_ends_in_a_sentence(tmp_path):
    path, tried = tmp_path / "params.npz", 0
    for name, data in damaged_archives(tmp_path):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="cannot be read as arrays"):
            raise AssertionError(f"{name} was read: {read_npz(path)}")
        tried += 1
    assert tried == 8


def test_a_deeply_nested_configuration_ends_in_a_sentence(tmp_path):
    deep = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "cfg.json").write_text(deep)
    with pytest.raises(ValueError, match="cfg.json is not valid JSON"):
        read_json(tmp_path / "cfg.json")
    tensors = {k: p.contiguous() for k, p in random_sae(4, 6).parameters().items()}
    for field in ("info", "settings"):
        own = tmp_path / "own.safetensors"
        own.write_bytes(safetensors_bytes(tensors, {"format": "saematch.sae/1", field: deep}))
        with pytest.raises(ValueError, match="own.safetensors is not valid JSON"):
            load_sae(own)


def test_half_a_surrogate_pair_in_a_configuration_ends_in_a_sentence(tmp_path):
    folder = saelens_in(tmp_path / "sae", hook_name="blocks.3.\ud800")
    with pytest.raises(ValueError, match="cfg.json is not valid JSON"):
        load_sae(folder)


def test_a_user_nobody_knows_ends_in_a_sentence():
    for load in (load_sae, load_suite, load_lm, load_run, lambda out: run("smollm2-135m-resid", out=out)):
        with pytest.raises(UsageError, match="no home folder is known for ~nosuchuser"):
            load("~nosuchuser/saes")


def test_a_number_no_layer_can_have_is_no_layer(tmp_path):
    digits = "9" * 24
    assert layer_of(f"layer_{digits}") is None and layer_of("layer_000014") == 14
    assert layer_of("layer_" + "9" * 5000) is None, "int() itself refuses so many digits"
    folder = saelens_in(tmp_path / f"layer_{digits}", hook_name=f"blocks.{digits}.hook", hook_layer=10**24)
    assert load_sae(folder).layer is None
    with pytest.raises(UsageError, match="has no SAE with a layer number"):
        saes_below(tmp_path, None, "folder")
    with pytest.raises(UsageError, match="has no SAE with a layer number for pattern"):
        saes_below(tmp_path, "layer_{layer}", "folder")


def test_a_layer_of_an_embedded_suite_by_its_number():
    a, b = load_sae("smollm2-135m-resid/14"), load_sae("smollm2-135m-resid/layer_14")
    assert a.layer == 14 and a.info == b.info and torch.equal(a.W_enc, b.W_enc)
    with pytest.raises(UsageError, match="unknown layer of smollm2-135m-resid '99'; there are: 14"):
        load_sae("smollm2-135m-resid/99")


def test_training_tokens_and_sizes_of_models_are_no_widths():
    table = releases("llama|pythia")
    assert set(table.width) == {"", "8x", "32x"}, set(table.width)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_ends_in_a_sentence(tmp_path):
    for load, source in (
        (load_sae, "smollm2-135m-resid/layer_14"),
        (load_suite, "smollm2-135m-resid"),
        (load_lm, random_lm(tmp_path / "lm")),
    ):
        for device in ("cuda", "cuda:3", "gpu"):
            with pytest.raises(UsageError, match=f"cannot compute on device '{device}' .*; this machine has cpu"):
                load(source, device=device)


def test_every_table_of_the_notebooks_has_a_checksum():
    tables = sorted(notebook_data().rglob("*.parquet"))
    for path in tables:
        said, parts = without_sum(path.read_bytes()) or (None, [])
        assert said == checksum(parts), f"{path}: write it with saematch.studies.tables.write_table"
    readers = [p for p in notebook_data().parent.rglob("*.ipynb") if "read_parquet(notebook_data" in p.read_text()]
    assert len(tables) >= 10 and not readers, f"{readers}: read_table checks what it reads"


ONE = torch.arange(24)
SOUND = dict(members=torch.stack([ONE, ONE.flip(0)], 1), gain=torch.ones(24), link=torch.full((24, 2), 0.5))
HEADER = dict(layers=[1, 2], widths=[24, 24], info=dict(name="toys", fingerprints=["a", "b"]))


@pytest.mark.parametrize(
    "change",
    [
        *(dict(header={k: v for k, v in HEADER.items() if k != gone}) for gone in HEADER),
        *(dict(header=HEADER | dict(layers=odd)) for odd in ("12", [1, 2, 3], None)),
        *(dict(header=HEADER | dict(widths=odd)) for odd in (["24", "24"], [-1, 24], [10**12, 24], [24.5, 24], 7)),
        *(dict(header=HEADER | dict(info=odd)) for odd in ([1], None, "x")),
        *(dict(header=odd) for odd in ({}, [1], None)),
        *(
            dict(members=odd)
            for odd in (None, ONE, SOUND["members"].float(), SOUND["members"].int(), -SOUND["members"])
        ),
        *({name: odd} for name in ("gain", "link", "p") for odd in (torch.ones(3), torch.ones(24, 3))),
        {"gain": None},
        {"bogus": ONE},
        {"parts/members": SOUND["members"].clone()},
        {"a/b/c": ONE.clone()},
    ],
)
def test_a_file_of_lineages_that_was_made_by_hand_is_read_or_refused(tmp_path, change):
    path, header = tmp_path / "l.safetensors", change.pop("header", HEADER)
    tensors = {k: p.clone() for k, p in (SOUND | change).items() if p is not None}
    meta = {} if header is None else dict(header=json.dumps(header))
    write_safetensors(path, SOUND, dict(format="saematch.lineages/1", header=json.dumps(HEADER)))
    t = Lineages.load(path)
    assert len(t) == 24 and "24 of two" in repr(t) and t.bound is None
    write_safetensors(path, tensors, dict(format="saematch.lineages/1", **meta))
    with pytest.raises(ValueError, match=f"{path} is no(t valid JSON|t a JSON object| file of lineages)"):
        Lineages.load(path)


def test_relations_and_splits_of_mixed_precision_and_dead_saes():
    from saematch import relations, splits

    a, b = random_sae(8, 24), random_sae(8, 24, seed=1)
    exact = relations(a, b)
    for x, y in ((a.to(torch.float32), b), (a, b.to(torch.float32)), (a.to(torch.bfloat16), b.to(torch.bfloat16))):
        found = relations(x, y)
        assert found.weight.dtype != torch.bfloat16 and (found.weight - exact.weight).abs().median() < 0.1
        splits(x, y)
    with pytest.raises(ValueError, match="every latent of B is dead by its weights"):
        relations(a, replace(b, W_dec=torch.zeros_like(b.W_dec)))
    with pytest.raises(ValueError, match="reading is the weight of B's encoder, a number from 0, not '1'"):
        relations(a, b, reading="1")


def test_lineages_of_abstopk_latents_say_that_they_read_signs():
    from saematch import lineages

    saes = {l: random_sae(8, 24, seed=l, activation="abstopk", k=3) for l in (1, 2)}
    with pytest.warns(UserWarning, match="a latent of an AbsTopK SAE and its negative are one latent"):
        lineages(saes, nulls=("signs",))
