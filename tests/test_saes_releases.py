# Written from nbs/saes/08_releases.ipynb by tools/build.py. Edit the notebook.

import pytest
import torch

from saematch.saes.releases import (
    pattern_of,
    site_of,
    width_of,
    releases,
)


from fastcore.test import expect_fail


def test_names_are_read():
    cases = {
        "layer_20/width_16k/canonical": ("layer_{layer}/width_16k/canonical", "16k"),
        "blocks.3.hook_resid_pre": ("blocks.{layer}.hook_resid_pre", ""),
        "l31r_400m_slimpajama": ("l{layer}r_400m_slimpajama", ""),
        "800M-Slimpajama-0-OpenR1-Math-220k/L0R": ("800M-Slimpajama-0-OpenR1-Math-220k/L{layer}R", ""),
        "layer_5/width_1m/canonical": ("layer_{layer}/width_1m/canonical", "1m"),
        "gpt2-small-resid-post-v5-32k": (None, "32k"),
        "pythia-70m-deduped-res-sm": (None, ""),
        "l31a_8x": ("l{layer}a_8x", "8x"),
        "blocks.12.hook_resid_post__trainer_12": ("blocks.{layer}.hook_resid_post__trainer_12", ""),
        "resid_post/layer_9_width_262k_l0_small": ("resid_post/layer_{layer}_width_262k_l0_small", "262k"),
        "sae_bench_gemma-2-2b_topk_width-2pow14_date-1109": (None, "16k"),
    }
    for name, (pattern, width) in cases.items():
        assert pattern is None or pattern_of(name) == pattern, pattern_of(name)
        assert width_of(name) == width, (name, width_of(name))
    assert [
        site_of(n)
        for n in ("llama_scope_lxa_8x", "gemma-scope-2b-pt-mlp", "blocks.3.hook_resid_pre", "mwhanna-qwen3-4b-transcoders")
    ] == ["attention", "mlp", "residual", "transcoder"]
    {name: pattern_of(name) for name in cases}


def test_the_registry_as_a_table():
    table = releases("gemma-scope-2b-pt-res-canonical")
    best = table[table.width == "16k"].iloc[0]
    assert (best.layers, best.site, best.architecture, best.pattern) == (
        26,
        "residual",
        "jumprelu",
        "layer_{layer}/width_16k/canonical",
    )
    assert (
        len(releases("no such model")) == 0 and (releases().layers >= 2).all() and len(releases(fewest=1)) > len(releases())
    )
    with expect_fail(ValueError, "is no regular expression"):
        releases("gemma(")
