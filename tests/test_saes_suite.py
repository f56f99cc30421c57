# Written from nbs/saes/05_suite.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.suite import (
    load_suite,
    fingerprint,
)


from fastcore.test import expect_fail
from torch.testing import assert_close

from saematch.ground import UnknownName, UsageError
from saematch.saes.files import embedded_suites, load_sae
from saematch.saes.sae import SAE


def test_a_suite_is_sent_without_its_weights():
    import pickle

    from saematch.saes.suite import load_suite

    suite = load_suite("smollm2-135m-resid")
    W = suite[14].W_dec
    sent = pickle.dumps(suite)
    there = pickle.loads(sent)
    assert len(sent) < 4096 and there.layers == suite.layers and (there[14].W_dec == W).all()
    assert pickle.loads(sent) is there, "one object for all that is sent to a process"
    f"{len(sent):,} bytes are sent, of {sum(p.numel() for p in suite[14].parameters().values()):,} numbers a layer"


def test_suites_are_lazy_and_know_their_layers():
    suite = load_suite("smollm2-135m-resid")
    assert suite.layers == [14, 15, 16, 17, 18, 19] and not suite._loaded
    assert suite[14:17].layers == [14, 15, 16] == suite[:17].layers and suite[::2].layers == [14, 16, 18]
    assert suite[-2:].layers == [18, 19] and torch.equal(suite[18:][19].W_dec, suite[19].W_dec)
    with expect_fail(UsageError, "has no layers in [20:None]; it has [14, 15"):
        suite[20:]
    suite = load_suite("smollm2-135m-resid")
    assert suite[16].layer == 16 and suite[16] is suite[16] and suite[16].dtype == torch.float32
    assert [suite[layer].d_sae for layer in suite] == [2048] * 6 and len(suite._loaded) == suite.keep
    with expect_fail(UnknownName, "unknown layer of smollm2-135m-resid '20'; there are: 14, 15"):
        suite[20]
    with expect_fail(UnknownName, "unknown suite 'smollm2-135m-risid'; closest: smollm2-135m-resid"):
        load_suite("smollm2-135m-risid")
    with expect_fail(UnknownName, "it can be an embedded suite (smollm2-135m-resid), a folder of SAEs, hf://user/repo, or"):
        load_suite("nothing of the kind")
    with expect_fail(UsageError, "must contain {layer}"):
        load_suite("smollm2-135m-resid", pattern="layer_14")
    assert torch.equal(load_sae("smollm2-135m-resid/layer_17").W_dec, suite[17].W_dec)


def test_a_suite_by_sparsity_from_a_folder():
    import json
    import tempfile
    from pathlib import Path

    import torch
    from safetensors.torch import save_file

    from saematch.saes.toys import random_sae

    with tempfile.TemporaryDirectory() as folder:
        for layer, l0 in ((3, 20), (3, 60), (4, 35)):
            (at := Path(folder) / f"layer_{layer}" / f"trained_{l0}").mkdir(parents=True)
            tensors = random_sae(5, 7, seed=l0, dtype=torch.float32).parameters()
            save_file({k: p.contiguous() for k, p in tensors.items()}, at / "sae_weights.safetensors")
            cfg = dict(architecture="jumprelu", d_in=5, d_sae=7, apply_b_dec_to_input=False, metadata=dict(l0=l0))
            (at / "cfg.json").write_text(json.dumps(cfg))
        chosen = load_suite(folder, "layer_{layer}/*", l0=50)
        assert chosen.l0 == {3: 60, 4: 35} and str(chosen).endswith("layers=[3, 4], L0 [60, 35])")
        with expect_fail(UsageError, "several SAEs for layer 3"):
            load_suite(folder, "layer_{layer}/*")
    chosen.l0


def test_a_folder_comes_before_an_embedded_suite_of_its_name():
    import contextlib
    import tempfile
    import warnings

    from saematch.saes.files import save_sae
    from saematch.saes.toys import random_sae

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        save_sae(random_sae(5, 7), "smollm2-135m-resid/layer_3.safetensors")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            local, one = load_suite("smollm2-135m-resid"), load_sae("smollm2-135m-resid/layer_3.safetensors")
    assert local.layers == [3] and one.d_sae == 7
    assert len(said) == 2 and all("not the embedded suite" in str(w.message) for w in said)


def test_a_latent_that_is_not_there_is_named():
    suite = load_suite("smollm2-135m-resid")
    suite.check_latent(14, 2047)
    for asked, said in (
        ((99, 1), "unknown layer of smollm2-135m-resid '99'"),
        ((14, 2048), "has no latent 2048 at layer 14; its latents are 0 to 2047"),
    ):
        with expect_fail(UnknownName, said):
            suite.check_latent(*asked)


def test_saelens_and_saematch_compute_the_same():
    import sae_lens

    theirs = sae_lens.SAE.load_from_disk(embedded_suites()["smollm2-135m-resid"] / "layer_14")
    ours = load_suite("smollm2-135m-resid")[14]
    x = (
        200 * torch.nn.functional.normalize(torch.randn(64, 576, generator=torch.Generator().manual_seed(0)), dim=-1)
        + ours.b_dec
    )
    with torch.no_grad():
        f, g = ours.encode(x), theirs.encode(x)
    assert (f > 0).any(-1).all(), "random inputs must reach the latents"
    assert_close(f, g, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert_close(ours.decode(f), theirs.decode(g), rtol=1e-5, atol=1e-3)
    assert fingerprint(SAE.from_saelens(theirs)) == fingerprint(ours)
    (f - g).abs().max()
