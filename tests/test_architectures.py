"""Every architecture of SAELens: its own object and ours compute the same, in memory and through files."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from saematch import SAE, fold, load_sae, match, permute, planted, random_sae, save_sae
from saematch.saes.architecture import ARCHITECTURES
from saematch.saes.gauge import transport
from saematch.saes.sae import SCALES, rescale

sae_lens = pytest.importorskip("sae_lens")

PLAIN = [
    (name, {})
    for name in ARCHITECTURES
    if name not in ("batchtopk", "matryoshka_batchtopk", "matching_pursuit", "temporal")
]
MORE = [
    ("topk", dict(rescale_acts_by_decoder_norm=True)),
    ("abstopk", dict(rescale_acts_by_decoder_norm=True)),
    *(
        (name, dict(normalize_activations=norm))
        for name in ("jumprelu", "topk", "gated", "transcoder")
        for norm in ("layer_norm", "constant_norm_rescale")
    ),
]
X = 2 * torch.randn(60, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def theirs(architecture, **kw):
    "A random SAELens object, every parameter non-zero."
    from sae_lens.registry import get_sae_class

    how = ARCHITECTURES[architecture]
    cfg = dict(d_in=10, d_sae=24, dtype="float64", device="cpu", apply_b_dec_to_input=not how.transcoder, **kw)
    cfg |= dict(k=4) if "topk" in architecture else {}
    cfg |= dict(d_out=7) if how.transcoder else {}
    cfg |= dict(n_heads=2, bottleneck_factor=4) if architecture == "temporal" else {}
    make, config = get_sae_class(architecture)
    obj, g = make(config(**cfg)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in obj.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * (0.3 if name == "r_mag" else 1))
    return obj


@pytest.mark.parametrize("architecture, more", PLAIN + MORE)
def test_the_object_and_the_canonical_form_agree(architecture, more, tmp_path):
    obj = theirs(architecture, **more)
    obj.save_model(tmp_path / "layer_5")
    save_sae(SAE.from_saelens(obj), tmp_path / "own.safetensors")
    with torch.no_grad():
        f, x_hat = obj.encode(X), obj(X)
    assert (f != 0).any(0).sum() > 12
    for ours in (
        SAE.from_saelens(obj),
        load_sae(tmp_path / "layer_5", dtype=torch.float64),
        load_sae(tmp_path / "own.safetensors", dtype=torch.float64),
    ):
        assert ours.info["architecture"] == architecture and ours.transcoder == ARCHITECTURES[architecture].transcoder
        assert_close(ours.encode(X), f, rtol=1e-10, atol=1e-10)
        assert_close(ours.reconstruct(X), x_hat, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture, more", PLAIN + MORE)
def test_the_allowed_rescalings_keep_the_function(architecture, more):
    ours = SAE.from_saelens(theirs(architecture, **more))
    s = (2 * torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))).exp()
    if SCALES[ours.activation] == "one":
        with pytest.raises(ValueError, match="one scale for all latents"):
            rescale(ours, s)
        s = s[:1].expand(24)
    assert_close(rescale(ours, s).encode(X), ours.encode(X) * s, rtol=1e-10, atol=1e-10)
    assert_close(rescale(ours, s).reconstruct(X), ours.reconstruct(X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", ["matching_pursuit", "temporal"])
def test_decoder_only_architectures(architecture, tmp_path):
    obj = theirs(architecture)
    ours = SAE.from_saelens(obj)
    assert torch.equal(ours.W_dec, obj.W_dec) and ours.activation == "other"
    with pytest.raises(NotImplementedError, match=f"no encoder for {architecture}"):
        ours.encode(X)
    with pytest.raises(ValueError, match="no rescaling keeps the function"):
        rescale(ours, 2.0)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_checkpoints_of_training_equal_what_saelens_saves_for_inference(architecture, tmp_path):
    from sae_lens.registry import get_sae_training_class

    make, config = get_sae_training_class(architecture)
    for rescaled in (False, True):
        more = dict(matryoshka_widths=[8, 24]) if architecture.startswith("matryoshka") else {}
        obj, g = (
            make(
                config(
                    d_in=10, d_sae=24, k=4, dtype="float32", device="cpu", rescale_acts_by_decoder_norm=rescaled, **more
                )
            ),
            torch.Generator().manual_seed(0),
        )
        with torch.no_grad():
            for p in obj.parameters():
                p.copy_(torch.randn(p.shape, generator=g))
            obj.topk_threshold.fill_(0.7)
        obj.save_model(tmp_path / f"training{rescaled}"), obj.save_inference_model(tmp_path / f"inference{rescaled}")
        training, inference = (load_sae(tmp_path / f"{kind}{rescaled}") for kind in ("training", "inference"))
        assert training.info["architecture"] == architecture and inference.info["architecture"] == "jumprelu"
        assert inference.threshold.unique().numel() == 1
        assert_close(training.reconstruct(X.float()), inference.reconstruct(X.float()), rtol=1e-4, atol=1e-4)


def test_a_normalised_layer_decodes_what_another_encoded():
    "SAELens fails here: the state lies in the object that encoded."
    one, two = (
        theirs("jumprelu", normalize_activations="layer_norm"),
        theirs("jumprelu", normalize_activations="layer_norm"),
    )
    a, b = SAE.from_saelens(one), SAE.from_saelens(two)
    with torch.no_grad(), pytest.raises(AttributeError):
        two.decode(one.encode(X))
    assert torch.isfinite(b.decode(a.encode(X), like=X)).all()


def test_version_5_topk_is_no_relu(tmp_path):
    obj = theirs("topk")
    obj.save_model(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    old = dict(
        architecture="standard",
        activation_fn_str="topk",
        activation_fn_kwargs=dict(k=4),
        d_in=10,
        d_sae=24,
        hook_point="blocks.7.hook_resid_post",
    )
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    ours = load_sae(tmp_path, dtype=torch.float64)
    assert cfg["architecture"] == "topk" and ours.layer == 7
    with torch.no_grad():
        assert_close(ours.encode(X), obj.encode(X))


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(("jumprelu", "relu", "topk", "abstopk")),
    d=st.integers(1, 12),
    n=st.integers(2, 30),
    seed=st.integers(0, 999),
    log_scale=st.floats(-6, 6),
    by=st.sampled_from(("threshold", "decoder", "encoder")),
    normalize=st.sampled_from(("none", "layer_norm", "constant_norm_rescale")),
    subtracts=st.booleans(),
)
def test_folding_keeps_the_function_forgets_the_units_and_is_idempotent(
    rule, d, n, seed, log_scale, by, normalize, subtracts
):
    d = max(d, 2)
    more = dict(activation=rule, k=1 + seed % n) if "topk" in rule else {}
    sae = random_sae(d, n, seed=seed, apply_b_dec_to_input=subtracts, normalize=normalize, **more)
    if rule != "jumprelu":
        sae, by = replace(sae, threshold=torch.zeros_like(sae.threshold)), "decoder" if by == "threshold" else by
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(30, d, dtype=torch.float64, generator=g)
    scale = (
        (log_scale * torch.randn(n, dtype=torch.float64, generator=g)).exp()
        if SCALES[sae.activation] == "each"
        else torch.full((n,), math.exp(log_scale), dtype=torch.float64)
    )
    other = rescale(sae, scale)
    folded = fold(sae, by)
    clear = ((sae.prepare(x) @ sae.W_enc + sae.b_enc - sae.threshold).abs() > 1e-9).all(1)  # rounding decides nothing
    close = dict(rtol=1e-10, atol=1e-10)
    assert_close(folded.reconstruct(x)[clear], sae.reconstruct(x)[clear], **close)
    for name, p in fold(other, by).parameters().items():
        assert_close(p, folded.parameters()[name], rtol=1e-9, atol=1e-9)
    for name, p in fold(folded, by).parameters().items():
        assert_close(p, folded.parameters()[name], **close)


def test_sign_flips_of_abstopk_change_no_match():
    a = random_sae(10, 40, activation="abstopk", k=5)
    b = planted(a, decoder_noise=1.0, encoder_noise=1.0, seed=3).sae
    for seed in range(3):
        flip = torch.where(torch.rand(40, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0).double()
        flipped = replace(b, W_enc=b.W_enc * flip, b_enc=b.b_enc * flip, W_dec=b.W_dec * flip[:, None])
        assert torch.equal(match(a, flipped).index, match(a, b).index)
        assert match(a, flipped).proof.optimal and abs(match(a, flipped).objective - match(a, b).objective) < 1e-9


def test_transcoders_match_on_either_side_and_decoder_only_saes_by_their_decoders():
    one, two = (SAE.from_saelens(theirs(kind)) for kind in ("jumprelu_skip_transcoder", "transcoder"))
    one = replace(one, threshold=one.threshold + 0.1)
    for weights in ("encoder", "decoder", "bias", "all"):
        assert match(one, two, weights=weights).proof.optimal
    sae = random_sae(10, 24)
    with pytest.raises(ValueError, match="A writes vectors of 7 dimensions and B of 10"):
        match(one, sae, weights="decoder")
    assert match(one, sae, weights="encoder").proof.optimal
    pursuit = SAE.from_saelens(theirs("matching_pursuit"))
    with pytest.raises(ValueError, match="matching_pursuit SAEs have no encoder per latent"):
        match(pursuit, sae)
    assert match(pursuit, sae, weights="decoder").info["gauge"] == "none"


def test_an_explicit_map_between_two_spaces():
    a, g = random_sae(10, 40), torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=g))[0][:10] * 3
    index = torch.randperm(40, generator=g)
    b = permute(transport(a, turn), index)
    x = torch.randn(20, 10, dtype=torch.float64, generator=g)
    assert_close(transport(a, turn).reconstruct(x @ turn), a.reconstruct(x) @ turn)
    assert torch.equal(match(transport(a, turn), b).index, index)
    with pytest.raises(ValueError, match="use transport"):
        match(a, b)
    with pytest.raises(ValueError, match=r"the map must be \[10, d_new\]"):
        transport(a, turn.T)


def test_a_crosscoder_gives_matching_a_known_answer(tmp_path):
    "Decoder rows of one latent resemble each other between layers; matching finds it again, though shuffled."
    from safetensors.torch import save_file

    from saematch.saes.files import load_crosscoder

    g, n, d = torch.Generator().manual_seed(0), 80, 24
    base = torch.randn(n, 1, d, generator=g)
    W_dec = base + 0.4 * torch.randn(n, 3, d, generator=g)
    save_file(
        dict(W_enc=W_dec.permute(1, 2, 0).contiguous(), b_enc=torch.zeros(n), W_dec=W_dec, b_dec=torch.zeros(3, d)),
        tmp_path / "cross.safetensors",
    )
    family = load_crosscoder(tmp_path / "cross.safetensors", [7, 8, 9])
    index = torch.randperm(n, generator=g)
    m = match(family[7], permute(family[8], index), weights="decoder")
    assert (m.index == index).float().mean() > 0.95
    with pytest.raises(ValueError, match="no encoder per latent"):
        match(family[7], family[8])


def flipped(sae, seed):
    sign = torch.where(torch.rand(sae.d_sae, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0).double()
    return replace(sae, W_enc=sae.W_enc * sign, b_enc=sae.b_enc * sign, W_dec=sae.W_dec * sign[:, None])


def test_a_run_judges_abstopk_latents_up_to_their_sign(tmp_path):
    from saematch.judging.weights import weight_mse
    from saematch.studies.run import run
    from saematch.studies.tables import decoder_cosine

    a = random_sae(16, 40, activation="abstopk", k=4)
    b = flipped(permute(a, torch.randperm(40, generator=torch.Generator().manual_seed(1))), 2)
    m = match(a, b)
    assert weight_mse(a, b, m.index, m.sign)["all"] < 1e-20 < weight_mse(a, b, m.index)["all"]
    assert_close(decoder_cosine(a, b, m), torch.ones(40, dtype=torch.float64))
    for layer, s in ((1, a), (2, b)):
        save_sae(s, tmp_path / "suite" / f"layer_{layer}.safetensors")
    findings = run(tmp_path / "suite", out=tmp_path / "out")["findings"]
    assert ["differ by 0.00 of" in f for f in findings if f.startswith("Matched pairs")] == [True]


def test_gated_saes_with_zero_thresholds_are_matched_and_run(tmp_path):
    from saematch.studies.run import run

    a = SAE.from_saelens(theirs("gated"))
    assert 0 < (a.threshold == 0).sum() < a.d_sae
    index = torch.randperm(a.d_sae, generator=torch.Generator().manual_seed(1))
    assert torch.equal(match(a, permute(a, index)).index, index) and match(a, a).info["gauge"] == "decoder"
    for layer, s in ((1, a), (2, permute(a, index))):
        save_sae(s, tmp_path / "suite" / f"layer_{layer}.safetensors")
    for fold_by in (True, "decoder", "none", False):
        run(tmp_path / "suite", out=tmp_path / f"out{fold_by}", fold=fold_by)
        page = " ".join((tmp_path / f"out{fold_by}" / "report.html").read_text().split())
        assert "in units of the activation that writes a vector of length 1" in page and ("not folded" in page) is (
            fold_by in ("none", False)
        )


def test_a_run_leaves_out_dead_latents_and_warns_of_them_once_a_layer(tmp_path):
    import warnings

    from saematch.studies.run import run

    a = random_sae(8, 30)
    a = replace(a, W_dec=a.W_dec.index_fill(0, torch.tensor([4, 9]), 0))
    for layer in (1, 2):
        save_sae(a, tmp_path / "suite" / f"layer_{layer}.safetensors")
    assert run(tmp_path / "suite", out=tmp_path / "out", dead="exclude", norm=0.9)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(tmp_path / "suite", out=tmp_path / "warned")
    assert [str(w.message).split(":")[0] for w in said if "dead latents" in str(w.message)] == ["layer 1", "layer 2"]


def test_select_below_k_and_unreadable_crosscoders_and_rules():
    from saematch.saes.architecture import crosscoder, from_tensors

    few = random_sae(8, 20, activation="topk", k=8).select(torch.arange(4))
    assert (few.k, few.d_sae) == (4, 4) and few.encode(torch.randn(3, 8, dtype=torch.float64)).shape == (3, 4)
    with pytest.raises(ValueError, match="layers are a list of different numbers"):
        crosscoder({}, [1, 1, 2])
    with pytest.raises(ValueError, match="activation function is 'topk'"):
        from_tensors({}, "x", dict(architecture="jumprelu", activation_fn="topk"))
    with pytest.raises(ValueError, match="cannot be carried exactly"):
        transport(random_sae(normalize="layer_norm"), torch.eye(16))


@pytest.mark.parametrize(
    "architecture, more",
    [
        ("jumprelu", {}),
        ("gated", {}),
        ("topk", {}),
        ("topk", dict(rescale_acts_by_decoder_norm=True)),
        ("abstopk", dict(rescale_acts_by_decoder_norm=True)),
    ],
)
def test_a_scaling_factor_multiplies_activations_after_they_were_picked(architecture, more, tmp_path):
    """SAELens before version 6: x_hat = (f * factor) W_dec + b_dec (SAE.apply_finetuning_scaling_factor).

    Version 6 loads no such file.
    """
    from safetensors.torch import load_file, save_file

    obj, g = theirs(architecture, **more), torch.Generator().manual_seed(3)
    obj.save_model(tmp_path)
    factor = torch.rand(24, dtype=torch.float64, generator=g) + 0.2
    tensors, cfg = load_file(tmp_path / "sae_weights.safetensors"), json.loads((tmp_path / "cfg.json").read_text())
    put = lambda factor, in_use: (
        save_file({**tensors, "scaling_factor": factor}, tmp_path / "sae_weights.safetensors"),
        (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "finetuning_scaling_factor": in_use})),
    )
    put(factor, True)
    with torch.no_grad():
        f, x_hat = obj.encode(X), obj.decode(obj.encode(X) * factor)
        ours = load_sae(tmp_path, dtype=torch.float64)
        assert (x_hat - obj(X)).abs().max() > 0.1
        assert_close(ours.encode(X), f, rtol=1e-10, atol=1e-10)
        assert_close(ours.reconstruct(X), x_hat, rtol=1e-10, atol=1e-10)
        put(torch.ones_like(factor), False)
        assert_close(load_sae(tmp_path, dtype=torch.float64).reconstruct(X), obj(X), rtol=1e-10, atol=1e-10)
    put(factor, False)
    with pytest.raises(
        ValueError, match="a scaling_factor other than 1, and the configuration does not say that it is in use"
    ):
        load_sae(tmp_path)
    put(factor[:1], True)
    with pytest.raises(
        ValueError, match=r"scaling_factor must have shape \[24\], one factor for each latent, it has \[1\]"
    ):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    "architecture, more", [("gated", {}), ("topk", dict(rescale_acts_by_decoder_norm=True)), ("jumprelu", {})]
)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_what_is_computed_from_half_precision_is_computed_in_float32(architecture, more, half, tmp_path):
    obj = theirs(architecture, **more).to(dtype=half)
    obj.save_model(tmp_path)
    ours, exact = SAE.from_saelens(obj), SAE.from_saelens(obj.to(dtype=torch.float64))
    assert ours.dtype == torch.float32
    for name, p in ours.parameters().items():
        assert_close(p.double(), exact.parameters()[name], rtol=1e-6, atol=1e-6)
        assert torch.equal(load_sae(tmp_path).parameters()[name], p), "the same from the file"
        assert torch.equal(load_sae(tmp_path, dtype=half).parameters()[name], p.to(half)), "rounded once"


def test_from_saelens_copies_or_shares_as_asked():
    obj = theirs("jumprelu")
    own, shared = SAE.from_saelens(obj), SAE.from_saelens(obj, copy=False)
    assert shared.W_dec.data_ptr() == obj.W_dec.data_ptr() != own.W_dec.data_ptr()
    with torch.no_grad():
        obj.W_dec.zero_()
    assert (own.W_dec != 0).all() and not own.W_dec.requires_grad


def test_saelens_objects_are_permuted_rescaled_and_saved(tmp_path):
    obj = theirs("jumprelu")
    own, index = SAE.from_saelens(obj), torch.arange(24).flip(0)
    assert torch.equal(permute(obj, index).W_dec, permute(own, index).W_dec)
    assert torch.equal(rescale(obj, 2.0).W_enc, rescale(own, 2.0).W_enc)
    save_sae(obj, tmp_path / "a.safetensors")
    assert torch.equal(load_sae(tmp_path / "a.safetensors", dtype=own.dtype).W_enc, own.W_enc)


def test_a_pair_that_normalises_differently_is_warned_of():
    a = random_sae(10, 24)
    b = replace(random_sae(10, 24, seed=1), normalize="layer_norm")
    with pytest.warns(
        UserWarning,
        match="A reads hidden states as they are and B reads hidden states normalised by layer_norm: "
        "they measure lengths in different units",
    ) as said:
        match(a, b)
    assert len(said) == 1 and said[0].filename == __file__
    with pytest.warns(
        UserWarning, match="A reads hidden states normalised by layer_norm and B reads hidden states as they are"
    ):
        match(b, a, fold="decoder")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (
            match(a, b, weights=dict(encoder=1, decoder=1), fold="decoder"),
            match(a, b, weights="decoder", metric="cosine"),
            match(b, b),
        )


@pytest.mark.parametrize(
    "architecture, change, message",
    [
        ("gated", dict(r_mag=torch.ones(1)), "b_gate, b_mag and r_mag must have one entry for each latent"),
        ("gated", dict(b_gate=torch.tensor(1.0)), "b_gate, b_mag and r_mag must have one entry for each latent"),
        ("gated", dict(b_gate=torch.full((24,), math.inf)), "b_gate has 0 NaN and 24 infinite"),
        ("gated", dict(r_mag=torch.full((24,), -math.inf)), "r_mag has 0 NaN and 24 infinite"),
        ("jumprelu", dict(threshold=torch.full((24,), -math.inf)), "threshold has 0 NaN and 24 infinite"),
        ("batchtopk", dict(topk_threshold=torch.ones(24)), r"topk_threshold must be one number, it has shape \[24\]"),
        ("batchtopk", dict(topk_threshold=torch.tensor(-math.inf)), "topk_threshold has 0 NaN and 1 infinite"),
        ("topk", dict(b_enc=torch.ones(1)), r"b_enc must have shape \[24\] to fit W_enc \[10, 24\], it has \[1\]"),
    ],
)
def test_damage_that_arithmetic_would_hide_is_refused(architecture, change, message):
    from saematch.saes.architecture import from_tensors

    g = torch.Generator().manual_seed(0)
    shapes = dict(W_enc=(10, 24), W_dec=(24, 10), b_dec=(10,), topk_threshold=())
    tensors = {
        name: torch.randn(shapes.get(name, (24,)), generator=g) for name in ARCHITECTURES[architecture].needs.split()
    }
    cfg = dict(architecture=architecture, k=4)
    assert from_tensors(tensors, "file", cfg).d_sae == 24
    with pytest.raises(ValueError, match="^file: " + message):
        from_tensors(tensors | change, "file", cfg)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(architecture=["topk"]), r"architecture \['topk'\] is not supported"),
        (
            dict(k=True),
            "k is the number of active latents of topk and abstopk, from 1 to d_sae; activation topk has k=True",
        ),
        (dict(k=4.0), "activation topk has k=4.0"),
        (dict(k=25), "activation topk has k=25"),
        (dict(rescale_acts_by_decoder_norm="no"), "rescale_acts_by_decoder_norm must be true or false, it is 'no'"),
        (dict(apply_b_dec_to_input=0), "apply_b_dec_to_input must be true or false, it is 0"),
        (dict(d_in="10"), "cfg.json says d_in='10', d_sae=24"),
    ],
)
def test_configurations_that_say_nothing_sound_are_refused(change, message, tmp_path):
    theirs("topk").save_model(tmp_path)
    assert load_sae(tmp_path).k == 4
    (tmp_path / "cfg.json").write_text(json.dumps({**json.loads((tmp_path / "cfg.json").read_text()), **change}))
    with pytest.raises(ValueError, match=message) as e:
        load_sae(tmp_path)
    assert str(tmp_path) in str(e.value)


@pytest.mark.parametrize(
    "metadata, layer",
    [
        (dict(hook_layer=5), 5),
        (dict(hook_layer="5"), 5),
        (dict(hook_layer=5.0), 5),
        (dict(hook_layer=0), 0),
        (dict(hook_layer="five"), None),
        (dict(hook_layer="five", hook_name="blocks.7.hook_resid_post"), 7),
        (dict(hook_name="blocks.7.hook_resid_post"), 7),
        (dict(hook_layer=None), None),
    ],
)
def test_a_layer_is_a_whole_number(metadata, layer, tmp_path):
    theirs("jumprelu").save_model(tmp_path)
    (tmp_path / "cfg.json").write_text(
        json.dumps({**json.loads((tmp_path / "cfg.json").read_text()), "metadata": metadata})
    )
    assert load_sae(tmp_path).layer == layer and type(load_sae(tmp_path).layer) is type(layer)
