"Files, folders, names and devices that are wrong on purpose: each ends in a sentence, and nothing of them is run."

import json

import pytest
import torch

from saematch.ground import UsageError
from saematch.model.lm import load_lm
from saematch.model.toys import random_lm


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
