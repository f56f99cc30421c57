"SAEs that lie on disk in half precision match as the same numbers in float32 do, and nothing is copied."

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from saematch import load_suite, match
from saematch.lap.assign import assign, memory_needed
from saematch.lap.table import Made
from saematch.matching.descriptors import described, descriptors
from saematch.saes.architecture import from_tensors
from saematch.saes.toys import planted, random_sae

HALVES = (torch.float16, torch.bfloat16)


def written(folder, dtype):
    "Two planted SAEs in SAELens' layout."
    a = random_sae(24, 120, seed=3)
    for k, sae in enumerate((a, planted(a, seed=4, dead=0.1).sae)):
        (at := folder / f"layer_{k}").mkdir()
        save_file({n: p.to(dtype).contiguous() for n, p in sae.parameters().items()}, at / "sae_weights.safetensors")
        cfg = dict(architecture="jumprelu", d_in=24, d_sae=120, apply_b_dec_to_input=False)
        (at / "cfg.json").write_text(json.dumps(cfg))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_match_of_mapped_files_is_the_match_of_float32(tmp_path, dtype):
    written(tmp_path, dtype)
    half, single = (load_suite(tmp_path, dtype=k) for k in (dtype, torch.float32))
    for how in (
        dict(),
        dict(weights="decoder"),
        dict(weights="encoder", metric="cosine"),
        dict(fold="decoder"),
        dict(fold=False),
        dict(reject=2.0, weights="decoder"),
        dict(method="greedy"),
        dict(dead="exclude", norm=9.0),
    ):
        how = dict(dead="keep") | how
        m, wanted = match(half[0], half[1], **how), match(single[0], single[1], **how)
        assert torch.equal(m.index, wanted.index) and torch.equal(m.cost.nan_to_num(-1), wanted.cost.nan_to_num(-1))
        assert m.info["gauge"] == wanted.info["gauge"]
        if m.proof:
            assert m.proof.objective == wanted.proof.objective and m.proof.status == "optimal"


@pytest.mark.parametrize("balance", ["entry", "block"])
def test_balanced_rows_agree(balance):
    a = random_sae(16, 60, seed=0, dtype=torch.bfloat16)
    b = random_sae(16, 50, seed=1, dtype=torch.bfloat16, apply_b_dec_to_input=True)
    X, Y = descriptors(a.to(torch.float32), b.to(torch.float32), balance=balance)
    _, x, y = described(a, b, (torch.arange(60), torch.arange(50)), balance=balance)
    torch.testing.assert_close(x[:], X, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y[:], Y, rtol=1e-6, atol=1e-6)


def test_half_precision_and_float32_can_be_matched():
    a = random_sae(16, 60, seed=0, dtype=torch.float32)
    b = planted(a, seed=1).sae.to(torch.bfloat16)
    assert torch.equal(match(a, b, dead="keep").index, match(a, b.to(torch.float32), dead="keep").index)


def test_topk_keeps_one_unit_for_all():
    a, b = (random_sae(16, 60, seed=k, dtype=torch.bfloat16, activation="topk", k=5) for k in (0, 1))
    single = [s.to(torch.float32) for s in (a, b)]
    m, wanted = match(a, b, dead="keep"), match(*single, dead="keep")
    assert m.info["gauge"] == "decoder" and torch.equal(m.index, wanted.index)
    torch.testing.assert_close(m.cost, wanted.cost, rtol=1e-6, atol=1e-6)


def test_bad_units_and_numbers_are_named():
    a, b = (random_sae(16, 60, seed=k, dtype=torch.bfloat16) for k in (0, 1))
    bad = replace(b, threshold=b.threshold.index_fill(0, torch.tensor([7]), 0))
    with pytest.raises(ValueError, match="1 of 60 thresholds are zero or negative.*latent 7"):
        match(a, bad, dead="keep")
    huge = replace(b, W_dec=b.W_dec.index_fill(0, torch.tensor([5]), 3e38), threshold=b.threshold * 100)
    with pytest.raises(ValueError, match="Y, from row 0 on, has 0 NaN and 16 infinite"):
        match(a, huge, weights="decoder", dead="keep")


def test_nothing_is_copied(tmp_path):
    g = torch.Generator().manual_seed(0)
    t = {k: p.bfloat16() for k, p in random_sae(16, 60).parameters().items()}
    sae = from_tensors(t, "here", dtype=torch.bfloat16)
    assert all(getattr(sae, k).data_ptr() == t[k].data_ptr() for k in ("W_enc", "W_dec"))
    factor = 1 + torch.rand(60, generator=g)
    cfg = dict(architecture="jumprelu", apply_b_dec_to_input=False, finetuning_scaling_factor=True)
    scaled = from_tensors({**t, "scaling_factor": factor}, "here", cfg, dtype=torch.bfloat16)
    assert torch.equal(scaled.W_dec, (t["W_dec"].float() * factor[:, None]).bfloat16()), (
        "computed in float32, then cast"
    )
    _, X, _ = described(sae, sae, (torch.arange(60),) * 2)
    assert isinstance(X, Made) and X.dtype == torch.float32


def test_assign_takes_tables():
    g = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(k, 40, generator=g) for k in (90, 130))
    table = lambda Z: Made(Z.shape, lambda at: Z[at])
    for how in (dict(), dict(keep=False), dict(metric="inner", reject=0.0), dict(metric="unsigned")):
        a, wanted = assign(table(X), table(Y), **how), assign(X, Y, **how)
        assert torch.equal(a.index, wanted.index) and a.objective == wanted.objective and a.optimal
        assert torch.equal(assign(table(Y), X, **how).index, assign(Y, X, **how).index)
    X[3] *= 1e20  # a row that float32 cannot hold beside the others
    a, wanted = assign(table(X), table(Y)), assign(X, Y)
    assert torch.equal(a.index, wanted.index) and a.status == wanted.status
    sizes = 262_144, 262_144, 2_560
    assert memory_needed(*sizes, made=True) < 6 * 2**30 < memory_needed(*sizes)
