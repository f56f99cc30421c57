"Inputs on which a number could be wrong without a word, each against a plain recomputation."

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saematch.ground import UsageError, read_json
from saematch.judging.calibrate import benjamini_hochberg, calibrate, p_values
from saematch.judging.evidence import check_evidence, evidence
from saematch.judging.routes import Active, Pair
from saematch.judging.sums import error_sums, exchange_gain, loss_from
from saematch.matching.match import match
from saematch.model.activations import hidden_states, norm_limits
from saematch.model.lm import load_lm, weights_sha256
from saematch.model.text import Tokens, load_text
from saematch.model.toys import random_lm, toy_lm
from saematch.saes.files import save_sae
from saematch.saes.toys import random_sae
from saematch.studies import trial as E
from saematch.studies.fitting import Fit, activation_scale, learned
from saematch.studies.options import Trial
from saematch.studies.paper import FIGURES, panels
from saematch.studies.run import claim, run
from saematch.studies.scores import load_experiment, load_run
from saematch.studies.trial import corpora

LIMITS = {l: 1e9 for l in range(4)}


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return load_lm(random_lm(tmp_path_factory.mktemp("lm")), "cpu", torch.float64)


@pytest.fixture(scope="module")
def tokens(lm):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(3, lm.cfg.d_vocab, (6, 20), generator=g)
    return Tokens(ids, torch.tensor([20, 20, 7, 20, 13, 20]), (0, 1, 2))


def sae_of(lm, layer, seed, **settings):
    return replace(random_sae(lm.cfg.d_model, 40, seed=seed, **settings), info=dict(layer=layer))


def states(lm, tokens, layer):
    return hidden_states(lm, tokens, [layer])[layer][tokens.counted]


def score(a, b, m, x_a, x_b):
    "Matching Score by a loop over latents."
    f, g = a.encode(x_a) > 0, b.encode(x_b) > 0
    both = sum(int((f[:, i] & g[:, j]).sum()) for i, j in enumerate(m.index.tolist()) if j >= 0)
    return both / sum(int(f[:, i].sum()) for i, j in enumerate(m.index.tolist()) if j >= 0)


def variance_explained(x, x_hat):
    centred = lambda t: t - t.mean(0)
    return 1 - float(centred(x - x_hat).square().sum() / centred(x).square().sum())


def test_two_saes_of_one_layer_each_encode_for_themselves(lm, tokens):
    a, b = sae_of(lm, 1, 1), sae_of(lm, 1, 9)
    m, x = match(a, b, dead="keep"), states(lm, tokens, 1)
    found = evidence(lm, {(1, 1): Pair(a, b, {"match": m})}, tokens, LIMITS, loss=False)
    assert found.matching_score((1, 1), "match").value == pytest.approx(score(a, b, m, x, x))
    assert found.explained_variance((1, 1), "current").value == pytest.approx(variance_explained(x, b.reconstruct(x)))


def test_pairs_may_share_a_layer_but_not_its_sae(lm, tokens):
    a, b, other, c = sae_of(lm, 0, 1), sae_of(lm, 1, 2), sae_of(lm, 1, 3), sae_of(lm, 2, 4)
    first, second = match(a, b, dead="keep"), match(other, c, dead="keep")
    found = evidence(
        lm,
        {(0, 1): Pair(a, b, {"match": first}), (1, 2): Pair(other, c, {"match": second})},
        tokens,
        LIMITS,
        loss=False,
    )
    x = [states(lm, tokens, l) for l in range(3)]
    assert found.matching_score((0, 1), "match").value == pytest.approx(score(a, b, first, x[0], x[1]))
    assert found.matching_score((1, 2), "match").value == pytest.approx(score(other, c, second, x[1], x[2]))
    assert found.explained_variance((1, 2), "previous").value == pytest.approx(
        variance_explained(x[2], other.reconstruct(x[1]))
    )
    assert torch.equal(found.found["1/latents/active"], (b.encode(x[1]) > 0).sum(0)), "of the first SAE of the layer"


def test_the_loss_knows_a_soft_cap_of_the_logits(lm, tokens):
    before = lm.cfg.output_logits_soft_cap
    try:
        lm.cfg.output_logits_soft_cap = 3.0
        with torch.no_grad():
            whole = torch.nn.functional.cross_entropy(
                lm(tokens.ids)[:, :-1].flatten(0, 1), tokens.ids[:, 1:].flatten(), reduction="none"
            ).view(len(tokens), -1)
            ours = loss_from(lm, tokens.ids, hidden_states(lm, tokens, [2])[2], 2)[:, :-1]
    finally:
        lm.cfg.output_logits_soft_cap = before
    torch.testing.assert_close(ours, whole)
    assert (loss_from(lm, tokens.ids, hidden_states(lm, tokens, [2])[2], 2)[:, :-1] - whole).abs().max() > 0.01


@pytest.mark.parametrize("how", ["none", "layer_norm", "constant_norm_rescale"])
def test_exchange_of_some_latents_where_hidden_states_are_normalised(lm, tokens, how):
    a, b = sae_of(lm, 0, 1, normalize=how), sae_of(lm, 1, 2, normalize=how)
    m = match(a, b, fold=False, dead="keep")
    x_a, x_b = states(lm, tokens, 0), states(lm, tokens, 1)
    f = a.encode(x_a)
    near = m.cost <= m.cost.double().quantile(0.3)
    zero = torch.zeros_like(x_a)
    moved = torch.zeros_like(f)
    moved[:, m.index[near]] = f[:, near]
    bare = lambda sae, v: sae.restore(v @ sae.W_dec, x_a) - sae.restore(zero, x_a)
    want = bare(a, f * ~near) + b.decode(moved, like=x_a)
    found = evidence(lm, {(0, 1): Pair(a, b, {"match": m}, quantiles=(0.3,))}, tokens, LIMITS, loss=False)
    assert found.explained_variance((0, 1), "quantile 0.3").value == pytest.approx(variance_explained(x_b, want))
    copy = a.reconstruct(x_a)
    gain = exchange_gain(Pair(a, b, {"match": m}), x_b - copy, Active.of(f), x_a)
    for i in f.sum(0).topk(5).indices.tolist():
        alone = torch.zeros_like(f)
        alone[:, i] = f[:, i]
        there = torch.zeros_like(f)
        there[:, m.index[i]] = f[:, i]
        exchanged = copy - bare(a, alone) + bare(b, there)
        assert float(gain[i]) == pytest.approx(
            float((x_b - copy).square().sum() - (x_b - exchanged).square().sum()), rel=1e-9, abs=1e-9
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_neither_overflow_nor_round(dtype):
    errors = (3 + torch.randn(2, 500, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    found = error_sums(errors, [200, 300])
    want = torch.stack([torch.einsum("rtd,std->rs", e, e) for e in errors.double().split([200, 300], 1)])
    assert torch.allclose(found["G"], want, rtol=1e-5) and found["S"].isfinite().all()


def test_a_narrower_next_layer_and_a_match_of_nothing(lm, tokens):
    a = sae_of(lm, 0, 1)
    b = replace(random_sae(lm.cfg.d_model, 24, seed=2), info=dict(layer=1))
    found = evidence(
        lm, {(0, 1): Pair(a, b, {"match": match(a, b, dead="keep")}, quantiles=(0.1, 0.5))}, tokens, LIMITS, loss=False
    )
    assert math.isfinite(found.explained_variance((0, 1), "quantile 0.5").value)
    b = sae_of(lm, 1, 2)
    nothing = match(a, b, reject=0.0, dead="keep")
    assert not nothing.matched.any()
    found = evidence(lm, {(0, 1): Pair(a, b, {"match": nothing}, quantiles=(0.1,))}, tokens, LIMITS, loss=False)
    x_a = states(lm, tokens, 0)
    assert found.explained_variance((0, 1), "quantile 0.1").value == pytest.approx(
        variance_explained(states(lm, tokens, 1), a.encode(x_a) @ a.W_dec + b.b_dec)
    )


def test_what_does_not_belong_together_is_refused_before_any_forward_pass(lm, tokens):
    a, b, narrow = sae_of(lm, 0, 1), sae_of(lm, 1, 2), random_sae(lm.cfg.d_model, 30)
    with pytest.raises(UsageError, match="belongs to other SAEs"):
        check_evidence(lm, {(0, 1): Pair(a, b, {"match": match(a, narrow, dead="keep")}, decode=False)})
    with pytest.raises(UsageError, match="no pairs of layers"):
        check_evidence(lm, {})
    with pytest.raises(UsageError, match="has no encoder in saematch"):
        check_evidence(lm, {(0, 1): Pair(replace(a, activation="other"), b, {})})
    pair = {(0, 1): Pair(a, b, {"match": match(a, b, dead="keep")})}
    with pytest.raises(UsageError, match="no norm for layer 1"):
        evidence(lm, pair, tokens, {0: 1.0})
    with pytest.raises(UsageError, match="batch=0"):
        evidence(lm, pair, tokens, LIMITS, batch=0)


def test_what_was_not_measured_is_named(lm, tokens):
    pair = {(0, 1): Pair(a := sae_of(lm, 0, 1), b := sae_of(lm, 1, 2), {"match": match(a, b, dead="keep")})}
    found = evidence(lm, pair, tokens, LIMITS, loss=False)
    for call, says in (
        (lambda: found.explained_variance((0, 1), "previus"), "'previus' was not measured.*previous"),
        (lambda: found.matching_score((0, 2), "match"), r"\(0, 2\) were not measured"),
        (lambda: found.delta_loss((0, 1), "match"), "loss=True"),
        (lambda: found.jaccard((0, 1), "greedy"), "'greedy' was not measured"),
    ):
        with pytest.raises(UsageError, match=says):
            call()


def test_a_model_of_nan_is_called_damaged(tokens):
    lm = toy_lm()
    with torch.no_grad():
        lm.state_dict()["blocks.1.mlp.W_in"].fill_(math.nan)
    with pytest.raises(ValueError, match="hidden states of layer 2 are NaN"):
        norm_limits(lm, tokens, [0, 2])


def test_activation_scales_of_latents_that_are_active_in_two_directions(lm, tokens):
    a, b = (sae_of(lm, l, l, activation="abstopk", k=8) for l in (0, 1))
    f = a.encode(states(lm, tokens, 0))
    assert (f < 0).any() and (activation_scale(a, f) > 0).all()
    fitted = Fit(LIMITS, {l: states(lm, tokens, l) for l in (0, 1)})
    m, factor = learned((0, 1), a, b, fitted, dict(fold=True))["activation scale"]
    assert torch.equal(factor < 0, m.sign < 0) and (m.sign < 0).any()


def test_learning_leaves_activations_alone(lm, tokens):
    one = replace(
        random_sae(lm.cfg.d_model, 1, seed=1), info=dict(layer=0), threshold=torch.zeros(1, dtype=torch.float64)
    )
    two = replace(one, info=dict(layer=1))
    fitted = Fit(LIMITS, {l: states(lm, tokens, l) for l in (0, 1)})
    _, factor = learned((0, 1), one, two, fitted, dict(fold="none"))["activation scale"]
    means = [(f := s.encode(x))[f > 0].mean() for s, x in ((one, fitted.states[0]), (two, fitted.states[1]))]
    torch.testing.assert_close(factor[0], means[1] / means[0])


def test_p_values_are_exact_at_the_level():
    assert (benjamini_hochberg(p_values(torch.ones(19), torch.zeros(19))) <= 0.05).all()
    assert p_values(torch.tensor([1.0]), torch.zeros(1999)).item() == 1 / 2000
    a = random_sae(8, 12)
    for q in ("x", None, 0, 1.5):
        with pytest.raises(ValueError, match="q is the false discovery rate"):
            calibrate(a, a, q=q)


def test_missing_weights_of_a_language_model_are_no_random_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = random_lm(tmp_path / "lm")
    tensors = load_file(folder / "model.safetensors")
    lost = next(k for k in tensors if "layers.2.mlp.up" in k)
    save_file({k: v for k, v in tensors.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=f"1 weights are missing or of another shape than config.json says, the first is {lost}"
    ):
        load_lm(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_language_model_with_numbers_that_are_none_is_refused(tmp_path, value):
    from safetensors.torch import load_file, save_file

    folder = random_lm(tmp_path / "lm")
    tensors = load_file(folder / "model.safetensors")
    bad = next(k for k in tensors if "layers.1.mlp.up" in k)
    tensors[bad][3, 2] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"1 weights hold NaN or infinite numbers, the first is {bad}"):
        load_lm(folder)


def test_the_digest_of_a_model_sees_an_order():
    lm = toy_lm()
    before, W = weights_sha256(lm), lm.state_dict()["blocks.1.mlp.W_in"]
    with torch.no_grad():
        W.copy_(W.flip(0))
    assert weights_sha256(lm) != before


@pytest.mark.parametrize(
    "content, says", [(b"\xff\xfe\xfa", "is not UTF-8 text"), (b'{"no": 1}\n', "expected a JSON object")]
)
def test_files_that_are_no_text_are_named(tmp_path, content, says):
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=f"bad.jsonl.*{says}"):
        load_text(tmp_path / "bad.jsonl")


def test_lines_of_json_may_hold_any_character_and_begin_with_a_mark(tmp_path):
    texts = ["one\u2028two", "three\u0085four", "five"]
    (tmp_path / "a.jsonl").write_text(
        "\ufeff" + "\n".join(json.dumps(dict(text=t), ensure_ascii=False) for t in texts) + "\n", encoding="utf-8"
    )
    assert load_text(tmp_path / "a.jsonl") == texts
    (tmp_path / "b.txt").write_bytes("\ufeffplain".encode())
    (tmp_path / "folder.txt").mkdir()
    assert load_text(tmp_path) == [*texts, "plain"]


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    for name in ("", "  ", Path("")):
        with pytest.raises(UsageError, match="name of a text is missing"):
            load_text(name)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        load_text("a.txt", 0)
    for name in ("x" * 5000, "~nosuchuser/text"):
        with pytest.raises((UsageError, ImportError)):
            load_text(name)


def test_a_trial_takes_paths_and_refuses_what_cannot_work(lm, tmp_path):
    trial = Trial(model=tmp_path / "lm", text=tmp_path / "a.txt")
    assert (
        trial.text == (str(tmp_path / "a.txt"),)
        and trial.model == str(tmp_path / "lm")
        and Trial(text="prose").text == ("prose",)
    )
    for change, says in (
        (dict(batch=0), "batch=0"),
        (dict(quantiles=(1.5,)), "quantiles"),
        (dict(text=("prose", "prose")), "named twice"),
    ):
        with pytest.raises(UsageError, match=says):
            corpora(Trial(**change), lm)


def suite_in(folder, layers=3):
    for l in range(layers):
        save_sae(
            replace(
                random_sae(16, 24, seed=l, dtype=torch.float32),
                info=dict(layer=l, hook_name=f"blocks.{l}.hook_resid_post"),
            ),
            folder / f"layer_{l}.safetensors",
        )
    return folder


@pytest.fixture
def judged_run(tmp_path):
    random_lm(tmp_path / "lm", dtype=torch.float32)
    words = torch.randint(0, 60, (14, 40), generator=torch.Generator().manual_seed(0))
    (tmp_path / "text").mkdir()
    for d, row in enumerate(words.tolist()):
        (tmp_path / "text" / f"{d:02d}.txt").write_text(" ".join(f"w{i}" for i in row))
    trial = Trial(
        model=tmp_path / "lm", text=(tmp_path / "text",), documents=8, loss_documents=0, fit_documents=4, length=32
    )
    run(suite_in(tmp_path / "suite"), out=tmp_path / "out", trial=trial, jobs=1, progress=False)
    return tmp_path, trial


def test_a_killed_second_evaluation_leaves_no_mixed_tables(judged_run, monkeypatch):
    folder, trial = judged_run
    before = load_experiment(folder / "out")
    monkeypatch.setattr(E, "latent_table", E.latent_table)
    calls = []

    def stop(*args):
        calls.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(E, "facts", stop)
    with pytest.raises(KeyboardInterrupt):
        run(folder / "suite", out=folder / "out", trial=replace(trial, documents=6), jobs=1, progress=False)
    assert calls
    with pytest.raises(UsageError, match=f"--out {folder / 'out'}$"):
        load_experiment(folder / "out")
    monkeypatch.undo()
    run(folder / "suite", out=folder / "out", trial=trial, jobs=1, progress=False)
    pd.testing.assert_frame_equal(load_experiment(folder / "out")["scores"], before["scores"])
    (folder / "out" / "evidence" / "scores.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match="scores.parquet is missing or damaged"):
        load_experiment(folder / "out")


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "home" / "work").mkdir(parents=True)
    mine = tmp_path / "home" / "work" / ".thesis.999999.draft.tmp"
    mine.write_text("years of work")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        run(suite_in(tmp_path / "suite"), out=tmp_path / "home", progress=False)
    assert mine.read_text() == "years of work"


def test_overwriting_never_leaves_a_folder_of_nobody(tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(suite_in(tmp_path / "suite"), out=out, layers="0-1", progress=False)
    (out / "paper.html").write_text("of the old run")
    record = read_json(out / "run.json")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    at = claim(out, record | dict(layers=[1, 2]), overwrite=True)
    assert at != out and read_json(at / "run.json")["layers"] == [1, 2]
    import saematch.studies.run as R

    def killed(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(R.shutil, "rmtree", killed)  # it would remove what [1, 2] had begun, for another run
    with pytest.raises(KeyboardInterrupt):
        claim(out, record | dict(layers=[0, 2]), overwrite=True)
    monkeypatch.undo()
    assert all(p.read_bytes() == was for p, was in before.items()), "the old run is whole until a new one is complete"
    at = claim(out, record | dict(layers=[0, 2]), overwrite=True)
    assert read_json(at / "run.json")["layers"] == [0, 2] and read_json(out / "run.json")["layers"] == [0, 1]


def test_figures_of_silent_saes_say_so():
    tables = load_run(Path(__file__).parent.parent / "nbs" / "data" / "paper")
    silent = tables | dict(
        latents=tables["latents"].assign(active_a=0, both=0),
        scores=tables["scores"].assign(value=lambda s: s.value.where(s.metric != "matching score")),
    )
    found = panels(silent)
    assert [p.number for p in found] == list(FIGURES)
    assert {p.number for p in found if p.same is None} >= {"5", "7 right", "8 by activity", "12"}
    assert [
        p.number
        for p in panels(tables | dict(scores=tables["scores"][~tables["scores"].route.str.startswith("quantile")]))
    ] == [n for n in FIGURES if n not in ("16", "17")]


def test_disk_space_is_claimed_before_it_is_written(tmp_path, monkeypatch):
    import saematch.making.states as T

    monkeypatch.setattr(os, "posix_fallocate", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    (tmp_path / "layer_0.npy").write_bytes(b"0" * 10)
    with pytest.raises(OSError, match=r"cannot write .*layer_0.npy \(10 bytes\).*free some space"):
        T.claim_room(tmp_path / "layer_0.npy")


def test_settings_of_training_are_checked_and_survive_numpy(tmp_path):
    import saematch.making.train as T
    from saematch.making.states import open_states

    rows = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float16)
    np.save(tmp_path / "layer_0.npy", rows)
    record = dict(
        settings=dict(model="toy", tokens="0", shape=[4, 100], layers=[0]), rows=400, sequences=4, left_out={}
    )
    (tmp_path / "states.json").write_text(json.dumps(record))
    made = open_states(tmp_path)
    for change in (dict(batch=0), dict(batch=-5), dict(d_sae=0), dict(held_out=1.5)):
        with pytest.raises(UsageError, match=f"{next(iter(change))}={next(iter(change.values()))}"):
            T.train_sae(made, 0, tmp_path / "sae", l0_coefficient=1.0, **change)
    with pytest.raises(UsageError, match="a seed of its own"):
        T.train_suite(None, [], [0], tmp_path, l0_coefficients=1.0, seed=3)
    found = T.train_sae(
        made,
        0,
        tmp_path / "sae",
        l0_coefficient=0.1,
        d_sae=np.int64(12),
        samples=np.int64(400),
        batch=32,
        progress=False,
    )
    assert read_json(tmp_path / "sae" / "training.json")["settings"]["d_sae"] == 12 and found
