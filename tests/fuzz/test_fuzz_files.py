"Damaged and odd files: each is read as it was, refused in a sentence that names it, or is another sound file."

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from harness import SEEDS, Refused, flip, sentences, tried
from hypothesis import event, given
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from saematch import load_sae, load_suite, random_sae, save_sae
from saematch.saes.architecture import ARCHITECTURES
from saematch.saes.files import load_crosscoder
from saematch.saes.suite import fingerprint

D, N = 4, 6  # dimensions and latents of the toys
SHAPES = dict(W_enc=[D, N], b_enc=[N], W_dec=[N, D], b_dec=[D], threshold=[N], W_skip=[D, D], topk_threshold=[])
SHAPES |= dict(b_gate=[N], b_mag=[N], r_mag=[N])


def tensors_of(architecture, seed=0):
    "Sound tensors of one of SAELens' architectures."
    g = torch.Generator().manual_seed(seed)
    return {k: torch.rand(SHAPES[k], generator=g) + 0.1 for k in ARCHITECTURES[architecture].needs.split()}


def config_of(architecture):
    "A sound configuration for them."
    k = dict(k=2) if ARCHITECTURES[architecture].rule in ("topk", "abstopk") else {}
    meta = dict(hook_name="blocks.3.hook_resid_post", model_name="toy")
    return dict(architecture=architecture, d_in=D, d_sae=N, apply_b_dec_to_input=False, metadata=meta, **k)


def write_saelens(folder, architecture="jumprelu", tensors=None, cfg=None):
    "An SAE in SAELens' layout."
    folder.mkdir(exist_ok=True)
    tensors = tensors_of(architecture) if tensors is None else tensors
    (folder / "sae_weights.safetensors").write_bytes(safetensors_bytes(tensors))
    (folder / "cfg.json").write_text(json.dumps(config_of(architecture) if cfg is None else cfg))
    return folder


def sound(sae, folder):
    "What has been read can be looked at, told apart, written, and read again as the same."
    assert all(p.isfinite().all() for p in sae.parameters().values())
    repr(sae), sae._repr_markdown_(), sae.settings()
    save_sae(sae, folder / "again.safetensors")
    again = load_sae(folder / "again.safetensors", dtype=sae.dtype)
    assert fingerprint(again) == fingerprint(sae) and again.layer == sae.layer
    (folder / "again.safetensors").unlink()
    return fingerprint(sae)


def sae_file(folder):
    save_sae(
        replace(random_sae(D, N, dtype=torch.float32), info=dict(hook_name="blocks.3.hook")), folder / "a.safetensors"
    )
    return folder / "a.safetensors", load_sae


def saelens_weights(folder):
    return write_saelens(folder / "layer_3") / "sae_weights.safetensors", load_sae


def saelens_config(folder):
    return write_saelens(folder / "layer_3") / "cfg.json", lambda path: load_sae(path.parent)


def gemma_scope(folder):
    np.savez(folder / "params.npz", **{k: p.numpy() for k, p in tensors_of("jumprelu").items()})
    return folder / "params.npz", load_sae


SAES = dict(sae=sae_file, saelens=saelens_weights, cfg=saelens_config, npz=gemma_scope)


@pytest.fixture(scope="module", params=SAES)
def stored(request, tmp_path_factory):
    "(folder, file, how to read it, its bytes, what it holds) of each kind of SAE."
    folder = tmp_path_factory.mktemp("flips")
    path, read = SAES[request.param](folder)
    return folder, path, read, path.read_bytes(), read(path)


@tried(60)
@given(seed=SEEDS)
def test_a_flipped_byte_of_an_sae(stored, seed):
    """An own file carries a checksum. Other weights carry none: a flip may make another SAE, never a crash.

    It is then told apart by its fingerprint.
    """
    folder, path, read, data, before = stored
    flip(path, data, seed)
    try:
        with sentences(folder):
            sae = read(path)
    except Refused:
        return
    equal = sae.settings() == before.settings() and all(
        torch.equal(p, sae.parameters().get(k)) for k, p in before.parameters().items()
    )
    event("as it was" if equal else "another SAE")
    assert equal or path.name != "a.safetensors", "an own file that is not what was written is refused"
    assert (sound(sae, folder) == fingerprint(before)) == equal


ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 10),
        st.sampled_from([10**30, -1, 1e400, float("nan"), -0.0, 3.0, 1e-320]),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["topk", "relu", "none", "layer_norm", "hook_z", "jumprelu", "blocks.7.hook", "9" * 5000]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "architecture activation_fn activation_fn_str activation_fn_kwargs k d_in d_sae d_out apply_b_dec_to_input "
    "rescale_acts_by_decoder_norm finetuning_scaling_factor normalize_activations reshape_activations metadata "
    "hook_name hook_point hook_layer model_name seed l0 license neuronpedia_id activation_normalization_factor dtype"
).split()
METADATA = "hook_name hook_layer model_name seed l0 license neuronpedia_id".split()


def load_all(folder):
    "Every way to a folder of SAEs: one of them, and the suite with its table."
    sae = load_sae(folder / "layer_3")
    suite = load_suite(folder)
    suite.frame()
    return sae


@tried(100)
@given(
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    change=st.dictionaries(st.sampled_from(FIELDS), ODD, min_size=1, max_size=3),
    inside=st.dictionaries(st.sampled_from(METADATA), ODD, max_size=2),
    drop=st.lists(st.sampled_from(FIELDS), max_size=1),
)
def test_any_value_in_a_configuration(tmp_path_factory, architecture, change, inside, drop):
    folder, cfg = tmp_path_factory.mktemp("suite"), config_of(architecture)
    cfg["metadata"] |= inside
    cfg = {k: v for k, v in (cfg | change).items() if k not in drop}
    write_saelens(folder / "layer_3", architecture, cfg=cfg)
    try:
        with sentences(folder):
            sae = load_all(folder)
    except Refused:
        return
    event("read")
    sound(sae, folder)


@tried(100)
@given(
    settings=st.dictionaries(
        st.sampled_from("activation k normalize transcoder apply_b_dec_to_input info W_enc source self x".split()), ODD
    ),
    info=st.dictionaries(st.sampled_from(["layer", "hook_name", "architecture", "source", "x"]), ODD),
    flag=st.sampled_from(["true", "false", "", "maybe"]),
    plain=st.booleans(),
)
def test_any_value_in_the_header_of_an_own_file(tmp_path_factory, settings, info, flag, plain):
    folder = tmp_path_factory.mktemp("suite")
    texts = (str, str) if plain else (json.dumps, json.dumps)
    meta = dict(zip(("settings", "info"), (write(x) for write, x in zip(texts, (settings, info)))))
    meta |= dict(format="saematch.sae/1", apply_b_dec_to_input=flag)
    tensors = {k: p.contiguous() for k, p in random_sae(D, N, dtype=torch.float32).parameters().items()}
    try:
        (folder / "layer_3.safetensors").write_bytes(safetensors_bytes(tensors, meta))
    except UnicodeEncodeError:  # half of a surrogate pair: nobody can write that file
        return
    try:
        with sentences(folder):
            sae = load_sae(folder / "layer_3.safetensors")
            load_suite(folder).frame()
    except Refused:
        return
    event("read")
    sound(sae, folder)


DTYPES = [getattr(torch, k) for k in "float32 float64 float16 bfloat16 int64 int8 uint8 bool float8_e4m3fn".split()]


@st.composite
def odd_tensors(draw, architecture):
    "The tensors of an architecture, up to three of them changed: shape, dtype, numbers, name, missing, one more."
    tensors = tensors_of(architecture)
    for _ in range(draw(st.integers(1, 3))):
        if not tensors:
            break
        name = draw(st.sampled_from(sorted(tensors)))
        what = draw(st.sampled_from(("shape", "dtype", "number", "missing", "more", "transposed", "empty")))
        event(what)
        p = tensors[name]
        if what == "shape":
            shape = draw(st.lists(st.sampled_from((1, 2, D, N)), max_size=3))
            tensors[name] = torch.ones(shape)
        elif what == "dtype":
            dtype = draw(st.sampled_from(DTYPES))
            everywhere = draw(st.booleans())
            tensors = {k: q.to(dtype) if everywhere or k == name else q for k, q in tensors.items()}
        elif what == "number" and p.numel() and p.dtype in DTYPES[:4]:
            value = draw(st.sampled_from((math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 3e38, -3e38)))
            q = p.clone()
            q.view(-1)[draw(st.integers(0, p.numel() - 1)) :: draw(st.integers(1, 5))] = value
            tensors[name] = q
        elif what == "missing":
            del tensors[name]
        elif what == "more":
            extra = st.sampled_from(("scaling_factor", "W_skip", "threshold", "log_threshold", "x"))
            tensors[draw(extra)] = torch.full([N], draw(st.sampled_from((1.0, 2.0, math.nan))))
        elif what == "transposed":
            tensors[name] = p.T.contiguous() if p.dim() == 2 else p[None]
        elif what == "empty":
            tensors[name] = torch.zeros([0] * draw(st.integers(1, 2)))
    return tensors


@tried(120)
@given(
    data=st.data(), architecture=st.sampled_from(sorted(ARCHITECTURES)), how=st.sampled_from(("saelens", "own", "npz"))
)
def test_any_tensors(tmp_path_factory, data, architecture, how):
    folder = tmp_path_factory.mktemp("suite")
    if how == "saelens":
        write_saelens(folder / "layer_3", architecture, data.draw(odd_tensors(architecture)))
        path = folder / "layer_3"
    elif how == "own":
        path = folder / "layer_3.safetensors"
        path.write_bytes(safetensors_bytes(data.draw(odd_tensors("jumprelu")), {"format": "saematch.sae/1"}))
    else:
        path = folder / "layer_3" / "params.npz"
        path.parent.mkdir()
        kept = {k: p for k, p in data.draw(odd_tensors("jumprelu")).items() if p.dtype not in DTYPES[3::5]}
        np.savez(path, **{k: p.numpy() for k, p in kept.items()})
    try:
        with sentences(folder):
            sae = load_sae(path)
            load_suite(folder).frame()
    except Refused:
        return
    event("read")
    sound(sae, folder)


@tried(60)
@given(data=st.data(), layers=st.lists(st.one_of(st.integers(0, 3), ODD), max_size=3))
def test_any_tensors_of_a_crosscoder(tmp_path_factory, data, layers):
    folder = tmp_path_factory.mktemp("crosscoder")
    shapes = dict(W_enc=[2, D, N], b_enc=[N], W_dec=[N, 2, D], b_dec=[2, D])
    tensors = {k: torch.ones(shape) for k, shape in shapes.items()}
    for name in data.draw(st.lists(st.sampled_from(sorted(shapes)), max_size=2)):
        shape = data.draw(st.lists(st.sampled_from((0, 1, 2, D, N)), max_size=4))
        tensors[name] = torch.full(shape, data.draw(st.sampled_from((1.0, math.nan))))
    path = folder / "c.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    layers = data.draw(st.sampled_from(([0, 1], [5, 3], layers)))
    try:
        with sentences(path):
            family = load_crosscoder(path, layers)
    except Refused:
        return
    event("read")
    assert list(family) == list(layers)
    for sae in family.values():
        assert all(p.isfinite().all() for p in sae.parameters().values())
