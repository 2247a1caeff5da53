"""Words do not change while a network runs: each layer makes their keys and values once."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from test_network import adapters_of, denoiser_of, state_of

from unicond.adapters.attach import attached
from unicond.adapters.network import attention_layers, is_joint
from unicond.sampling.prompts import reword
from unicond.sampling.rows import Variant

PICTURE = Image.linear_gradient("L").resize((64, 64))
STEPS = 4


@pytest.fixture
def made(tiny):
    """{layer: how often its keys of words were made}."""
    layers = attention_layers(tiny.backbone.network)
    counts, hooks = {name: 0 for name in layers if not is_joint(name)}, []
    for name in counts:

        def count(*_, name=name):
            counts[name] += 1

        hooks.append(layers[name].to_k.register_forward_hook(count))
    yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("options", "layouts"),
    [
        ({"branches": ["image"]}, 1),
        ({"branches": ["image", "depth"]}, 1),
        ({}, 1),
        ({"branches": ["image", "id"]}, 1),  # loose: no y-LoRA acts on words
        ({"depth": PICTURE, "branches": ["image"], "held": "two_way"}, 1),
        ({"depth": PICTURE, "branches": ["image"], "held": "one_way"}, 2),  # with and without it
    ],
)
def test_keys_of_words_are_made_once_a_run(tiny, made, options, layouts):
    tiny("a ball", num_inference_steps=STEPS, guidance_scale=2.0, **options)
    assert set(made.values()) == {layouts}


@torch.no_grad()
@pytest.mark.parametrize("names", [("image",), ("image", "depth"), ("image", "id"), None])
def test_what_is_remembered_gives_the_same_bits(tiny, names):
    """Every later call is that of a denoiser which has seen none before."""
    names = names or ("image", "depth", "id")
    denoiser, state = denoiser_of(tiny, names), state_of(tiny, names)
    variants = [Variant(), Variant("negative", joint=0.5)]
    with attached(tiny.backbone.network, adapters_of(tiny, *names[1:])):
        denoiser(state, variants)
        denoiser(state)  # fewer variants have words of their own
        for t in (0.6, 0.3):
            later = state.at(state.latents, dict.fromkeys(names, t))
            found = denoiser(later, variants)
            fresh = replace(denoiser)(later, variants)
            for one, other in zip(found, fresh, strict=True):
                assert all(torch.equal(one[name].eps, other[name].eps) for name in names)


@torch.no_grad()
def test_other_words_are_heard(tiny):
    """Of a state that is reworded, and after it again those of the run."""
    names = ("image", "depth")
    denoiser, state = denoiser_of(tiny, names), state_of(tiny, names)

    def louder(prompts):
        changed = {b: replace(p, tokens=2 * p.tokens) for b, p in prompts["positive"].items()}
        return {**prompts, "positive": changed}

    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        first = denoiser(state)[0]["image"].eps
        other = denoiser(reword(state, louder))[0]["image"].eps
        assert torch.equal(replace(denoiser)(reword(state, louder))[0]["image"].eps, other)
        assert torch.equal(denoiser(state)[0]["image"].eps, first)
    assert (first - other).abs().max() > 1e-3


def test_gradients_lead_through_every_call(tiny):
    """What is remembered holds no graph: y-LoRA's parameters learn from each call."""
    names, adapter = ("image", "depth"), tiny.adapters["depth"].adapter
    denoiser, state = denoiser_of(tiny, names), state_of(tiny, names)
    name = next(n for n, _ in adapter.named_parameters() if "attn2.y.to_k.B" in n)
    parameter = adapter.get_parameter(name).requires_grad_(True)
    try:
        grads = []
        with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
            for _ in range(2):
                loss = denoiser(state)[0]["depth"].eps.square().sum()
                grads.append(torch.autograd.grad(loss, parameter)[0])
    finally:
        parameter.requires_grad_(False)
    assert grads[0].abs().max() > 0
    assert torch.equal(*grads)
