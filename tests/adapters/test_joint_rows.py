"""Which rows an adapter changes, and which it leaves alone."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from golden_unicon import pairs_of, rows_of

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter, JointConfig
from unicond.adapters.routes import add, build_route

TWO_WAY = (0, 1, 1.0, 1.0, True, True)


def other_image(sample):
    changed = sample.clone()
    changed[0] += 1
    return changed


def test_ejected_network_is_the_old_one_bit_for_bit_even_after_an_exception(unet, adapters, call):
    before, state = call(), {k: v.clone() for k, v in unet.state_dict().items()}
    processors = dict(unet.attn_processors)
    with attached(unet, adapters):
        assert not torch.equal(call(rows_of(5, depth=[TWO_WAY]))[0], before[0])
    with pytest.raises(RuntimeError, match="inside"), attached(unet, adapters):
        raise RuntimeError("inside")
    assert unet.attn_processors == processors  # the same objects
    assert state.keys() == unet.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in unet.state_dict().items())
    assert torch.equal(call(), before)


def test_network_gains_no_parameters_while_attached(unet, adapters):
    before = {name: p.data_ptr() for name, p in unet.named_parameters()}
    with attached(unet, adapters):
        assert {name: p.data_ptr() for name, p in unet.named_parameters()} == before


def test_without_current_rows_or_pairs_the_network_is_plain(unet, adapters, call):
    before = call()
    with attached(unet, adapters):
        assert torch.equal(call(), before)
        assert torch.equal(call(rows_of(5)), before)


def test_rows_of_no_pair_are_plain_bit_for_bit(unet, adapters, call):
    before = call()
    with attached(unet, adapters):
        after = call(rows_of(5, depth=[TWO_WAY], id=[(0, 3, 1.0, 1.0, True, True)]))
    assert torch.equal(after[[2, 4]], before[[2, 4]])
    assert not any(torch.equal(after[i], before[i]) for i in (0, 1, 3))


def test_an_unused_adapter_changes_nothing(unet, adapters, call):
    rows = rows_of(5, depth=[TWO_WAY])
    with attached(unet, adapters):
        both = call(rows)
    with attached(unet, {"depth": adapters["depth"]}):
        assert torch.equal(call(rows), both)


@pytest.mark.parametrize("name", ["depth", "id"])
def test_one_way_condition_depends_on_nothing_but_itself(name, unet, adapters, call):
    rows = rows_of(5, **{name: [(0, 1, 1.0, 0.0, True, False)]})
    off = rows_of(5, **{name: [(0, 1, 1.0, 1.0, False, False)]})
    changed = call.sample.clone()
    changed[1] += 1
    with attached(unet, adapters):
        held = call(rows)
        assert torch.equal(call(rows, other_image(call.sample))[1], held[1])
        assert torch.equal(call(off)[1], held[1])
        assert not torch.equal(call(off)[0], held[0])
        assert (call(rows, changed)[0] - held[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["depth", "id"])
def test_one_way_image_depends_on_nothing_but_itself(name, unet, adapters, call):
    rows = rows_of(5, **{name: [(0, 1, 0.0, 1.0, False, True)]})
    plain = call()
    with attached(unet, adapters):
        held = call(rows)
        assert torch.equal(held[0], plain[0])
        assert (call(rows, other_image(call.sample))[1] - held[1]).abs().max() > 1e-3


def test_two_way_condition_depends_on_the_image(unet, adapters, call):
    rows = rows_of(5, depth=[TWO_WAY])
    with attached(unet, adapters):
        difference = call(rows)[1] - call(rows, other_image(call.sample))[1]
    assert difference.abs().max() > 1e-3


def test_a_condition_of_weight_zero_still_hears_for_the_image(unet, adapters, call):
    """`w_y = 0` keeps o_y in a fusing ProjOut; of a deaf condition each place speaks alone."""
    with attached(unet, adapters):
        hears = call(rows_of(5, depth=[(0, 1, 1.0, 0.0, True, True)]))
        deaf = call(rows_of(5, depth=[(0, 1, 1.0, 0.0, True, False)]))
    assert (hears[0] - deaf[0]).abs().max() > 1e-3
    with attached(unet, adapters):  # a ProjOut that does not fuse has nothing of y in p_x
        hears = call(rows_of(5, id=[(0, 1, 1.0, 0.0, True, True)]))
        deaf = call(rows_of(5, id=[(0, 1, 1.0, 0.0, True, False)]))
    torch.testing.assert_close(hears, deaf, rtol=0, atol=1e-5)  # the batch shape differs


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_joint_scale_zero_leaves_only_y_lora(scale, unet, adapters, call):
    deaf = rows_of(5, depth=[(0, 1, 1.0, 1.0, False, False)])
    with attached(unet, adapters):
        same = torch.equal(call(rows_of(5, scale, depth=[TWO_WAY])), call(deaf))
    assert same == (scale == 0.0)


def test_a_fresh_adapter_changes_nothing(unet, call):
    adapter = JointAdapter.for_network(unet, JointConfig(rank=4, y_rank=2))
    with attached(unet, {"depth": adapter}):
        assert torch.equal(call(rows_of(5, depth=[TWO_WAY])), call())


def test_fresh_weights_are_seeded_and_of_standard_deviation_one_over_rank(unet):
    config = JointConfig(rank=8, y_rank=2)
    first, again, other = (
        JointAdapter.for_network(unet, config, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in first.state_dict().items())
    for suffix, rank in (("joint.xy.to_q.A", 8), (".y.to_q.A", 2)):
        drawn = [v.flatten() for k, v in first.state_dict().items() if k.endswith(suffix)]
        # two thousand draws and more: their deviation is known to some percent
        assert abs(torch.cat(drawn).std() * rank - 1) < 0.1


def test_indices_made_in_inference_mode_serve_a_later_gradient(unet, adapters, call):
    rows = rows_of(5, depth=[TWO_WAY])
    with attached(unet, adapters), rows.active():
        args = (call.sample, torch.tensor([801, 21, 333, 500, 650]), torch.zeros(5, 3, 32))
        with torch.inference_mode():
            unet(*args)
        unet(*args).sample.sum().backward()
    assert all(p.grad is not None for p in adapters["depth"].parameters())


def listed(index):
    return list(range(100))[index] if isinstance(index, slice) else index.tolist()


def test_groups_hold_no_row_twice_and_drop_what_nobody_hears():
    pairs = pairs_of(
        [
            (0, 1, 1.0, 1.0, True, True),
            (0, 2, 0.5, 1.0, True, True),
            (3, 1, 1.0, 1.0, True, True),
            (3, 4, 0.0, 0.0, True, True),
            (3, 5, 1.0, 1.0, False, False),
            (3, 6, 2.0, 0.0, True, False),
        ]
    )
    route = build_route(pairs, 7, 0.5, torch.device("cpu"))
    found = [(listed(g.x), listed(g.y), g.scale_x, g.hears_x, g.hears_y) for g in route.groups]
    assert found == [
        ([0], [1], 0.5, True, True),
        ([0], [2], 0.25, True, True),
        ([3], [1], 0.5, True, True),
        ([3], [6], 1.0, True, False),
    ]
    assert listed(route.y) == [1, 2, 4, 5, 6]


def test_wrong_rows_are_named(unet, adapters, call):
    with attached(unet, adapters):
        with pytest.raises(ValueError, match="batch has 5 rows, but the current `Rows` has 4"):
            call(rows_of(4, depth=[TWO_WAY]))
        with pytest.raises(ValueError, match=r"no adapter 'edge' .* there are \['depth', 'id'\]"):
            call(rows_of(5, edge=[TWO_WAY]))
        with pytest.raises(ValueError, match="pair 0 is of rows 0 and 7, but there are 5 rows"):
            call(rows_of(5, depth=[(0, 7, 1.0, 1.0, True, True)]))


def test_an_adapter_of_another_network_is_refused(adapters, unet):
    wide = UNet2DConditionModel.from_config({**unet.config, "block_out_channels": (64, 64)})
    message = (
        r"'depth' was made for another network \(runwayml/stable-diffusion-v1-5\): at "
        r"down_blocks.0.attentions.0.transformer_blocks.0.attn1 it needs .*features=32.*"
        r"but this UNet2DConditionModel has .*features=64"
    )
    with pytest.raises(ValueError, match=message), attached(wide, adapters):
        pass
    deep = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    other = UNet2DConditionModel.from_config({**unet.config, **deep})
    with pytest.raises(ValueError, match="has no such layer"), attached(other, adapters):
        pass
    assert all(type(p) is AttnProcessor2_0 for p in wide.attn_processors.values())


def test_a_second_attachment_and_foreign_processors_are_refused(unet, adapters):
    message = "processor JointProcessor, which joint attention would replace; attach all"
    refused = pytest.raises(ValueError, match=message)
    with attached(unet, adapters), refused, attached(unet, adapters):
        pass


def test_a_network_without_self_attention_is_refused():
    with pytest.raises(ValueError, match="Linear has no diffusers `Attention` named attn1"):
        JointAdapter.for_network(torch.nn.Linear(2, 2), JointConfig())


@pytest.mark.parametrize("rows", [[slice(0, 2), torch.tensor([3, 5])], [slice(0, 2), slice(1, 3)]])
def test_terms_with_gradients_are_added_to_a_frozen_layers_output(rows):
    """The output is a view without a gradient, which torch once took for a leaf."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(4, 4).requires_grad_(False)
    values = layer(torch.randn(6, 5, 4, generator=generator))
    plain = values.clone()
    terms = [torch.randn(2, 5, 4, generator=generator).requires_grad_() for _ in rows]
    for index, term in zip(rows, terms, strict=True):
        add(values, index, term, 0.5)
        plain[index] += 0.5 * term.detach()
    assert torch.equal(values.detach(), plain)
    values.sum().backward()
    for term in terms:
        assert torch.equal(term.grad, torch.full_like(term, 0.5))
