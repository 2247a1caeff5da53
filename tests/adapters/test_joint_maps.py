"""y-LoRA beyond attention: what it computes, on whose rows, and how it is kept."""

import copy
import threading
from contextlib import nullcontext

import pytest
import torch
from golden_unicon import rows_of
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter, JointConfig
from unicond.adapters.maps import MapShape, map_layers, map_shapes
from unicond.adapters.recompute import recomputed
from unicond.training.starting import go_on_from_part

HELD = (0, 1, 0.0, 0.0, False, False)
"""Row 1 is a condition; nobody hears anybody."""
TWO_WAY = (0, 1, 1.0, 1.0, True, True)


def adapter_of(unet, rank=3, spread=0.1):
    """An adapter that does nothing but y-LoRA beyond attention, or nothing at all."""
    config = JointConfig(rank=2, y_rank=2, y_conv_rank=rank)
    adapter = JointAdapter.for_network(unet, config, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for _, part in adapter.maps():
        part.B.data = spread * torch.randn(part.B.shape, generator=generator)
    return adapter


def test_the_rows_of_conditions_see_layers_with_the_product_added(unet, call):
    """W + B A, where A's kernel is W's: the plain network with these weights gives the same."""
    adapter, merged, plain = adapter_of(unet), copy.deepcopy(unet), call()
    layers = map_layers(merged)
    for name, part in adapter.maps():
        a, b = part.A.detach(), part.B.detach()
        layers[name].weight.data += torch.tensordot(b, a, 1)
    with attached(unet, {"depth": adapter}):
        found = call(rows_of(5, depth=[HELD]))
        assert torch.equal(call(), plain), "without rows nothing acts"
    generator = torch.Generator().manual_seed(0)
    sample, prompts = (torch.randn(s, generator=generator) for s in ((5, 4, 8, 8), (5, 11, 32)))
    with torch.no_grad():
        expected = merged(sample, torch.tensor([801, 21, 333, 500, 650]), prompts).sample
    assert (found[1] - plain[1]).abs().max() > 0.01
    # float32, another order of the sums of about forty layers
    assert torch.allclose(found[1], expected[1], atol=1e-5)
    assert torch.equal(found[[0, 2, 3, 4]], plain[[0, 2, 3, 4]])
    assert torch.equal(call(), plain)


def test_all_convolutions_and_feed_forward_layers_are_reached(unet):
    shapes = map_shapes(unet)
    assert shapes["conv_in"] == MapShape(4, unet.conv_in.out_channels, 3)
    assert "conv_out" in shapes
    assert any(name.endswith("ff.net.0.proj") for name in shapes)
    assert any(name.endswith("resnets.0.conv1") for name in shapes)
    assert not any("attn" in name or "time" in name for name in shapes)


def test_a_lora_around_a_layer_changes_no_name(unet):
    shapes = map_shapes(unet)
    targets = ["conv1", "ff.net.0.proj", "to_q"]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), unet)
    assert map_shapes(unet) == shapes
    with attached(unet, {"depth": adapter_of(unet)}):
        pass


def test_two_adapters_act_on_their_own_rows(unet, call):
    one, other = adapter_of(unet), adapter_of(unet, spread=0.2)
    rows = {"depth": [HELD], "id": [(0, 3, 0.0, 0.0, False, False)]}
    with attached(unet, {"depth": one, "id": other}):
        both = call(rows_of(5, **rows))
    with attached(unet, {"depth": one}):
        alone = call(rows_of(5, depth=[HELD]))
    assert torch.equal(both[[0, 1, 2, 4]], alone[[0, 1, 2, 4]])
    assert not torch.equal(both[3], alone[3])


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_gradients_of_blocks_that_are_called_again(unet, call, thread, inside):
    """Wherever the backward pass runs, inside of the block or after it."""
    adapter = adapter_of(unet)
    times, prompts = torch.tensor([801, 21, 333, 500, 650]), torch.ones(5, 11, 32)

    def gradients(context):
        adapter.zero_grad()
        with context, attached(unet, {"depth": adapter}):
            with rows_of(5, depth=[TWO_WAY]).active():
                loss = unet(call.sample, times, prompts).sample.square().mean()
            backward = threading.Thread(target=loss.backward) if thread else None
            if inside:
                run(backward, loss)
        if not inside:
            run(backward, loss)
        return {name: p.grad.clone() for name, p in adapter.named_parameters() if ".y." in name}

    def run(backward, loss):
        if backward is None:
            loss.backward()
        else:
            backward.start()
            backward.join()

    plain, found = gradients(nullcontext()), gradients(recomputed(unet))
    assert max(float(value.abs().max()) for value in plain.values()) > 0
    for name, value in plain.items():
        assert torch.equal(found[name], value), name
    assert not any(layer._forward_hooks for layer in unet.modules())


def test_it_is_kept_in_a_folder(unet, tmp_path):
    adapter = adapter_of(unet)
    adapter.save_pretrained(tmp_path)
    again = JointAdapter.from_pretrained(tmp_path)
    assert again.config == adapter.config
    assert again.map_shapes == adapter.map_shapes == dict(map_shapes(unet))
    for name, value in adapter.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("conv_in.y.B"), r"conv_in\.y\.B is missing"),
        (lambda w: w.update({"conv_in.y.A": torch.zeros(3)}), r"conv_in\.y\.A and B have shapes"),
        (lambda w: w.update({"conv_in.y.A": w["conv_in.y.A"][:2].clone()}), r"conv_in\.y\.A has"),
    ],
)
def test_damaged_files_are_named(unet, tmp_path, spoil, message):
    adapter_of(unet).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    spoil(weights)
    save_file(weights, file)
    with pytest.raises(ValueError, match=message):
        JointAdapter.from_pretrained(tmp_path)


def test_another_network_is_refused(unet):
    adapter = adapter_of(unet)
    adapter.map_shapes["conv_in"] = MapShape(8, unet.conv_in.out_channels, 3)
    with (
        pytest.raises(ValueError, match=r"made for another network.*conv_in"),
        attached(unet, {"depth": adapter}),
    ):
        pass


def test_training_goes_on_from_an_adapter_without_it(unet, call):
    old, fresh = adapter_of(unet, rank=0), adapter_of(unet, rank=3, spread=0.0)
    for parameter in old.parameters():
        parameter.data += 0.1
    rows = rows_of(5, depth=[TWO_WAY])
    go_on_from_part(fresh, old, "old")
    with attached(unet, {"depth": old}):
        expected = call(rows)
    with attached(unet, {"depth": fresh}):
        assert torch.equal(call(rows), expected)
    config = JointConfig(rank=1, y_rank=2, y_conv_rank=3)
    with pytest.raises(ValueError, match=r"old: .*has shape"):
        go_on_from_part(JointAdapter.for_network(unet, config), old, "old")
