"""What enters where a pair of SAEs is wanted: SAELens objects, weights in training, other things, other devices."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from saematch import SAE, Match, compose, descriptors, match, random_sae
from saematch.ground import UsageError
from saematch.judging.calibrate import calibrate, null_scores
from saematch.judging.routes import Pair, carry_factor, encode_permute_decode
from saematch.judging.scores import pair_scores
from saematch.judging.weights import weight_mse
from saematch.matching.baselines import METHODS, baseline
from saematch.matching.descriptors import block_shares
from saematch.saes.gauge import check_pair, comparable

ENTRIES = dict(
    match=match,
    excluding=lambda a, b: match(a, b, dead="exclude"),
    blind=lambda a, b: match(a, b, method="identity"),
    descriptors=descriptors,
    block_shares=block_shares,
    comparable=comparable,
    check_pair=check_pair,
    weight_mse=lambda a, b: weight_mse(a, b, torch.arange(24)),
    calibrate=lambda a, b: calibrate(a, b, null="pairs"),
    null_scores=lambda a, b: null_scores(a, b, "halves"),
    pair_scores=lambda a, b: pair_scores(a, b, match(random_sae(10, 24, seed=1), random_sae(10, 24, seed=2))),
    carry_factor=lambda a, b: carry_factor(a, b, Match(torch.arange(24), 24, torch.zeros(24))),
    encode_permute_decode=lambda a, b: encode_permute_decode(
        a, b, Match(torch.arange(24), 24, torch.zeros(24)), torch.ones(3, 10, dtype=torch.float64)
    ),
    Pair=lambda a, b: Pair(a, b, {}),
)


class Config:
    def __init__(self, **known):
        self.known = known

    def to_dict(self):
        return self.known

    def architecture(self):
        return "jumprelu"


def stand_in(sae):
    """A module in training with what `SAE.from_saelens` reads of a SAELens object."""
    obj = torch.nn.Module()
    for name, p in sae.parameters().items():
        obj.register_parameter(name, torch.nn.Parameter(p.clone()))
    obj.cfg = Config(d_in=sae.d_model, d_sae=sae.d_sae, apply_b_dec_to_input=False)
    return obj


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_no_sae_is_refused_by_its_side(entry):
    sae = random_sae(10, 24, seed=1)
    half = SimpleNamespace(cfg=SimpleNamespace(architecture="jumprelu"), W_dec=sae.W_dec, state_dict=sae.parameters)
    for wrong in (None, "smollm2-135m-resid/layer_14", sae.W_dec, sae.parameters(), torch.nn.Linear(2, 2), half, SAE):
        for side, pair in (("A", (wrong, sae)), ("B", (sae, wrong))):
            with pytest.raises(
                TypeError, match=f"^{side} must be a saematch SAE, it is {type(wrong).__name__}; use load_sae"
            ):
                ENTRIES[entry](*pair)


@pytest.mark.parametrize("entry", ENTRIES)
def test_saelens_objects_enter_wherever_a_pair_does(entry):
    a, b = random_sae(10, 24, seed=1), random_sae(10, 24, seed=2)
    for pair in ((stand_in(a), b), (a, stand_in(b)), (stand_in(a), stand_in(b))):
        ENTRIES[entry](*pair)
    assert torch.equal(match(stand_in(a), stand_in(b)).index, match(a, b).index)


def test_objects_of_saelens_itself():
    lens = pytest.importorskip("sae_lens")
    cfg = dict(architecture="jumprelu", d_in=10, d_sae=24, dtype="float64", device="cpu", apply_b_dec_to_input=True)
    made = []
    for seed in (1, 2):
        obj, g = lens.SAE.from_dict(dict(cfg)), torch.Generator().manual_seed(seed)
        for p in obj.parameters():
            p.data.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64).abs() + 0.1)
        made.append(obj)
    ours = [SAE.from_saelens(obj) for obj in made]
    assert torch.equal(match(*made).index, match(*ours).index)
    assert weight_mse(*made, match(*ours).index) == weight_mse(*ours, match(*ours).index)


@pytest.mark.parametrize("method", METHODS)
def test_weights_in_training_are_matched_as_they_are_now(method, tmp_path):
    a, b = random_sae(8, 20, seed=1), random_sae(8, 20, seed=2)
    learnt = [SAE(**{k: p.clone().requires_grad_() for k, p in s.parameters().items()}) for s in (a, b)]
    m, plain = match(*learnt, method=method), match(a, b, method=method)
    assert torch.equal(m.index, plain.index) and not m.cost.requires_grad
    assert m.frame().equals(plain.frame())
    m.save(tmp_path / "m.safetensors")
    assert torch.equal(Match.load(tmp_path / "m.safetensors").index, plain.index)
    assert weight_mse(*learnt, m.index) == weight_mse(a, b, m.index)


def test_later_training_does_not_make_a_frozen_sae_learn():
    p = {k: v.clone() for k, v in random_sae(8, 20).parameters().items()}
    sae = SAE(**p)
    for v in p.values():
        v.requires_grad_()
    assert not any(v.requires_grad for v in sae.parameters().values())
    assert match(sae, random_sae(8, 20, seed=1), method="dense").frame().cost.notna().all()
    with torch.inference_mode():
        made = SAE(**{k: v.clone() for k, v in random_sae(8, 20).parameters().items()})
    assert match(made, made).index.tolist() == list(range(20))


def test_a_match_and_costs_made_by_hand_may_come_with_gradients(tmp_path):
    m = Match(torch.tensor([1, 0]), 2, torch.ones(2, requires_grad=True), sign=torch.ones(2, requires_grad=True))
    assert m.frame().cost.tolist() == [1, 1] and not m.sign.requires_grad
    m.save(tmp_path / "m.safetensors")
    X, Y = (torch.randn(5, 3, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    for method in set(METHODS) - {"exact"}:
        assert torch.equal(baseline(method, X.requires_grad_(), Y), baseline(method, X.detach(), Y))


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_tensors_without_numbers_are_refused_in_every_parameter(name):
    sae = random_sae(6, 9)
    p = sae.parameters()[name]
    kinds = [getattr(torch, k) for k in dir(torch) if k.startswith("float8")]
    assert kinds
    for kind in kinds:
        with pytest.raises(TypeError, match=f"^{name} is a tensor of {kind}, which torch stores"):
            replace(sae, **{name: torch.empty(p.shape, dtype=kind)})
    for wrong, says in ((p.to_sparse(), "must be a dense tensor"), (p.to("meta"), "is on the device meta")):
        with pytest.raises(TypeError, match=f"^{name} {says}"):
            replace(sae, **{name: wrong})
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        assert_close(sae.to(kind).parameters()[name], p.to(kind))


@pytest.mark.parametrize("method", METHODS)
def test_a_device_that_is_not_there_is_named_before_anything_is_computed(method):
    a = random_sae(6, 9)
    for device in ("cuda:99", torch.device("cuda", 98), "meta", "gpu"):
        with pytest.raises(UsageError, match="cannot compute on device .*this machine has cpu"):
            match(a, a, method=method, device=device)
    assert torch.equal(match(a, a, method=method, device="cpu").index, match(a, a, method=method).index)


def placed(seed, **info):
    return replace(random_sae(6, 9, seed=seed), info=info)


@pytest.mark.parametrize(
    "end, start, meet",
    [
        (dict(layer=2), dict(layer=2), True),
        (dict(layer=2), dict(layer=3), False),
        (dict(layer=2), {}, True),
        (dict(layer=None), dict(layer=3), True),
        (dict(source="here"), dict(source="there"), True),
        (dict(layer=2, source="here"), dict(layer=2, source="there"), True),
        (dict(layer=0), dict(layer=1), False),
        (dict(layer=2, hook_name="blocks.2.hook_mlp_out"), dict(layer=2, hook_name="blocks.2.hook_resid_post"), False),
        (dict(layer=2, hook_name="blocks.2.hook_mlp_out"), dict(layer=2), True),
        (dict(layer=2, model_name="gpt2"), dict(layer=2, model_name="gemma-2-2b"), False),
        (dict(layer=2, model_name="google/gemma-2-2b"), dict(layer=2, model_name="gemma-2-2b"), True),
    ],
)
def test_what_is_known_of_the_middle_decides(end, start, meet, tmp_path):
    ab, bc = match(placed(1, layer=1), placed(2, **end)), match(placed(2, **start), placed(3, layer=4))
    for m in (ab, bc):
        m.save(tmp_path / "m.safetensors")
        assert dict(Match.load(tmp_path / "m.safetensors").info) == dict(m.info)
    if not meet:
        with pytest.raises(ValueError, match="cannot compose: the first match goes from .* so they do not meet"):
            compose(ab, bc)
        with pytest.raises(ValueError, match="do not meet"):
            compose(bc.inverse(), ab.inverse())
    assert torch.equal(compose(ab, bc, check=meet).index, bc.index[ab.index])


def test_a_composition_remembers_its_ends_and_its_inverse_too():
    at = {n: placed(n, layer=n) for n in (1, 2, 3, 4)}
    step = lambda x, y: match(at[x], at[y])
    back = compose(step(1, 2), step(2, 3)).inverse()
    assert (back.info["a"]["layer"], back.info["b"]["layer"]) == (3, 1)
    with pytest.raises(ValueError, match="from layer 3 to layer 1, the second from layer 2 to layer 3"):
        compose(back, step(2, 3))
    unknown = Match(torch.arange(9), 9, torch.zeros(9))
    half = compose(unknown, step(2, 3)).inverse()  # from 3 to nobody knows where
    assert half.info["a"]["layer"] == 3 and "b" not in half.info
    assert len(compose(half, step(1, 2))) == 9
