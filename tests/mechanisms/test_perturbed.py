"""Perturbed-attention guidance: the formula by hand, and what of a run it leaves alone."""

import pytest
import torch

from unicond.adapters.attach import attached
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.mechanisms.blending.perturbed import PerturbedAttention
from unicond.sampling.noise import Generators
from unicond.sampling.state import Move, State

LAYERS = ("mid_block", "up_blocks.1")


class Values:
    """Self-attention in which each place gets its own value."""

    def __call__(self, attn, hidden_states, *_others, **_named):
        return attn.to_out[1](attn.to_out[0](attn.to_v(hidden_states)))


def image(model, **settings):
    usual = {"branches": ["image"], "guidance_scale": 1.0, "num_inference_steps": 1}
    return model("a dog", seed=3, **(usual | settings)).latents["image"]


def test_the_formula_by_hand(tiny, monkeypatch):
    """For one move: what is reached is linear in the prediction that is blended."""
    network = tiny.backbone.network
    whole = image(tiny)
    found = image(tiny, mechanisms=[PerturbedAttention(1.5, layers=LAYERS)])
    for name, layer in network.named_modules():
        if name.startswith(LAYERS) and name.endswith("attn1"):
            monkeypatch.setattr(layer, "processor", Values())
    perturbed = image(tiny)
    assert not torch.allclose(whole, perturbed, atol=1e-3)
    assert torch.allclose(found, whole + 1.5 * (whole - perturbed), atol=1e-4)


def test_it_is_a_setting_of_the_base(tiny):
    asked = image(tiny, perturbed_guidance=1.5)
    assert torch.equal(asked, image(tiny, mechanisms=[PerturbedAttention(1.5)]))
    assert torch.equal(image(tiny, perturbed_guidance=0.0), image(tiny))
    with pytest.raises(ValueError, match="needs layers"):
        PerturbedAttention(1.0, layers=())


@torch.no_grad()
def test_what_is_held_is_not_perturbed(tiny):
    prompt = {b: tiny.backbone.encode_prompts(["a dog"], (64, 64)) for b in ("image", "depth")}
    pairing = Pairing("depth", "image", "depth", deaf=frozenset({"depth"}))
    denoiser = NetworkDenoiser(tiny.backbone.network, {"positive": prompt}, [pairing])
    generator = torch.Generator().manual_seed(0)
    latents = {b: torch.randn(1, 4, 8, 8, generator=generator) for b in ("image", "depth")}
    state = State(
        latents,
        {"image": 0.6, "depth": 0.0},
        tiny.backbone.schedule,
        Generators([0], ("image", "depth")),
    )
    move = Move(state.t, {"image": 0.5, "depth": 0.0})
    seen = []

    def spied(state, variants):
        seen.append((variants, found := denoiser(state, variants)))
        return found

    with attached(tiny.backbone.network, {"depth": tiny.adapters["depth"].adapter}):
        PerturbedAttention(1.0, layers=LAYERS).wrap(spied, move)(state)
    ((variants, found),) = seen
    assert [variant.perturbed for variant in variants] == [False, False, True]
    assert torch.allclose(found[2]["depth"].x0, found[0]["depth"].x0, atol=1e-5)
    assert not torch.allclose(found[2]["image"].x0, found[0]["image"].x0, atol=1e-3)
