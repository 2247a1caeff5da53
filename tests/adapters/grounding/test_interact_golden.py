"""GLIGEN and InteractDiffusion against the published networks' numbers and diffusers' classes."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from golden_grounding import (
    TIMESTEP,
    close,
    gligen,
    interact,
    interactions,
    meta,
    network,
    only,
    part,
    rows,
    some_boxes,
    tensors,
)
from torch import nn

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.attach import Attachment, until_share
from unicond.adapters.grounding.boxes import between, waves
from unicond.adapters.grounding.config import GroundingConfig
from unicond.sampling.window import Window

IO = "interact/io.safetensors"


@pytest.fixture(scope="module")
def unet():
    return network("interact")


@pytest.fixture(scope="module")
def adapter():
    return interact()


@pytest.fixture
def call(unet):
    io = tensors(IO)

    def run(sample=io["unet/sample"], context=io["unet/context"]):
        with torch.no_grad():
            return unet(sample, TIMESTEP, context).sample

    return run


def test_boxes_between_and_their_waves():
    io = tensors(IO)
    close(between(io["between/a"], io["between/b"]), IO, "between/out")
    close(between(io["in/subject_boxes"], io["in/object_boxes"]), IO, "posnet/between_boxes")
    close(waves(io["in/subject_boxes"]), IO, "posnet/fourier_subject")


def test_position_net(adapter):
    with torch.no_grad():
        tokens = adapter.tokens(interactions())
    close(tokens[:2], IO, "posnet/objs")
    assert torch.equal(tokens[2], tokens[0])  # the row without is nothing


def test_interactions_are_filled_up_with_nothings(adapter):
    given = interactions()
    short = type(given)(**{key: value[:, :2] for key, value in given.tensors().items()})
    with torch.no_grad():
        close(adapter.tokens(short)[:2], IO, "posnet/objs")


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("unet/out_t901", {}),
        ("unet/out_t901_masks0", {"masks": torch.zeros(2, 30)}),
    ],
)
def test_network(key, given, unet, adapter, call):
    inputs = interactions()
    inputs = type(inputs)(**{**inputs.tensors(), **given})
    with Attachment(unet, adapter, inputs).active():
        close(call(), IO, key)


def test_rows_tell_which_prompt_gets_nothing(unet, adapter, call):
    with Attachment(unet, adapter, only(interactions(), 1)).active(), rows().active():
        close(call(), IO, "unet/out_t901")


def test_without_it_is_the_plain_network(unet, adapter, call):
    close(call(), IO, "unet/out_t901_no_gligen")
    before = call()
    with Attachment(unet, adapter, interactions(), scale=0.0).active():
        assert torch.equal(call(), before)


@pytest.mark.parametrize("key", ["block/out", "block/out_fuser_disabled", "block/out_no_gligen"])
def test_block(key):
    io, weights = tensors(IO), tensors("interact/block_w_fp16.safetensors")
    block = BasicTransformerBlock(64, 8, 8, cross_attention_dim=32)
    block.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fuser.")})
    around = nn.Module()
    around.block = block.requires_grad_(False)
    fuser = {f"block.fuser.{k}": v for k, v in part(weights, "fuser.").items()}
    net = {k: v for k, v in interact().state_dict().items() if k.startswith("position_net.")}
    config = GroundingConfig(method="interact", text=32, tokens=32)
    adapter = GroundingAdapter.from_tensors(config, fuser | net, "golden").requires_grad_(False)
    off = key != "block/out"
    with Attachment(around, adapter, interactions(), scale=0.0 if off else 1.0).active():
        close(block(io["block/x"], encoder_hidden_states=io["block/context"]), IO, key)


def test_fuser_alone():
    """Parity: diffusers' class; `fuse` is its forward, with a scale."""
    from diffusers.models.attention import GatedSelfAttentionDense

    from unicond.adapters.grounding.fuser import fuse

    io = tensors(IO)
    fuser = GatedSelfAttentionDense(64, 32, 8, 8)
    fuser.load_state_dict(part(tensors("interact/block_w_fp16.safetensors"), "fuser."))
    with torch.no_grad():
        found = fuse(fuser, io["block/x"], io["posnet/objs"])
        close(found, IO, "block/fuser_only")
        assert torch.equal(found, fuser(io["block/x"], io["posnet/objs"]))
        assert torch.equal(fuse(fuser, io["block/x"], io["posnet/objs"], 0.0), io["block/x"])


def test_gligen_is_diffusers_own():
    """The same weights in diffusers' gated network give the same numbers."""
    unet = network("interact")
    config = {k: v for k, v in meta("interact")["unet_config"].items() if not k.startswith("_")}
    gated = UNet2DConditionModel(**{**config, "attention_type": "gated"}).eval()
    adapter, inputs = gligen(unet), some_boxes(2)
    gated.load_state_dict(unet.state_dict() | adapter.state_dict())
    io = tensors(IO)
    filled = inputs.filled(30)
    theirs = {
        "boxes": filled.boxes,
        "masks": filled.masks,
        "positive_embeddings": filled.phrases,
    }
    sample, context = io["unet/sample"], io["unet/context"]
    with torch.no_grad():
        kwargs = {"gligen": theirs}
        wanted = gated(sample, TIMESTEP, context, cross_attention_kwargs=kwargs).sample
        plain = unet(sample, TIMESTEP, context).sample
        with Attachment(unet, adapter, inputs).active():
            found = unet(sample, TIMESTEP, context).sample
    assert float((found - wanted).abs().max()) < 1e-5  # float32, other order of sums
    assert float((found - plain).abs().max()) > 0.01


def test_beta_counts_as_published():
    assert until_share(0.3, 50) == Window.steps(0, 15)
    assert until_share(0.35, 10) == Window.steps(0, 3)
    assert until_share(1.0, 20) == Window.steps(0, 20)
