"""What a network with an image prompt adapter computes, of whose rows, and that nothing is left."""

import copy
from contextlib import nullcontext

import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from peft import LoraConfig
from tiny_prompts import WORDS, adapter_of, embeds_of, move, network, rows

from unicond.adapters.attach import attached as joined
from unicond.adapters.config import JointConfig
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.attach import Attachment as Grounding
from unicond.adapters.grounding.inputs import Boxes
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.attach import Attachment
from unicond.adapters.joint import JointAdapter
from unicond.adapters.recompute import recomputed
from unicond.denoisers.controlled import controlled
from unicond.sampling.controls import Recorder, acting
from unicond.sampling.rows import Pairs, Rows, Variant
from unicond.sampling.window import Window


@pytest.fixture
def unet():
    return network()


@pytest.fixture
def adapter(unet):
    return adapter_of(unet)


def inputs(count, first=0):
    """Random, and always the same for a row."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(12, 4, 8, 8, generator=generator)
    prompts = torch.randn(12, 7, WORDS, generator=generator)
    return sample[first : first + count], prompts[first : first + count]


def call(unet, count, first=0, grad=False):
    sample, prompts = inputs(count, first)
    with nullcontext() if grad else torch.no_grad():
        return unet(sample, 500, prompts).sample


def published(adapter):
    """The two dictionaries of a published file."""
    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, value in adapter.state_dict().items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    return parts


def by_diffusers(unet, adapters, embeds, count, scale):
    """The same rows through diffusers' own loader and processors."""
    theirs = copy.deepcopy(unet)
    theirs._load_ip_adapter_weights([published(one) for one in adapters])
    for processor in theirs.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            processor.scale = [scale] * len(adapters)
    sample, prompts = inputs(count)
    with torch.no_grad():
        return theirs(sample, 500, prompts, added_cond_kwargs={"image_embeds": embeds}).sample


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_numbers_are_diffusers(unet, adapter, pictures, scale):
    """Two samples, each with a row of the empty embedding: as its pipelines lay them out."""
    embeds = embeds_of(2, pictures)
    plain = call(unet, 4)
    wanted = by_diffusers(
        unet, [adapter], [torch.cat([torch.zeros_like(embeds), embeds])], 4, scale
    )
    with Attachment(unet, adapter, embeds, scale=scale).active(), rows(2).active():
        found = call(unet, 4)
    assert float((wanted - plain).abs().max()) > 0.02
    assert float((found - wanted).abs().max()) < 1e-5  # float32, other order of sums


def test_two_adapters_are_diffusers_two(unet, adapter):
    other, embeds = adapter_of(unet, seed=5, tokens=2), embeds_of(2, 1)
    wanted = by_diffusers(
        unet, [adapter, adapter_of(unet, 5)], [embeds, embeds_of(2, 2, seed=7)], 2, 0.8
    )
    layout = Rows((Variant(),), ("image",), 2)
    with (
        Attachment(unet, adapter, embeds, scale=0.8).active(),
        Attachment(unet, adapter_of(unet, 5), embeds_of(2, 2, seed=7), scale=0.8).active(),
        layout.active(),
    ):
        found = call(unet, 2)
    assert float((found - wanted).abs().max()) < 1e-5  # float32, other order of sums
    assert other.tokens(embeds).shape == (3, 2, WORDS)


def test_off_is_absent(unet, adapter):
    plain = call(unet, 4)
    before = dict(unet.attn_processors)
    with Attachment(unet, adapter, embeds_of(2), scale=0.0).active(), rows(2).active():
        assert unet.attn_processors == before
        assert torch.equal(call(unet, 4), plain)


def test_only_the_branchs_rows_hear(unet, adapter):
    plain = call(unet, 8)
    for branch, wanted in (
        ("image", [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2),
        ("depth", [False] * 2 + [True] * 2 + [False] * 2 + [True] * 2),
        ("edge", [False] * 8),
    ):
        with (
            Attachment(unet, adapter, embeds_of(2), branch=branch).active(),
            rows(2, ("image", "depth")).active(),
        ):
            found = call(unet, 8)
        changed = [not torch.equal(one, other) for one, other in zip(found, plain, strict=True)]
        assert changed == wanted, branch


def test_named_prompts_hear_the_empty_embedding(unet, adapter):
    embeds = embeds_of()
    found = {}
    for without in ((), ("negative",), ("negative", "positive")):
        with Attachment(unet, adapter, embeds, without=without).active(), rows().active():
            found[len(without)] = call(unet, 2)
    empty = Attachment(unet, adapter, torch.zeros_like(embeds), without=()).active()
    with empty, rows().active():
        wanted = call(unet, 2)
    torch.testing.assert_close(found[2], wanted)
    torch.testing.assert_close(found[1][0], wanted[0])
    torch.testing.assert_close(found[1][1], found[0][1])
    assert not torch.allclose(found[0][0], wanted[0], atol=1e-3)


def test_samples_do_not_know_each_other(unet, adapter):
    embeds = embeds_of(3, 2)
    with Attachment(unet, adapter, embeds).active(), Rows((Variant(),), ("image",), 3).active():
        together = call(unet, 3)
    for sample in range(3):
        with Attachment(unet, adapter, embeds[sample : sample + 1]).active():
            alone = call(unet, 1, first=sample)
        torch.testing.assert_close(together[sample], alone[0], rtol=1e-4, atol=1e-5)


def test_pictures_of_one_sample_are_for_all(unet, adapter):
    one = embeds_of()
    layout = Rows((Variant(),), ("image",), 3)
    with Attachment(unet, adapter, one).active(), layout.active():
        found = call(unet, 3)
    with Attachment(unet, adapter, one.expand(3, -1, -1)).active(), layout.active():
        torch.testing.assert_close(call(unet, 3), found)
    with Attachment(unet, adapter, embeds_of(2)).active(), layout.active():
        with pytest.raises(ValueError, match="is of 2 samples, but the run has 3"):
            call(unet, 3)
        with pytest.raises(ValueError, match="the batch has 2 rows, but the current `Rows` has 3"):
            call(unet, 2)


def test_windows(unet, adapter):
    plain = call(unet, 1)
    with Attachment(unet, adapter, embeds_of(), window=Window.steps(1, 3)).active():
        assert not torch.equal(call(unet, 1), plain)
        for number in range(5):
            with move(number).active():
                off = torch.equal(call(unet, 1), plain)
            assert off == (number not in (1, 2)), number


def test_it_leaves_nothing_behind_even_after_an_exception(unet, adapter):
    plain, processors = call(unet, 2), dict(unet.attn_processors)
    weights = {key: value.clone() for key, value in unet.state_dict().items()}

    def stop():
        with Attachment(unet, adapter, embeds_of()).active(), rows().active():
            call(unet, 2)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        stop()
    with pytest.raises(RuntimeError), Attachment(unet, adapter, embeds_of()).active():
        unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, WORDS + 1))
    assert unet.attn_processors == processors
    assert all(torch.equal(value, weights[key]) for key, value in unet.state_dict().items())
    assert torch.equal(call(unet, 2), plain)


# ---- beside others


def paired():
    """Two variants of an image and its depth, which look at each other."""
    x, y = torch.tensor([0, 2]), torch.tensor([1, 3])
    one, yes = torch.ones(2), torch.tensor([True, True])
    return rows(1, ("image", "depth"), pairs={"depth": Pairs(x, y, one, one, yes, yes)})


def test_beside_a_joint_adapter(unet, adapter):
    """With y-LoRA and joint attention around: diffusers' pictures are heard by the image's rows."""
    config = JointConfig(rank=2, y_rank=2)
    joint = JointAdapter.for_network(unet, config, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for value in joint.parameters():
            value.normal_(0, 0.2, generator=torch.Generator().manual_seed(2))
    with joined(unet, {"depth": joint}), paired().active():
        plain = call(unet, 4)
        with Attachment(unet, adapter, embeds_of()).active():
            found = call(unet, 4)
        with Attachment(unet, adapter, embeds_of(), scale=0.0).active():
            assert torch.equal(call(unet, 4), plain)
        assert torch.equal(call(unet, 4), plain)
    assert all(not torch.equal(one, other) for one, other in zip(found, plain, strict=True))


def test_beside_a_grounding_adapter(unet, adapter):
    fuser = GroundingAdapter.for_network(unet, "gligen")
    with torch.no_grad():
        for name, value in fuser.named_parameters():
            if "alpha" in name:
                value.fill_(0.7)
    boxes = Boxes(
        masks=torch.ones(1, 1),
        boxes=torch.tensor([[[0.1, 0.1, 0.6, 0.6]]]),
        phrases=torch.randn(1, 1, WORDS, generator=torch.Generator().manual_seed(0)),
    )
    with torch.no_grad():
        with (
            Grounding(unet, fuser, boxes).active(),
            Attachment(unet, adapter, embeds_of()).active(),
        ):
            one = call(unet, 1)
        with (
            Attachment(unet, adapter, embeds_of()).active(),
            Grounding(unet, fuser, boxes).active(),
        ):
            torch.testing.assert_close(call(unet, 1), one)
        with Grounding(unet, fuser, boxes).active():
            assert not torch.allclose(call(unet, 1), one, atol=1e-3)


def test_a_users_lora_counts(unet, adapter):
    """Around query and output projection; merged into them, the numbers are the same."""
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_out.0"]))
    embeds = embeds_of()
    with Attachment(unet, adapter, embeds).active(), rows().active():
        found = call(unet, 2)
    unet.fuse_lora()
    with Attachment(unet, adapter, embeds).active(), rows().active():
        merged = call(unet, 2)
    torch.testing.assert_close(found, merged, rtol=1e-4, atol=1e-5)


def test_controls_see_the_attention_to_words(unet, adapter):
    with Attachment(unet, adapter, embeds_of()).active(), rows().active():
        free = call(unet, 2)
        recorder = Recorder("image", where=lambda layer: layer.kind == "cross")
        with acting(recorder), controlled(unet):
            watched = call(unet, 2)
    assert torch.equal(watched, free)
    assert {maps.shape[-1] for maps in recorder.found.values()} == {7}
    assert len(recorder.found) == len(adapter.inner)


def test_gradients_reach_the_adapter_alone(unet, adapter):
    """With gradient checkpoints, too; and those of the embeddings."""
    found = []
    for context in (nullcontext(), recomputed(unet)):
        adapter.requires_grad_(True).zero_grad()
        embeds = embeds_of().requires_grad_(True)
        with context, Attachment(unet, adapter, embeds).active(), rows().active():
            output = call(unet, 2, grad=True)
        output.square().mean().backward()
        found.append([embeds.grad, *(value.grad for value in adapter.parameters())])
    for one, other in zip(*found, strict=True):
        assert float(one.abs().max()) > 0
        torch.testing.assert_close(one, other)
    assert all(value.grad is None for value in unet.parameters())


def test_half_precision(unet, adapter):
    with Attachment(unet, adapter, embeds_of()).active(), rows().active():
        wanted = call(unet, 2)
    unet.to(torch.bfloat16)
    sample, prompts = (values.bfloat16() for values in inputs(2))
    for one in (adapter, adapter.to(torch.bfloat16)):
        with Attachment(unet, one, embeds_of()).active(), rows().active(), torch.no_grad():
            found = unet(sample, 500, prompts).sample
        assert found.dtype == torch.bfloat16
        assert float((found.float() - wanted).abs().mean()) < 0.05  # bf16 has 8 bits


# ---- what does not fit


def refuses(message, unet, adapter, embeds):
    before = dict(unet.attn_processors)
    with pytest.raises(ValueError, match=message), Attachment(unet, adapter, embeds).active():
        pass
    assert unet.attn_processors == before


def test_what_does_not_fit_is_refused(unet, adapter):
    refuses(r"shape \(1, 12\); give \(samples, pictures, 12\)", unet, adapter, embeds_of()[0])
    refuses(r"shape \(1, 1, 11\)", unet, adapter, embeds_of()[..., 1:])
    refuses(r"shape \(0, 1, 12\)", unet, adapter, embeds_of()[:0])
    less = ImagePromptAdapter(adapter.config, adapter.inner[1:])
    refuses(r"\(unknown\): it has 3 layers, but this UNet2DCond.* has 4", unet, less, embeds_of())
    other = ImagePromptAdapter(adapter.config, (16, 16, 16, 40))
    refuses(r"at mid_block.*words of width 16 and keys of width 40, .*16 and 32", unet, other,
            embeds_of())  # fmt: skip
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    layer.set_processor(IPAdapterAttnProcessor2_0(32, WORDS))
    refuses("mid_block.*IPAdapterAttnProcessor2_0, around which an image prompt adapter cannot",
            unet, adapter, embeds_of())  # fmt: skip
    assert not any("ImagePrompt" in type(one).__name__ for one in unet.attn_processors.values())
