"""Blending through the public call, on a tiny network: prompts of mechanisms are encoded."""

from dataclasses import replace

import pytest
import torch

from unicond.calls.companions import companion
from unicond.denoisers.network import NetworkDenoiser
from unicond.mechanisms.blending.composable import Composable
from unicond.mechanisms.blending.magic_fusion import MagicFusion
from unicond.mechanisms.blending.multidiffusion import Panorama, Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.blending.regions import Region
from unicond.mechanisms.blending.semantic import Edit, SemanticGuidance
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import State
from unicond.sampling.window import ALWAYS, Window

LEFT = [Region(prompt="the cat", box=(0.0, 0.0, 0.5, 1.0))]
MECHANISMS = {
    "composable": Composable(concepts={"the cat": 3.0}),
    "semantic": SemanticGuidance(edits=[Edit(prompt="the cat", window=ALWAYS)]),
    "collage": NoiseCollage(objects=LEFT),
    "regions": Regions(regions=LEFT, bootstrap=Window.steps(0, 1)),
    "panorama": Panorama(window=(8, 4), stride=(8, 2)),
}


@pytest.fixture(scope="module")
def depth():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", MECHANISMS)
def test_it_works_under_a_given_depth_and_alike_in_every_batch(tiny, depth, name):
    settings = {"depth": depth, "branches": ["image"], "num_inference_steps": 2}
    plain = tiny("a dog", seed=5, **settings)
    out = tiny(["a dog", "a dog"], seed=[5, 6], mechanisms=[MECHANISMS[name]], **settings)
    alone = tiny("a dog", seed=5, mechanisms=[MECHANISMS[name]], **settings)
    spread = plain.latents["image"].std()
    assert (out.latents["image"][0] - alone.latents["image"][0]).abs().max() < 1e-4 * spread
    assert (alone.latents["image"] - plain.latents["image"]).abs().max() > 1e-2 * spread
    assert torch.equal(alone.pictures["depth"][0], depth)
    assert alone.record.mechanisms == (type(MECHANISMS[name]).__name__,)


def test_a_concept_is_the_same_as_the_runs_own_prompt(tiny):
    """`p_u + g (p_cat - p_u)` from an empty prompt and a concept, or from the prompt itself."""
    settings = {"seed": 3, "branches": ["image"], "num_inference_steps": 2}
    direct = tiny("the cat", guidance_scale=4.0, **settings)
    concept = Composable(concepts={"the cat": 4.0})
    composed = tiny("", guidance_scale=0.0, mechanisms=[concept], **settings)
    error = (direct.latents["image"] - composed.latents["image"]).abs().max()
    assert error < 1e-4 * direct.latents["image"].std()


def test_a_panorama_under_a_wide_depth(tiny):
    wide = torch.linspace(-1, 1, 160).expand(3, 64, 160).clone()
    settings = {"size": (64, 160), "mechanisms": [Panorama(window=8)]}
    out = tiny("a dog", depth=wide, branches=["image"], **settings)
    assert out.pictures["image"].shape == (1, 3, 64, 160)
    assert torch.equal(out.pictures["depth"][0], wide)
    both = tiny("a dog", branches=["image", "depth"], **settings)
    assert both.latents["depth"].shape == both.latents["image"].shape
    assert both.latents["image"].isfinite().all()


def network_of(model, target, source):
    """What the public call makes, of one branch and two prompts."""
    encode = model.backbone.encode_prompts
    prompts = {"positive": target, "negative": "", source: source}
    table = {name: {"image": encode([text])} for name, text in prompts.items()}
    return NetworkDenoiser(model.backbone.network, table)


def test_a_second_network_paints_a_part(tiny):
    """A network fused with itself is itself; with another prompt, pixels come from both."""
    settings = {"seed": 3, "branches": ["image"], "num_inference_steps": 2, "guidance_scale": 2.0}
    plain = tiny("a dog", **settings).latents["image"]
    same = MagicFusion(other=companion(tiny, tiny, "a dog"), guidance_scale=2.0)
    again = tiny("a dog", mechanisms=[same], **settings).latents["image"]
    assert (again - plain).abs().max() < 1e-4 * plain.std()
    cat = MagicFusion(other=companion(tiny, tiny, "the cat"), guidance_scale=2.0)
    fused = tiny("a dog", mechanisms=[cat], **settings).latents["image"]
    assert (fused - plain).abs().max() > 1e-2 * plain.std()


def test_a_second_model_of_another_diffusion_is_refused(tiny):
    backbone = tiny.backbone
    powers = tuple(power**2 for power in backbone.schedule.alphas_cumprod)
    schedule = replace(backbone.schedule, alphas_cumprod=powers)
    with pytest.raises(ValueError, match="share the noise schedule, but at t="):
        companion(tiny, replace(tiny, backbone=replace(backbone, schedule=schedule)), "a dog")


@torch.no_grad()
def test_diffedit_keeps_what_the_prompts_agree_on(tiny):
    backbone = tiny.backbone
    clean = torch.randn(
        2, *backbone.latent_shape((64, 64)), generator=torch.Generator().manual_seed(1)
    )
    edit = DiffEdit(source="a dog", samples=2, strength=0.5)
    plan = edit.plan(backbone.schedule.times(6), {"image": 0.0})
    state = State({"image": clean}, {"image": 0.0}, backbone.schedule, Generators([1, 2]))
    for progress in run(state, network_of(tiny, "the cat", "a dog"), plan, DDIM(), [edit]):
        state = progress.state
    mask = state.memory["diffedit"].mask.expand_as(clean) > 0
    assert 0 < mask.double().mean() < 1
    assert torch.equal(state.latents["image"][~mask], clean[~mask])
    assert not torch.allclose(state.latents["image"][mask], clean[mask], atol=1e-2)
