"""Every architecture of SAELens: its own object and ours compute the same, in memory and through files."""
import json

import pytest
import torch
from torch.testing import assert_close

from saematch import SAE, load_sae, save_sae
from saematch.architecture import ARCHITECTURES
from saematch.sae import SCALES, rescale

sae_lens = pytest.importorskip("sae_lens")

PLAIN = [(name, {}) for name in ARCHITECTURES if name not in ("batchtopk", "matryoshka_batchtopk", "matching_pursuit", "temporal")]
MORE = [("topk", dict(rescale_acts_by_decoder_norm=True)), ("abstopk", dict(rescale_acts_by_decoder_norm=True)),
        *((name, dict(normalize_activations=norm)) for name in ("jumprelu", "topk", "gated", "transcoder") for norm in ("layer_norm", "constant_norm_rescale"))]
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


@pytest.mark.parametrize("architecture, settings", PLAIN + MORE)
def test_the_object_and_the_canonical_form_agree(architecture, settings, tmp_path):
    obj = theirs(architecture, **settings)
    obj.save_model(tmp_path / "layer_5")
    save_sae(SAE.from_saelens(obj), tmp_path / "own.safetensors")
    with torch.no_grad():
        f, x_hat = obj.encode(X), obj(X)
    assert (f != 0).any(0).sum() > 12
    for ours in (SAE.from_saelens(obj), load_sae(tmp_path / "layer_5", dtype=torch.float64), load_sae(tmp_path / "own.safetensors", dtype=torch.float64)):
        assert ours.info["architecture"] == architecture and ours.transcoder == ARCHITECTURES[architecture].transcoder
        assert_close(ours.encode(X), f, rtol=1e-10, atol=1e-10)
        assert_close(ours.reconstruct(X), x_hat, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture, settings", PLAIN + MORE)
def test_the_allowed_rescalings_keep_the_function(architecture, settings):
    ours = SAE.from_saelens(theirs(architecture, **settings))
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
        obj, g = make(config(d_in=10, d_sae=24, k=4, dtype="float32", device="cpu", rescale_acts_by_decoder_norm=rescaled, **more)), torch.Generator().manual_seed(0)
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
    one, two = theirs("jumprelu", normalize_activations="layer_norm"), theirs("jumprelu", normalize_activations="layer_norm")
    a, b = SAE.from_saelens(one), SAE.from_saelens(two)
    with torch.no_grad(), pytest.raises(AttributeError):
        two.decode(one.encode(X))
    assert torch.isfinite(b.decode(a.encode(X), like=X)).all()


def test_version_5_topk_is_no_relu(tmp_path):
    obj = theirs("topk")
    obj.save_model(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    old = dict(architecture="standard", activation_fn_str="topk", activation_fn_kwargs=dict(k=4), d_in=10, d_sae=24, hook_point="blocks.7.hook_resid_post")
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    ours = load_sae(tmp_path, dtype=torch.float64)
    assert cfg["architecture"] == "topk" and ours.layer == 7
    with torch.no_grad():
        assert_close(ours.encode(X), obj.encode(X))
