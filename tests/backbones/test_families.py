"""Each family against diffusers' own pipeline of it, as a folder."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_bases import FAMILIES, change, save

import unicond
from unicond.sampling.noise import Generators

SIZE = (64, 96)
"""Not square: height and width differ in the latents and in XL's sizes."""


def pipeline_of(kind, folder):
    """The family's pipeline; it ends clean, as our plans do."""
    pipeline = StableDiffusionXLPipeline if kind == "xl" else StableDiffusionPipeline
    found = pipeline.from_pretrained(folder)
    found.scheduler = DDIMScheduler.from_config(found.scheduler.config, set_alpha_to_one=True)
    found.set_progress_bar_config(disable=True)
    return found


def diffusers_latents(kind, folder, seed=3, **options):
    """What diffusers makes of our start noise."""
    like = torch.zeros(1, 4, SIZE[0] // 8, SIZE[1] // 8)
    return pipeline_of(kind, folder)(
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=3,
        latents=Generators([seed], ["image"]).draw("image", like),
        output_type="latent",
        **options,
    ).images


def ours(model, seed=3, **options):
    out = model(seed=seed, size=SIZE, num_inference_steps=3, **options)
    return out.latents["image"]


@pytest.mark.parametrize("kind", FAMILIES)
def test_text_to_image_is_diffusers(kind, bases, models):
    told = {"prompt": "a red ball", "negative_prompt": "grey fog", "guidance_scale": 4.0}
    want = diffusers_latents(kind, bases[kind], **told)
    found = ours(models[kind], **told)
    assert (found - want).abs().max() < 1e-4, f"{(found - want).abs().max():.1e}"
    # the words reach the network by every way that there is
    assert (ours(models[kind], **(told | {"prompt": "two"})) - want).abs().max() > 1e-2
    assert (ours(models[kind], **(told | {"negative_prompt": ""})) - want).abs().max() > 1e-2


@pytest.mark.parametrize("kind", FAMILIES)
def test_pictures_are_diffusers(kind, bases, models):
    pipeline, backbone = pipeline_of(kind, bases[kind]), models[kind].backbone
    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    assert torch.allclose(backbone.decode(latents), want, atol=1e-5)
    assert backbone.family == FAMILIES[kind]
    assert (backbone.sample_size, backbone.multiple) == (64, 16)


@pytest.mark.parametrize("zeros", [True, False])
def test_both_conventions_of_an_empty_negative_prompt(zeros, bases, tmp_path):
    """diffusers' None is zeros or the empty text, as the base says; its "" is always the text."""
    folder = save("xl", tmp_path / "xl")
    change(folder, "model_index.json", force_zeros_for_empty_prompt=zeros)
    model, told = unicond.load(folder), {"prompt": "a dog", "guidance_scale": 4.0}
    nothing = diffusers_latents("xl", folder, negative_prompt=None, **told)
    text = diffusers_latents("xl", folder, negative_prompt="", **told)
    assert ((nothing - text).abs().max() > 1e-2) == zeros
    assert (ours(model, negative_prompt="", **told) - nothing).abs().max() < 1e-4
    assert (ours(model, negative_prompt=" ", **told) - text).abs().max() < 1e-4


def test_xl_is_told_the_size(models):
    backbone = models["xl"].backbone
    told = backbone.encode_prompts(["a", "b"], (64, 96))
    assert told.time_ids.tolist() == [[64, 96, 0, 0, 64, 96]] * 2
    assert backbone.encode_prompts(["a"]).time_ids.tolist() == [[64, 64, 0, 0, 64, 64]]
    assert (told.tokens.shape, told.pooled.shape) == ((2, 77, 80), (2, 24))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sample_does_not_depend_on_its_batch(kind, models):
    """Each row is fed its own tokens and its own added conditions."""
    prompts, model = ["a red ball", "grey fog in the night"], models[kind]
    both = ours(model, seed=[3, 4], prompt=prompts)
    for row, (seed, prompt) in enumerate(zip([3, 4], prompts, strict=True)):
        alone = ours(model, seed=seed, prompt=prompt)
        assert (both[row] - alone[0]).abs().max() < 1e-4


def test_defaults_are_the_familys(models):
    scales = {kind: model.backbone.defaults.guidance_scale for kind, model in models.items()}
    assert scales == {"one": 7.5, "two": 7.5, "xl": 5.0}


@pytest.mark.parametrize("kind", FAMILIES)
def test_attention_is_not_sliced(kind, models):
    kinds = {type(one).__name__ for one in models[kind].backbone.network.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"}
