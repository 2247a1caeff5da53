"""Rows, variants and pairs of a network call, on the tiny base."""

import pytest
import torch

from unicond.adapters.attach import attached
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.blending.perturbed import PerturbedAttention
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Rows, Variant, current
from unicond.sampling.state import Move, State


def state_of(tiny, branches=("image", "depth"), batch=2, **times):
    generator = torch.Generator().manual_seed(0)
    latents = {b: torch.randn(batch, 4, 8, 8, generator=generator) for b in branches}
    t = {b: times.get(b, 0.5) for b in branches}
    return State(latents, t, tiny.backbone.schedule, Generators(range(batch), branches))


def denoiser_of(tiny, branches=("image", "depth"), **options):
    prompts = {
        name: {b: tiny.backbone.encode_prompts([f"{name} {b}"]) for b in branches}
        for name in ("positive", "negative")
    }
    pairings = [Pairing(b, "image", b, **options) for b in branches[1:]]
    return NetworkDenoiser(tiny.backbone.network, prompts, pairings)


@pytest.fixture
def calls(tiny):
    """How many rows each network call had."""
    counts = []
    hook = tiny.backbone.network.register_forward_pre_hook(
        lambda _, arguments: counts.append(len(arguments[0]))
    )
    yield counts
    hook.remove()


def adapters_of(tiny, *names):
    return {name: tiny.adapters[name].adapter for name in names}


@torch.no_grad()
def test_one_call_and_no_variant_twice(tiny, calls):
    """Guidance of text, conditions and shapes asks for four distinct variants of two branches."""
    denoiser = denoiser_of(tiny)
    move = Move({"image": 0.5, "depth": 0.5}, {"image": 0.4, "depth": 0.5})
    guided = denoiser
    for mechanism in (ClassifierFree(3.0), PerturbedAttention(1.0), ConditionGuidance(1.0)):
        guided = mechanism.wrap(guided, move)
    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        guided(state_of(tiny))
    assert calls == [4 * 2 * 2]


@torch.no_grad()
def test_a_batch_of_variants_is_each_alone(tiny):
    denoiser, state = denoiser_of(tiny), state_of(tiny, depth=0.2)
    variants = [Variant(), Variant("negative"), Variant(joint=False)]
    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        together = denoiser(state, variants)
        alone = [denoiser(state, [variant])[0] for variant in variants]
    for one, other in zip(together, alone, strict=True):
        for branch in ("image", "depth"):
            assert torch.allclose(one[branch].x0, other[branch].x0, atol=1e-4)


@torch.no_grad()
def test_a_deaf_branch_depends_on_nothing_else(tiny):
    denoiser = denoiser_of(tiny, deaf=frozenset({"depth"}))
    first = state_of(tiny, depth=0.0)
    changed = first.at({**first.latents, "image": first.latents["image"] + 1}, first.t)
    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        one, two = denoiser(first)[0], denoiser(changed)[0]
    assert torch.equal(one["depth"].eps, two["depth"].eps)
    moved = first.at({**first.latents, "depth": first.latents["depth"] + 1}, first.t)
    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        three = denoiser(moved)[0]
    assert not torch.allclose(one["image"].eps, three["image"].eps, atol=1e-3)


@torch.no_grad()
def test_several_adapters_each_with_its_own_pairs(tiny):
    """Weights 0 for one adapter leave the other alone; the image row sums both (formula (8))."""
    branches = ("image", "depth", "id")
    state = state_of(tiny, branches)
    prompts = denoiser_of(tiny, branches).prompts

    def image(*pairings):
        denoiser = NetworkDenoiser(tiny.backbone.network, prompts, pairings)
        with attached(tiny.backbone.network, adapters_of(tiny, "depth", "id")):
            return denoiser(state)[0]["image"].eps

    both = image(Pairing("depth", "image", "depth"), Pairing("id", "image", "id"))
    one = image(Pairing("depth", "image", "depth"), Pairing("id", "image", "id", 0.0, 0.0))
    only = image(Pairing("depth", "image", "depth"))
    assert torch.allclose(one, only, atol=1e-5)
    assert not torch.allclose(both, only, atol=1e-3)


@torch.no_grad()
def test_a_joint_scale_of_zero_is_the_mechanism_absent(tiny, calls):
    state = state_of(tiny, ("image", "depth"))
    denoiser = denoiser_of(tiny)
    off = NetworkDenoiser(denoiser.network, denoiser.prompts, denoiser.pairings, joint_scale=0.0)
    plain = NetworkDenoiser(denoiser.network, denoiser.prompts)
    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        assert torch.equal(off(state)[0]["image"].eps, plain(state)[0]["image"].eps)


def test_failures_say_where(tiny):
    denoiser = denoiser_of(tiny)
    state = state_of(tiny)
    wrong = state.at({b: x[:, :3] for b, x in state.latents.items()}, state.t)
    with pytest.raises(RuntimeError) as caught, torch.no_grad():
        NetworkDenoiser(denoiser.network, denoiser.prompts)(wrong)
    assert "latents (4, 3, 8, 8)" in caught.value.__notes__[0]
    assert current() is None


def test_unknown_prompts_are_named(tiny):
    with pytest.raises(ValueError, match="no prompt 'style' for branch 'image'"):
        denoiser_of(tiny)(state_of(tiny), [Variant("style")])


def test_rows_are_restored():
    outer, inner = Rows((Variant(),), ("image",), 1), Rows((Variant(),), ("image", "depth"), 2)
    with outer.active():
        with inner.active():
            assert current() is inner
        assert current() is outer
    assert current() is None
    assert inner.of("depth") == slice(2, 4)
    assert len(inner) == 4
