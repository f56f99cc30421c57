"""SAELens as an oracle, and its releases through the real download code on a local cache."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from saematch import SAE, load_sae, load_suite, random_sae

sae_lens = pytest.importorskip("sae_lens")


def saelens_object(architecture="jumprelu", **kw):
    """A random SAELens SAE, every parameter non-zero."""
    from sae_lens import SAE as Lens

    cfg = dict(
        architecture=architecture, d_in=10, d_sae=24, dtype="float64", device="cpu", apply_b_dec_to_input=True, **kw
    )
    obj, g = Lens.from_dict(cfg), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in obj.parameters():
            p.copy_(
                torch.randn(p.shape, generator=g, dtype=torch.float64).abs()
                if p is getattr(obj, "threshold", None)
                else torch.randn(p.shape, generator=g, dtype=torch.float64)
            )
    return obj


def test_an_object_of_saelens_computes_the_same():
    theirs, x = (
        saelens_object(),
        2 * torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    ours = SAE.from_saelens(theirs)
    with torch.no_grad():
        assert (theirs.encode(x) > 0).any()
        assert_close(ours.encode(x), theirs.encode(x))
        assert_close(ours.decode(ours.encode(x)), theirs(x))
    assert ours.dtype == torch.float64 and not ours.W_enc.requires_grad
    with torch.no_grad():
        theirs.W_dec.zero_()
    assert ours.W_dec.abs().min() > 0, "a copy, not a view"


def test_negative_thresholds_mean_what_saelens_means():
    theirs, x = (
        saelens_object(),
        2 * torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    with torch.no_grad():
        theirs.threshold[:5] = -1.0
        assert_close(SAE.from_saelens(theirs).encode(x), theirs.encode(x))


def test_a_folder_that_saelens_wrote(tmp_path):
    theirs = saelens_object()
    theirs.save_model(tmp_path / "layer_3")
    ours = load_sae(tmp_path / "layer_3", dtype=torch.float64)
    x = 2 * torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert_close(ours.encode(x), theirs.encode(x))
    assert ours.apply_b_dec_to_input


def test_releases_as_suites():
    suite = load_suite("gemma-scope-2b-pt-res-canonical", "layer_{layer}/width_16k/canonical")
    assert suite.layers == list(range(26)) and suite.sources[20] == (
        "gemma-scope-2b-pt-res-canonical",
        "layer_20/width_16k/canonical",
    )
    from saematch.ground import UsageError

    with pytest.raises(UsageError, match=r"several SAEs for layer .*layer_\{layer\}/width_16k/canonical"):
        load_suite("gemma-scope-2b-pt-res-canonical")


CODE = """
import sys, torch
from saematch import load_sae, load_suite, fold
sae = load_sae("gpt2-small-res-jb", "blocks.3.hook_resid_pre")
half = load_sae("gpt2-small-res-jb", "blocks.3.hook_resid_pre", dtype=torch.bfloat16)
assert half.dtype == torch.bfloat16 and torch.equal(half.W_enc, sae.W_enc.bfloat16())
print(sae.d_model, sae.d_sae, sae.layer, sae.info["source"], float(sae.W_dec.sum()))
print(load_suite("gpt2-small-res-jb", "blocks.{layer}.hook_resid_pre")[3].d_sae)
try:
    load_sae("gpt2-small-res-jb", "blocks.4.hook_resid_pre")
except OSError as e:
    print("OSError:", e)
"""


def test_a_release_by_name_from_a_local_cache(tmp_path):
    """The files lie where huggingface_hub keeps downloads; SAELens finds them without a network."""
    sae, repo = random_sae(6, 9, dtype=torch.float32), tmp_path / "hub" / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    folder = repo / "snapshots" / "0123abcd" / "blocks.3.hook_resid_pre"
    folder.mkdir(parents=True), (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123abcd")
    save_file({k: p.contiguous() for k, p in sae.parameters().items()}, folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.zeros(9)}, folder / "sparsity.safetensors")
    cfg = dict(
        architecture="jumprelu",
        d_in=6,
        d_sae=9,
        dtype="float32",
        device="cpu",
        apply_b_dec_to_input=False,
        normalize_activations="none",
        metadata=dict(hook_name="blocks.3.hook_resid_pre", model_name="gpt2-small", sae_lens_version="6.0.0"),
    )
    (folder / "cfg.json").write_text(json.dumps(cfg))
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, third = done.stdout.splitlines()[-3:]
    d, n, layer, source, total = first.split()
    assert (d, n, layer, source) == ("6", "9", "3", "gpt2-small-res-jb/blocks.3.hook_resid_pre") and abs(
        float(total) - sae.W_dec.sum()
    ) < 1e-4
    assert (
        second == "9"
        and third.startswith("OSError: cannot fetch gpt2-small-res-jb/blocks.4.hook_resid_pre")
        and "give its path instead" in third
    )


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_an_object_in_any_precision_is_shared_in_that_precision(dtype):
    theirs = saelens_object().to(dtype)
    ours = SAE.from_saelens(theirs, copy=False, dtype=dtype)
    assert ours.dtype == dtype and ours.W_dec.data_ptr() == theirs.W_dec.data_ptr()
    assert torch.equal(ours.W_enc, theirs.W_enc) and torch.equal(ours.b_enc, theirs.b_enc)
    assert SAE.from_saelens(theirs).dtype == torch.promote_types(dtype, torch.float32)


def test_gemma_scope_params_agree_with_the_equations(tmp_path):
    sae = random_sae(6, 9)
    path = tmp_path / "layer_20" / "width_16k" / "average_l0_71"
    path.mkdir(parents=True)
    np.savez(path / "params.npz", **{k: p.numpy().astype(np.float32) for k, p in sae.parameters().items()})
    ours = load_sae(path)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    z = x @ sae.W_enc.float() + sae.b_enc.float()
    assert ours.layer == 20 and load_suite(tmp_path).layers == [20]
    assert_close(ours.encode(x), torch.relu(z) * (z > sae.threshold.float()))
