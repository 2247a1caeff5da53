"""Controls inside a network call: what they see, what they change, and that nothing is left."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, SlicedAttnProcessor
from test_network import adapters_of, denoiser_of, state_of

from unicond.adapters.attach import attached
from unicond.denoisers.controlled import layers_of
from unicond.denoisers.network import NetworkDenoiser
from unicond.sampling.controls import Control, Recorder, acting, grid_of, put, rows_of
from unicond.sampling.rows import Rows, Variant

BRANCHES = ("source", "target")


class Touch(Control):
    """Asks for some stages of some layers, and hands back what `change` makes of them."""

    def __init__(self, kinds, **stages):
        self.kinds, self.stages = kinds, stages

    def wants(self, layer):
        return tuple(self.stages) if layer.kind in self.kinds else ()

    def project(self, layer, heads, rows):
        return self.stages["qkv"](heads, rows)

    def bias(self, layer, heads, rows):
        return self.stages["bias"](heads, rows)

    def maps(self, layer, maps, rows):
        return self.stages["maps"](maps, rows)

    def values(self, layer, values, rows):
        return self.stages["values"](values, rows)


def plain(tiny, branches=BRANCHES):
    prompts = {"positive": {b: tiny.backbone.encode_prompts([f"a {b}"]) for b in branches}}
    prompts["negative"] = dict.fromkeys(branches, tiny.backbone.encode_negative(""))
    return NetworkDenoiser(tiny.backbone.network, prompts)


def processors(tiny):
    network = tiny.backbone.network
    hooks = [len(module._forward_hooks) for module in network.modules()]
    return [m.processor for m in network.modules() if isinstance(m, Attention)], hooks


@torch.no_grad()
def test_looking_changes_nothing_bit_for_bit(tiny):
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    before = denoiser(state)[0]
    recorder = Recorder("target", where=lambda _: True)
    with acting(recorder):
        after = denoiser(state)[0]
    assert all(torch.equal(before[b].eps, after[b].eps) for b in BRANCHES)
    maps = {layer: m for layer, m in recorder.found.items() if layer.kind in ("self", "cross")}
    assert {layer.kind for layer in recorder.found} == {"self", "cross", "residual", "block"}
    for layer, one in maps.items():
        assert one.shape[0] == 2
        assert one.shape[2] == layer.tokens((8, 8))
        torch.testing.assert_close(one.sum(-1), torch.ones(one.shape[:-1]))
        assert (one.shape[-1] == 77) == (layer.kind == "cross")
    inside = {layer: f for layer, f in recorder.found.items() if layer.kind == "block"}
    for layer, one in recorder.found.items():
        assert layer.kind != "residual" or one[0, 0].numel() == layer.tokens((8, 8))
    assert [layer.name for layer in inside][:2] == ["mid_block", "up_blocks.0"]


@torch.no_grad()
def test_maps_are_those_that_the_layer_uses(tiny):
    """Those of the first self-attention, made again from its input by the layer's own weights."""
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    network, seen = tiny.backbone.network, []
    recorder = Recorder("source", where=lambda one: one.kind == "self")
    first = layers_of(dict(network.named_modules()))[0]
    attn = network.get_submodule(first.name)
    hook = attn.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with acting(recorder):
        denoiser(state)
    hook.remove()
    h = seen[0][:2]
    q, k = (attn.head_to_batch_dim(to(h)) for to in (attn.to_q, attn.to_k))
    expected = attn.get_attention_scores(q, k).unflatten(0, (2, attn.heads))
    torch.testing.assert_close(recorder.found[first], expected)


@torch.no_grad()
@pytest.mark.parametrize("stage", ["qkv", "bias", "maps", "values"])
def test_only_the_rows_that_a_control_changes_change(tiny, stage):
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    before = denoiser(state)[0]

    def swapped(values, rows):
        ((source, target),) = rows_of(rows, BRANCHES)
        return put(values, target, values[source])

    def bias(heads, rows):
        ((_, target),) = rows_of(rows, BRANCHES)
        shape = (2, 1, heads.q.shape[2], heads.k.shape[2])
        return [(target, torch.arange(float(shape[-1])).expand(shape))]

    def maps(maps, rows):
        ((source, target),) = rows_of(rows, BRANCHES)
        return [(target, maps[source])]

    change = {
        "qkv": lambda heads, rows: heads._replace(q=swapped(heads.q, rows)),
        "bias": bias,
        "maps": maps,
        "values": swapped,
    }[stage]
    kinds = ("residual",) if stage == "values" else ("self", "cross")
    with acting(Touch(kinds, **{stage: change})):
        after = denoiser(state)[0]
    assert torch.equal(before["source"].eps, after["source"].eps)
    assert (before["target"].eps - after["target"].eps).abs().max() > 1e-4


@torch.no_grad()
def test_a_bias_is_in_the_maps_and_in_the_output(tiny):
    """A bias that leaves one word alone gives its map 1, and the output that map makes."""
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    recorder = Recorder("target")

    def alone(heads, rows):
        one = torch.full((2, 1, heads.q.shape[2], heads.k.shape[2]), -1e4)
        one[..., 3] = 0
        return [(target, one) for _, target in rows_of(rows, BRANCHES)]

    def one_hot(maps, rows):
        only = F.one_hot(torch.tensor(3), 77).to(maps).expand(2, *maps.shape[1:])
        return [(target, only) for _, target in rows_of(rows, BRANCHES)]

    with acting(Touch(("cross",), bias=alone), recorder):
        biased = denoiser(state)[0]["target"].eps
    assert all(torch.equal(m[..., 3], torch.ones(m.shape[:-1])) for m in recorder.found.values())
    with acting(Touch(("cross",), maps=one_hot)):
        mapped = denoiser(state)[0]["target"].eps
    torch.testing.assert_close(biased, mapped, rtol=0, atol=1e-5)


@torch.no_grad()
def test_whatever_is_injected_into_the_last_block_is_the_output_bit_for_bit(tiny):
    """Features of the source in the place of the target's, so that both give one output."""
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)

    def swapped(values, rows):
        ((source, target),) = rows_of(rows, BRANCHES)
        return put(values, target, values[source])

    with acting(Touch(("block",), values=swapped)):
        found = denoiser(state)[0]
    # eps is the network's output (an eps model)
    assert torch.equal(found["source"].eps, found["target"].eps)


def test_gradients_lead_through_maps_and_features(tiny):
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    leaf = state.latents["target"].clone().requires_grad_()
    recorder = Recorder("target", where=lambda one: one.kind in ("cross", "block"))
    with acting(recorder):
        denoiser(state.at({**state.latents, "target": leaf}, state.t))
    for kind in ("cross", "block"):
        energy = sum(f.square().sum() for one, f in recorder.found.items() if one.kind == kind)
        (gradient,) = torch.autograd.grad(energy, leaf, retain_graph=True)
        assert gradient.abs().max() > 0


@torch.no_grad()
def test_everything_is_put_back_after_a_failure(tiny):
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    expected, were = denoiser(state)[0], processors(tiny)

    def fails(*_):
        raise RuntimeError("inside")

    kinds = ("self", "residual")
    with pytest.raises(RuntimeError, match="inside"), acting(Touch(kinds, qkv=fails, values=fails)):
        denoiser(state)
    assert processors(tiny) == were
    again = denoiser(state)[0]
    assert all(torch.equal(expected[b].eps, again[b].eps) for b in BRANCHES)


@torch.no_grad()
def test_without_a_control_nothing_is_exchanged(tiny):
    denoiser, state = plain(tiny), state_of(tiny, BRANCHES)
    were, during = processors(tiny), []
    hook = tiny.backbone.network.register_forward_pre_hook(
        lambda *_: during.append(processors(tiny))
    )
    were = processors(tiny)
    denoiser(state)
    with acting(Control()):
        denoiser(state)
    hook.remove()
    assert during == [were, were]


@torch.no_grad()
def test_joint_attention_goes_on_beside_a_control(tiny):
    """Layers with adapters ask the controls themselves, also where no pair is in the call."""
    branches = ("image", "depth")
    denoiser, state = denoiser_of(tiny), state_of(tiny)
    alone = plain(tiny, branches)
    recorder = Recorder("image", where=lambda one: one.kind in ("self", "cross"))

    def doubled(maps, rows):
        return [(depth, 2 * maps[depth]) for (depth,) in rows_of(rows, ("depth",))]

    with attached(tiny.backbone.network, adapters_of(tiny, "depth")):
        expected = denoiser(state)[0]
        with acting(recorder):
            found = denoiser(state)[0]
        assert all(torch.equal(expected[b].eps, found[b].eps) for b in branches)
        with acting(Touch(("cross",), maps=doubled)):
            changed = denoiser(state)[0]
            bare = alone(state)[0]
    joint, recorder_ = dict(recorder.found), Recorder("image", where=recorder.where)
    with acting(recorder_):
        alone(state)
    assert [one.name for one in joint] == [one.name for one in recorder_.found]
    assert (changed["image"].eps - expected["image"].eps).abs().max() > 1e-5  # heard from depth
    with acting(Touch(("cross",), maps=doubled)):
        without_adapters = alone(state)[0]
    for b in branches:
        torch.testing.assert_close(bare[b].eps, without_adapters[b].eps)


@torch.no_grad()
def test_rows_that_are_not_there_and_other_processors_are_refused(tiny):
    rows = Rows((Variant(), Variant("negative")), ("target",), 2, size=(8, 6))
    with pytest.raises(ValueError, match=r"'source' has no rows .* needs cache=False"):
        rows_of(rows, BRANCHES)
    assert rows_of(rows, ("target",), "negative") == [(slice(2, 4),)]
    assert grid_of(rows, 48) == (8, 6)
    assert grid_of(rows, 12) == (4, 3)
    assert grid_of(rows, 4) == (2, 2)
    with pytest.raises(ValueError, match=r"13 tokens are no halving of latents of \(8, 6\)"):
        grid_of(rows, 13)
    network = tiny.backbone.network
    were = network.attn_processors
    try:
        network.set_attn_processor(SlicedAttnProcessor(1))
        with pytest.raises(ValueError, match="SlicedAttnProcessor"), acting(Recorder("target")):
            plain(tiny)(state_of(tiny, BRANCHES))
    finally:
        network.set_attn_processor(were)


def test_layers_are_numbered_as_they_run(tiny):
    """As the calls come, the attention layers of each kind and part count up."""
    layers = layers_of(dict(tiny.backbone.network.named_modules()))
    ran, hooks = [], []
    for one in layers:
        module = tiny.backbone.network.get_submodule(one.name)
        hooks.append(module.register_forward_hook(lambda *_, one=one: ran.append(one)))
    with torch.no_grad():
        plain(tiny)(state_of(tiny, BRANCHES))
    for hook in hooks:
        hook.remove()
    for kind in ("self", "cross", "residual", "block"):
        assert [one for one in ran if one.kind == kind] == [o for o in layers if o.kind == kind]
        for part in ("down", "mid", "up"):
            mine = [one for one in layers if (one.kind, one.part) == (kind, part)]
            assert [one.number for one in mine] == list(range(len(mine)))
            assert {one.count for one in mine} <= {len(mine)}
