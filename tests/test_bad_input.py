"""Bad weights and bad files, beyond the lessons of the notebooks."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saematch import (
    SAE,
    Match,
    compose,
    descriptors,
    fold,
    load_sae,
    load_suite,
    match,
    permute,
    planted,
    random_sae,
    rescale,
    save_sae,
)
from saematch.ground import UnknownName, UsageError
from saematch.judging.causal import effects, responses
from saematch.judging.evidence import Pair, evidence, matching_score
from saematch.judging.steering import ablated, promoted_by, steered
from saematch.judging.verdicts import verdicts
from saematch.making.states import cache_states
from saematch.making.train import train_suite
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.card import exact_logits
from saematch.model.cards import make_cards
from saematch.model.gather import gather
from saematch.model.text import Tokens, tokenize
from saematch.saes.layers import by_layer, layer_of

sae = random_sae(6, 9)


def folder_of(path, tensors=None, **cfg):
    """SAELens' layout with whatever is wrong with it."""
    path.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in (tensors or sae.parameters()).items()}, path / "sae_weights.safetensors")
    (path / "cfg.json").write_text(json.dumps({"architecture": "jumprelu", "d_in": 6, "d_sae": 9, **cfg}))
    return path


@pytest.mark.parametrize(
    "name, where, value",
    [
        ("W_enc", (5, 8), "nan"),
        ("b_enc", (0,), "inf"),
        ("W_dec", (8, 0), "-inf"),
        ("b_dec", (2,), "nan"),
        ("threshold", (8,), "nan"),
    ],
)
def test_every_parameter_is_checked_for_finite_values(name, where, value, tmp_path):
    p = sae.parameters()[name].clone()
    p[where] = float(value)
    with pytest.raises(
        ValueError,
        match=rf"{name} has {int(value == 'nan')} NaN and {int(value != 'nan')} infinite of {p.numel()} values"
        rf".*\[{', '.join(map(str, where))}\]",
    ):
        load_sae(folder_of(tmp_path / "bad", {**sae.parameters(), name: p}))


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_every_parameter_is_missed_and_its_shape_checked(name, tmp_path):
    rest = {k: v for k, v in sae.parameters().items() if k != name}
    with pytest.raises(ValueError, match=f"missing {name}"):
        load_sae(folder_of(tmp_path / "missing", rest))
    with pytest.raises(ValueError, match="must have shape"):
        load_sae(folder_of(tmp_path / "shape", {**rest, name: torch.ones(2, 2, 2)}))
    with pytest.raises(TypeError, match=f"{name} must be a floating-point torch tensor, it is a tensor of torch.int64"):
        load_sae(
            folder_of(tmp_path / "dtype", {**rest, name: torch.ones_like(sae.parameters()[name], dtype=torch.int64)})
        )


def test_configurations_that_would_be_computed_differently(tmp_path):
    for cfg, says in [
        (dict(architecture="gated"), "a gated SAE has exactly the tensors .*missing b_gate"),
        (dict(architecture="crosscoder"), "architecture 'crosscoder' is not supported"),
        (dict(normalize_activations="expected_average_only_in"), "never folded into the weights"),
        (dict(reshape_activations="conv"), "reshape_activations is 'conv'"),
        (dict(apply_b_dec_to_input="false"), "apply_b_dec_to_input must be true or false"),
        (dict(metadata=[1]), "metadata must be an object"),
        (dict(d_sae=10), "cfg.json says d_in=6, d_sae=10, d_out=6, the tensors say 6, 9, 6"),
    ]:
        with pytest.raises(ValueError, match=says):
            load_sae(folder_of(tmp_path / "cfg", **cfg))
    (tmp_path / "cfg" / "cfg.json").write_text("{not json")
    with pytest.raises(ValueError, match="is not valid JSON"):
        load_sae(tmp_path / "cfg")
    (tmp_path / "cfg" / "cfg.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is not a JSON object"):
        load_sae(tmp_path / "cfg")
    (tmp_path / "cfg" / "sae_weights.safetensors").unlink()
    (tmp_path / "cfg" / "cfg.json").write_text('{"architecture": "jumprelu"}')
    with pytest.raises(FileNotFoundError, match="sae_weights.safetensors"):
        load_sae(tmp_path / "cfg")


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was loaded')",))


@pytest.mark.parametrize("name", ["sae.safetensors", "params.npz", "folder/sae_weights.safetensors", "old.safetensors"])
def test_a_pickle_is_refused_and_never_run(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name == "old.safetensors":
        torch.save({"W_enc": torch.ones(2)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    if path.parent != tmp_path:
        (path.parent / "cfg.json").write_text('{"architecture": "jumprelu", "d_in": 6, "d_sae": 9}')
        path = path.parent
    with pytest.raises(ValueError, match="pickle|cannot be read as arrays"):
        load_sae(path)


def test_npz_with_objects_inside(tmp_path):
    np.savez(tmp_path / "params.npz", W_enc=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="pickled objects, which are refused"):
        load_sae(tmp_path / "params.npz")


def test_thresholds_that_cannot_be_folded_are_named_by_every_function_that_folds():
    bad = SAE(**{**sae.parameters(), "threshold": sae.threshold.index_fill(0, torch.tensor([4]), -0.5)})
    for call in (lambda: fold(bad), lambda: descriptors(bad, sae), lambda: match(sae, bad)):
        with pytest.raises(ValueError, match=r"1 of 9 thresholds are zero or negative.*latent 4 \(-0.5\).*select"):
            call()
    assert match(bad, sae, fold=False).matched.all()


def test_one_latent_and_none():
    one = random_sae(6, 1)
    assert match(one, random_sae(6, 1, seed=1)).index.tolist() == [0]
    assert match(one, sae).matched.tolist() == [True] and match(sae, one).matched.sum() == 1
    with pytest.raises(ValueError, match="at least one latent"):
        SAE(
            W_enc=torch.ones(6, 0),
            b_enc=torch.ones(0),
            W_dec=torch.ones(0, 6),
            b_dec=torch.ones(6),
            threshold=torch.ones(0),
        )
    with pytest.raises(ValueError, match="needs at least one dimension and one latent"):
        random_sae(6, 0)


def test_indices_and_scales_of_other_kinds():
    with pytest.raises(ValueError, match="must be a permutation"):
        permute(sae, torch.arange(8))
    with pytest.raises(ValueError, match="must be a permutation"):
        permute(sae, torch.arange(9).float())
    assert torch.equal(permute(sae, list(range(9))[::-1]).b_enc, sae.b_enc.flip(0))
    for call in (
        lambda: rescale(sae, torch.ones(8)),
        lambda: sae.select(torch.ones(8, dtype=torch.bool)),
        lambda: sae.select(torch.ones(9, 2, dtype=torch.bool)),
        lambda: descriptors(sae, sae, weights=["encoder"]),
        lambda: descriptors(sae, sae, weights={"encoder": "1"}),
    ):
        with pytest.raises(ValueError, match="scale must be|keep must be|weights must be|weight of a block"):
            call()
    with pytest.raises(ValueError, match="scales are not positive"):
        rescale(sae, -1.0)
    with pytest.raises(ValueError, match="shares of the latents"):
        planted(sae, replaced=0.8, dead=0.5)
    with pytest.raises(ValueError, match="an index is an int64 tensor"):
        Match(torch.tensor([0.0, 1.0]), 2, torch.zeros(2))


def test_what_is_no_sae_and_no_match_is_refused_in_a_sentence(tmp_path):
    for call in (
        lambda x: permute(x, torch.arange(9)),
        lambda x: rescale(x, 2.0),
        lambda x: fold(x),
        lambda x: match(sae, x),
        lambda x: save_sae(x, tmp_path / "a.safetensors"),
        lambda x: SAE.from_saelens(x),
    ):
        for x in (None, 3, "layer_1", sae.W_dec):
            with pytest.raises(TypeError, match=f"must be a saematch SAE, it is {type(x).__name__}; use load_sae"):
                call(x)
    m = match(sae, sae)
    for steps in ((None, None), (m, None), (m, m, sae)):
        with pytest.raises(TypeError, match="compose takes matches, of `match` or `Match.load`, not (NoneType|SAE)"):
            compose(*steps)
    with pytest.raises(TypeError, match="the number of one latent of A, not 'seven'"):
        m.show("seven")
    with pytest.raises(TypeError, match=r"the two SAEs of the match, \(a, b\), not SAE"):
        m.plot(sae)
    assert not list(tmp_path.iterdir())


def test_layers_are_read_from_names():
    assert [
        layer_of(n)
        for n in (
            "blocks.7.hook_resid_post",
            "layer_20/width_16k/average_l0_71",
            "layer_3/width_16k/l0_53",
            "layer-3",
            "layers.11.mlp",
            "L4",
            "width_16k",
        )
    ] == [7, 20, 3, 3, 11, 4, None]


def test_a_suite_with_several_saes_a_layer_asks_for_a_pattern(tmp_path):
    for width in ("16k", "65k"):
        for layer in (1, 2):
            folder_of(tmp_path / f"layer_{layer}" / f"width_{width}")
    with pytest.raises(
        UsageError,
        match=r"several SAEs for layer 1; choose with pattern=, one of: "
        r"layer_\{layer\}/width_16k, layer_\{layer\}/width_65k",
    ):
        load_suite(tmp_path)
    assert load_suite(tmp_path, "layer_{layer}/width_65k").layers == [1, 2]
    with pytest.raises(UsageError, match="no SAE with a layer number for pattern"):
        load_suite(tmp_path, "layer_{layer}/width_1m")
    assert by_layer(["layer_1/a_5", "layer_2/a_7"], "layer_{layer}/a_*", "x") == {1: "layer_1/a_5", 2: "layer_2/a_7"}
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="no SAE with a layer number"):
        load_suite(tmp_path / "nothing")


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(UnknownName, match="closest: gemma-scope-2b-pt-res"):
        load_sae("gemma-scope-2b-pt-rez", "layer_1/width_16k/canonical")
    with pytest.raises(UnknownName, match="closest: layer_20/width_16k/canonical"):
        load_sae("gemma-scope-2b-pt-res-canonical", "layer_20/width_16k/canonica")
    with pytest.raises(FileNotFoundError, match="holds none of cfg.json, params.npz and ae.pt"):
        load_sae(tmp_path)
    with pytest.raises(ValueError, match="saved as a .safetensors file"):
        save_sae(sae, tmp_path / "sae.pt")


def test_garbage_named_npz_and_symlinked_folders(tmp_path):
    (tmp_path / "params.npz").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="is no .npz archive"):
        load_sae(tmp_path / "params.npz")
    folder_of(tmp_path / "store" / "x")
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "layer_3").symlink_to(tmp_path / "store" / "x")
    assert load_suite(tmp_path / "suite").layers == [3]


def test_info_keys_that_are_also_arguments_survive_the_disk(tmp_path):
    save_sae(
        replace(sae, info=dict(dtype="x", device="y", tensors=1, apply_b_dec_to_input=2)), tmp_path / "a.safetensors"
    )
    assert load_sae(tmp_path / "a.safetensors").info["tensors"] == 1


def test_a_language_model_that_is_missing_is_asked_for(tmp_path):
    saes = {layer: replace(random_sae(8, 20), info=dict(layer=layer)) for layer in (1, 2)}
    tokens = Tokens(torch.zeros(1, 4, dtype=torch.int64), torch.tensor([4]))
    a, b, keep, rows = *saes.values(), tokens.counted, torch.ones(1, 8)
    m, pairs = match(a, b, dead="keep"), {(1, 2): Pair(a, b, {"match": match(a, b, dead="keep")})}
    way = {"one": {1: 3}}
    calls = dict(
        tokenize=lambda lm: tokenize(lm, ["a text"]),
        hidden_states=lambda lm: hidden_states(lm, tokens, [1]),
        norm_limits=lambda lm: norm_limits(lm, tokens, [1]),
        exact_logits=lambda lm: exact_logits(lm, rows, 1, tokens.ids),
        gather=lambda lm: gather(lm, saes, tokens, {1: 1.0, 2: 1.0}),
        make_cards=lambda lm: make_cards(saes, lm, tokens, tmp_path / "cards"),
        evidence=lambda lm: evidence(lm, pairs, tokens),
        matching_score=lambda lm: matching_score(lm, a, b, m, tokens),
        responses=lambda lm: responses(lm, a, b, {"match": m}, tokens),
        effects=lambda lm: effects(lm, a, b, tokens),
        promoted_by=lambda lm: promoted_by(lm, saes, way["one"], tokens.ids, 1.0),
        steered=lambda lm: steered(lm, {"one": {1: rows[0]}}, tokens.ids[0], tokens, keep),
        ablated=lambda lm: ablated(lm, saes, way, way["one"], tokens, keep),
        verdicts=lambda lm: verdicts(lm, saes, {(1, 2): {"match": m}}, tokens, {1: 1.0, 2: 1.0}),
        cache_states=lambda lm: cache_states(lm, tokens, [1], tmp_path / "states"),
        train_suite=lambda lm: train_suite(lm, ["a text"], [1], tmp_path / "suite", l0_coefficients=1.0),
    )
    for name, call in calls.items():
        for lm, said in (
            (None, "not None"),
            ("gpt2", "load_lm.'gpt2'. loads one"),
            (torch.nn.ReLU(), "object of ReLU"),
        ):
            with pytest.raises(UsageError, match=f"a language model with .* is needed, .*{said}"):
                call(lm)
            assert not list(tmp_path.iterdir()), f"{name} leaves nothing"
