"""Whose rows are grounded, beside what else a network carries, and that it leaves nothing."""

from contextlib import ExitStack, nullcontext
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from golden_grounding import (
    gligen,
    instances,
    interact,
    interactions,
    meta,
    migc,
    move,
    network,
    only,
    rows,
    some_boxes,
)
from golden_unicon import pairs_of

from unicond.adapters.attach import attached as joined
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.attach import Attachment
from unicond.adapters.grounding.inputs import Boxes, Instances, Seeded
from unicond.adapters.recompute import recomputed
from unicond.denoisers.controlled import controlled
from unicond.sampling.controls import Recorder, acting
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.window import Window

CASES = {
    "gligen": (gligen, some_boxes(), "interact"),
    "interact": (lambda _: interact(), only(interactions(), 1), "interact"),
    "migc": (lambda _: migc(), replace(instances(), shuffle=Seeded()), "migc"),
}


@pytest.fixture(params=CASES)
def case(request):
    make, inputs, folder = CASES[request.param]
    unet = network(folder)
    return unet, make(unet), inputs


@pytest.fixture
def call():
    """As many rows as the current layout has, random and always the same for a row."""

    def run(unet, count, first=0, grad=False):
        generator = torch.Generator().manual_seed(0)
        side = unet.config.sample_size
        sample = torch.randn(12, 4, side, side, generator=generator)[first : first + count]
        prompts = torch.randn(12, 7, 32, generator=generator)[first : first + count]
        with nullcontext() if grad else torch.no_grad():
            return unet(sample, 500, prompts).sample

    return run


def joint(branches=("image", "depth"), **more):
    """Two variants, two branches, two samples; each image is paired with its depth."""
    table = [(row, row + 2, 1.0, 0.5, True, True) for row in (0, 1, 4, 5)]
    return rows(2, branches, pairs={"depth": pairs_of(table)}, **more)


def test_only_the_branchs_rows_are_grounded(case, call):
    unet, adapter, inputs = case
    plain = call(unet, 8)
    with Attachment(unet, adapter, inputs).active(), rows(2, ("image", "depth")).active():
        found = call(unet, 8)
    changed = [not torch.equal(one, other) for one, other in zip(found, plain, strict=True)]
    with_nothing = adapter.config.method != "migc"  # the negative rows get nothing, or are left
    assert changed == [with_nothing] * 2 + [False] * 2 + [True] * 2 + [False] * 2
    with Attachment(unet, adapter, inputs).active(), rows(2, ("depth", "edge")).active():
        assert torch.equal(call(unet, 8), plain)
    with (
        Attachment(unet, adapter, inputs, branch="depth").active(),
        rows(2, ("image", "depth")).active(),
    ):
        other = call(unet, 8)
    assert torch.equal(other[:2], plain[:2])
    assert not torch.equal(other[6:], plain[6:])


def test_nothing_is_what_the_named_prompts_get(case, call):
    unet, adapter, inputs = case
    with Attachment(unet, adapter, inputs, without=()).active(), rows().active():
        both = call(unet, 2)
    with (
        Attachment(unet, adapter, inputs, without=("negative", "positive")).active(),
        rows().active(),
    ):
        none = call(unet, 2)
    with Attachment(unet, adapter, inputs).active(), rows().active():
        found = call(unet, 2)
    assert torch.allclose(found[1], both[1], atol=1e-5)
    assert torch.allclose(found[0], none[0], atol=1e-5)
    assert not torch.allclose(both[0], none[0], atol=1e-3)


def two(inputs):
    """Sample 0 has fewer things than sample 1, and others."""
    double = {key: torch.cat([value, value.flip(1)]) for key, value in inputs.tensors().items()}
    double["masks"] = double["masks"].clone()
    double["masks"][0, -1 if inputs.masks[0, -1] else 1 :] = 0
    double["masks"][1] = inputs.masks[0].flip(0)
    shuffle = {"shuffle": Seeded((5, 6))} if isinstance(inputs, Instances) else {}
    return replace(inputs, **double, **shuffle)


def alone(inputs, sample):
    one = {key: value[sample : sample + 1] for key, value in inputs.tensors().items()}
    if isinstance(inputs, Instances):
        keep = int(one["masks"].sum())
        one = {key: value[:, :keep] for key, value in one.items()}
        return replace(inputs, **one, shuffle=Seeded((5 + sample,)))
    return replace(inputs, **one)


def test_samples_do_not_know_each_other(case, call):
    unet, adapter, inputs = case
    both = two(inputs)
    layout = Rows((Variant(),), ("image",), 2)
    with Attachment(unet, adapter, both).active(), layout.active(), move(3).active():
        together = call(unet, 2)
    for sample in (0, 1):
        with Attachment(unet, adapter, alone(both, sample)).active(), move(3).active():
            single = call(unet, 1, first=sample)
        assert torch.allclose(together[sample], single[0], atol=1e-4)


def test_inputs_of_one_sample_are_for_all(case, call):
    unet, adapter, inputs = case
    layout = Rows((Variant(),), ("image",), 3)
    with Attachment(unet, adapter, inputs).active(), layout.active():
        found = call(unet, 3)
    assert not torch.allclose(found, call(unet, 3), atol=1e-3)

    def refuses(message, given, count):
        with (
            Attachment(unet, adapter, given).active(),
            layout.active(),
            pytest.raises(ValueError, match=message),
        ):
            call(unet, count)

    refuses("is of 2 samples, but the run has 3", two(inputs), 3)
    refuses("the batch has 2 rows, but the current `Rows` has 3", inputs, 2)


def test_windows(case, call):
    unet, adapter, inputs = case
    plain = call(unet, 1)
    with Attachment(unet, adapter, inputs, window=Window.steps(1, 3)).active():
        always = call(unet, 1)
        seen = []
        for number in range(5):
            with move(number).active():
                seen.append(call(unet, 1))
    assert not torch.equal(always, plain)
    for number, found in enumerate(seen):
        assert torch.equal(found, plain) == (number not in (1, 2)), number


def test_it_leaves_nothing_behind_even_after_an_exception(case, call):
    unet, adapter, inputs = case
    plain, processors = call(unet, 2), dict(unet.attn_processors)
    weights = {key: value.clone() for key, value in unet.state_dict().items()}
    more = {"naive": Window()} if isinstance(inputs, Instances) else {}

    def stop():
        with Attachment(unet, adapter, inputs, **more).active(), rows().active():
            call(unet, 2)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        stop()
    assert unet.attn_processors == processors
    assert not any(module._forward_pre_hooks for module in unet.modules())
    assert all(torch.equal(value, weights[key]) for key, value in unet.state_dict().items())
    assert torch.equal(call(unet, 2), plain)


def test_an_exception_in_the_network_leaves_nothing(case, call):
    unet, adapter, inputs = case
    plain, processors = call(unet, 2), dict(unet.attn_processors)
    with pytest.raises(RuntimeError), Attachment(unet, adapter, inputs).active():
        unet(torch.zeros(1, 4, 16, 16), 1, torch.zeros(1, 7, 31))
    assert unet.attn_processors == processors
    assert torch.equal(call(unet, 2), plain)


# ---- beside a joint adapter, other groundings, controls


def test_beside_a_joint_adapter(unet, adapters, call):
    """Parity: joint attention in diffusers' own gated network, where fusers act on all rows."""
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    gated = UNet2DConditionModel(**{**config, "attention_type": "gated"}).eval()
    adapter, inputs = gligen(unet), some_boxes(2)
    gated.load_state_dict(unet.state_dict() | adapter.state_dict())
    shown = inputs.filled(30)
    per_row = {"boxes": shown.boxes, "masks": shown.masks, "positive_embeddings": shown.phrases}
    per_row = {key: value.repeat(4, *(1,) * (value.ndim - 1)) for key, value in per_row.items()}
    per_row["masks"] = torch.cat([torch.zeros(4, 30), shown.masks, shown.masks])
    generator = torch.Generator().manual_seed(0)
    sample, prompts = (
        torch.randn(12, *size, generator=generator)[:8] for size in ((4, 8, 8), (7, 32))
    )
    with torch.no_grad(), joined(gated, adapters), joint().active():
        kwargs = {"gligen": per_row}
        wanted = gated(sample, 500, prompts, cross_attention_kwargs=kwargs).sample
    with joined(unet, adapters), joint().active():
        plain = call(unet, 8)
        with ExitStack() as stack:
            for branch in ("image", "depth"):
                stack.enter_context(Attachment(unet, adapter, inputs, branch=branch).active())
            found = call(unet, 8)
        after = call(unet, 8)
        assert torch.equal(after, plain)
    assert float((found - wanted).abs().max()) < 1e-5  # float32, other order of sums
    assert not torch.allclose(found, plain, atol=1e-3)


def test_migc_beside_a_joint_adapter(unet, adapters, call):
    """The depth rows hear the image through joint attention alone: deaf ones keep their bits."""
    make = GroundingAdapter.for_network
    adapter = make(unet, "migc", blocks=("mid_block", "up_blocks.1")).requires_grad_(False)
    inputs = replace(instances(), phrases=torch.randn(1, 3, 32), size=(64, 64), latents=(8, 8))
    inputs = replace(inputs, shuffle=Seeded())
    table = [(row, row + 2, 1.0, 0.0, True, False) for row in (0, 1, 4, 5)]
    layout = rows(2, ("image", "depth"), pairs={"depth": pairs_of(table)})
    with joined(unet, adapters), layout.active():
        plain = call(unet, 8)
        with Attachment(unet, adapter, inputs).active():
            found = call(unet, 8)
        assert torch.equal(call(unet, 8), plain)
    changed = [not torch.equal(one, other) for one, other in zip(found, plain, strict=True)]
    assert changed == [False] * 4 + [True] * 2 + [False] * 2


def test_two_groundings_in_one_network(call):
    unet = network("migc")
    first, second = gligen(unet), migc()
    boxes = replace(some_boxes(), phrases=torch.randn(1, 3, 32))
    plain = call(unet, 2)
    with Attachment(unet, first, boxes).active(), rows().active():
        one = call(unet, 2)
        with Attachment(unet, second, instances()).active():
            both = call(unet, 2)
        assert torch.equal(call(unet, 2), one)
    assert torch.equal(both[0], one[0])
    assert not torch.allclose(both[1], one[1], atol=1e-3)
    assert torch.equal(call(unet, 2), plain)


def test_controls_see_the_layers_own_attention(case, call):
    unet, adapter, inputs = case
    with Attachment(unet, adapter, inputs).active(), rows().active():
        free = call(unet, 2)
        recorder = Recorder("image", where=lambda layer: layer.kind in ("self", "cross"))
        with acting(recorder), controlled(unet):
            watched = call(unet, 2)
    assert torch.equal(watched, free)
    assert len(recorder.found) == len(unet.attn_processors)


def test_gradient_checkpoints_take_it_along(case, call):
    unet, adapter, inputs = case
    unet.requires_grad_(True)

    def gradients(context):
        adapter.requires_grad_(True)
        adapter.zero_grad()
        with context, Attachment(unet, adapter, inputs).active(), rows().active():
            output = call(unet, 2, grad=True)
        output.square().mean().backward()
        found = {key: value.grad for key, value in adapter.named_parameters()}
        return {key: None if value is None else value.clone() for key, value in found.items()}

    plain, again = gradients(nullcontext()), gradients(recomputed(unet))
    for key, value in plain.items():
        assert value is not None, key
        assert torch.equal(again[key], value), key
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_half_precision(case, call):
    """A float32 adapter in a half network: nothing is said about dtypes, the numbers are near."""
    unet, adapter, inputs = case
    with Attachment(unet, adapter, inputs).active(), rows().active():
        wanted = call(unet, 2)
    unet.to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    side = unet.config.sample_size
    sample = torch.randn(12, 4, side, side, generator=generator)[:2].bfloat16()
    prompts = torch.randn(12, 7, 32, generator=generator)[:2].bfloat16()
    for one in (adapter, adapter.to(torch.bfloat16)):
        with Attachment(unet, one, inputs).active(), rows().active(), torch.no_grad():
            found = unet(sample, 500, prompts).sample
        assert found.dtype == torch.bfloat16
        assert float((found.float() - wanted).abs().mean()) < 0.05  # bf16 has 8 bits


# ---- what does not fit


def refuses(message, unet, adapter, inputs, error=ValueError, **options):
    before = dict(unet.attn_processors)
    with pytest.raises(error, match=message), Attachment(unet, adapter, inputs, **options).active():
        pass
    assert unet.attn_processors == before
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_foreign_networks_are_refused():
    config = {k: v for k, v in meta("interact")["unet_config"].items() if not k.startswith("_")}
    gated = UNet2DConditionModel(**{**config, "attention_type": "gated"})
    message = r"has a position net of its own .*as if they were GLIGEN's: load the plain base"
    refuses(message, gated, interact(), interactions())
    message = r"an adapter of interact was made for another network \(unknown\): at .* it needs"
    refuses(message, network("migc"), interact(), interactions())
    message = r"at up_blocks.1.attentions.0.* it needs 64 features and 8 heads, but .*has 32 and 8"
    refuses(message, network("interact"), migc(), instances())
    weights = {k: v for k, v in interact().state_dict().items() if "up_blocks" not in k}
    less = GroundingAdapter.from_tensors(interact().config, weights, "less")
    refuses(r"has no fuser for up_blocks\.1", network("interact"), less, interactions())


def test_foreign_processors_are_refused():
    unet = network("interact")
    unet.up_blocks[1].attentions[0].transformer_blocks[0].attn1.set_processor(
        IPAdapterAttnProcessor2_0(32, 32)
    )
    message = r"up_blocks.1.* has the processor IPAdapterAttnProcessor2_0, around which"
    refuses(message, unet, interact(), interactions())


def test_foreign_inputs_are_refused():
    unet, adapter = network("interact"), interact()
    boxes = gligen(unet)
    refuses("interact takes Interactions, not Boxes", unet, adapter, some_boxes(), TypeError)
    wide = replace(some_boxes(), phrases=torch.zeros(1, 3, 33))
    refuses(r"phrases have width 33, but this gligen .* takes 32", unet, boxes, wide)
    many = some_boxes(1, 31)
    refuses(r"are 31 things in a sample, .* takes at most 30", unet, boxes, many)
    message = "only MIGC has a naive window; this adapter is interact"
    refuses(message, unet, adapter, interactions(), naive=Window())
    message = "MIGC takes ca_scale, ea_scale and sac_scale"
    refuses(message, network("migc"), migc(), instances(), scale=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.tensor([[[0.5, 0.1, 0.4, 0.2]]])}, r"boxes 0 of sample 0 is \[0.5, 0.1,"),
        ({"boxes": torch.tensor([[[0.5, 0.1, 1.4, 0.2]]])}, "a box is .* x1 < x2 <= 1"),
        ({"boxes": torch.tensor([[[-0.5, 0.1, 0.4, 0.2]]])}, "a box is .*0 <= x1"),
        ({"boxes": torch.zeros(1, 1, 3)}, r"boxes has shape \(1, 1, 3\), not \(B, N, 4\)"),
        ({"phrases": torch.zeros(1, 2, 32)}, r"phrases has shape \(1, 2, 32\), but masks \(1, 1\)"),
        ({"masks": torch.full((1, 1), 0.5)}, "must be .* of ones and zeros"),
        ({"masks": torch.ones(1)}, r"masks of shape \(1,\)"),
    ],
)
def test_wrong_boxes_are_named(change, message):
    fine = {
        "masks": torch.ones(1, 1),
        "boxes": torch.tensor([[[0.1, 0.1, 0.4, 0.2]]]),
        "phrases": torch.zeros(1, 1, 32),
    }
    Boxes(**fine)
    with pytest.raises(ValueError, match=message):
        Boxes(**{**fine, **change})


def test_plain_processors_stay_the_fused_ones():
    unet = network("interact")
    with Attachment(unet, interact(), interactions()).active():
        kinds = {type(one) for name, one in unet.attn_processors.items() if "attn2" in name}
    assert kinds == {AttnProcessor2_0}
