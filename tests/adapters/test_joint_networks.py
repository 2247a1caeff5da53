"""Joint attention in networks of other shapes, in half precision, and under a user's LoRA."""

import pytest
import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from golden_unicon import rows_of, unet_case
from peft import LoraConfig
from slow_joint import slowly_attached

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter, JointConfig
from unicond.adapters.network import AttentionShape
from unicond.adapters.parts import JointParts, ProjOut
from unicond.adapters.processor import JointOut

# Every role; rows on both sides, in several pairs, of two adapters; and one row in none.
# Weights are exact in float32.
PAIRS = {
    "fused": [
        (0, 1, 0.75, 1.25, True, True),
        (0, 2, 1.0, 0.0, True, False),
        (3, 1, 0.5, 1.0, False, True),
        (3, 4, 1.0, 1.0, False, False),
    ],
    "apart": [(1, 0, 0.375, 0.0, True, True), (2, 3, 1.0, 0.875, False, True)],
}
ROWS, PROMPT_WIDTH = 6, 24


def three_levels() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(16, 32, 48),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 1),
        attention_head_dim=(2, 4, 6),
        cross_attention_dim=PROMPT_WIDTH,
        norm_num_groups=8,
        use_linear_projection=True,
    )


def one_level() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(16,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=PROMPT_WIDTH,
        norm_num_groups=8,
    )


def transformer() -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        cross_attention_dim=PROMPT_WIDTH,
        caption_channels=PROMPT_WIDTH,
        sample_size=8,
        use_additional_conditions=False,
    )


def trained(network, seed=0, **config) -> JointAdapter:
    """An adapter whose B and ProjOut are not zero."""
    generator = torch.Generator().manual_seed(seed)
    adapter = JointAdapter.for_network(network, JointConfig(**config), generator)
    with torch.no_grad():
        for parameter in adapter.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return adapter


@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
@pytest.mark.parametrize("build", [three_levels, one_level, transformer])
def test_any_network_follows_the_formula(build, size):
    """Against the formula in float64, where rounding leaves 1e-10 and wrong algebra does not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().double().eval()
    adapters = {
        "fused": trained(network, rank=3, y_rank=2).double(),
        "apart": trained(network, 1, y="id", rank=2, y_rank=0, post_joint="conv").double(),
    }
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(ROWS, 4, *size, generator=generator).double()
    prompts = torch.randn(ROWS, 5, PROMPT_WIDTH, generator=generator).double()
    timesteps = torch.tensor([801, 21, 333, 500, 650, 10])

    def call():
        args = {"encoder_hidden_states": prompts, "timestep": timesteps}
        if isinstance(network, PixArtTransformer2DModel):
            args["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        return network(latents, **args).sample

    rows = rows_of(ROWS, 0.5, **PAIRS)
    with torch.no_grad():
        plain = call()
        with attached(network, adapters), rows.active():
            fast = call()
            with torch.enable_grad():  # output projections are not merged
                apart = call()
        with slowly_attached(network, adapters, PAIRS, 0.5):
            slow = call()
    assert (fast - slow).abs().max() < 1e-10
    assert (apart - slow).abs().max() < 1e-10
    changed = (fast - plain).flatten(1).abs().amax(1) > 1e-3
    assert changed.tolist() == [True, True, True, True, True, False]


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_network_with_float32_adapter(autocast, unet, adapters):
    case = unet_case("d2_two_models_cfg")
    sample, timesteps, prompts = case.inputs
    if not autocast:
        unet, sample, prompts = unet.bfloat16(), sample.bfloat16(), prompts.bfloat16()
    with (
        attached(unet, adapters),
        case.rows.active(),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        output = unet(sample, timesteps, prompts).sample
    output.float().square().sum().backward()
    error = (output.float() - case.tensors["output"]).std() / case.tensors["output"].std()
    assert output.dtype == torch.bfloat16
    assert error < 0.02  # eight bits of mantissa through some thirty layers; 0.008 is seen
    grads = [p.grad for adapter in adapters.values() for p in adapter.parameters()]
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


def test_half_precision_adapter_serves_a_float32_network(unet, adapters):
    case = unet_case("b1_depth_pair")
    adapters = {name: adapter.half() for name, adapter in adapters.items()}
    with torch.no_grad(), attached(unet, adapters), case.rows.active():
        output = unet(*case.inputs).sample
    assert output.dtype == torch.float32
    assert (output - case.tensors["output"]).abs().max() < 5e-3  # float16 weights, 11 bits


def test_a_users_lora_acts_in_the_joint_attention_too(unet, adapters):
    """Fused into the weights and called as a module, a LoRA gives the same pair of outputs."""
    case = unet_case("b1_depth_pair")

    def call():
        with torch.no_grad(), attached(unet, adapters), case.rows.active():
            return unet(*case.inputs).sample

    generator = torch.Generator().manual_seed(3)
    unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    wrapped = call()
    unet.fuse_lora()
    fused = call()
    unet.unfuse_lora()
    unet.disable_adapters()
    without = call()
    torch.testing.assert_close(wrapped, fused, rtol=0, atol=1e-5)
    assert (without - case.tensors["output"]).abs().max() < 1e-5
    assert (wrapped - without).abs().max() > 0.1


def test_an_attention_without_sdpa_may_be_replaced(unet, adapters):
    unet.set_attn_processor(AttnProcessor())
    case = unet_case("b1_depth_pair")
    with torch.no_grad(), attached(unet, adapters), case.rows.active():
        output = unet(*case.inputs).sample
    assert (output - case.tensors["output"]).abs().max() < 1e-5


def test_masked_tokens_are_not_heard(unet, adapters):
    """An attention mask follows the keys: what it hides of y cannot reach x."""
    attn = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    h = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 6)
    mask[1, :, 4:] = -1e4
    hidden = h.clone()
    hidden[1, 4:] += 1
    rows = rows_of(2, id=[(0, 1, 1.0, 1.0, True, True)])
    with torch.no_grad(), attached(unet, adapters), rows.active():
        before, after = attn(h, attention_mask=mask), attn(hidden, attention_mask=mask)
        assert torch.equal(before[0], after[0])
        assert not torch.equal(attn(h)[0], attn(hidden)[0])


def test_fusing_projection_refuses_unequal_numbers_of_tokens():
    with pytest.raises(ValueError, match="64 and 16 tokens: give both branches"):
        ProjOut(8, "conv_fuse")(torch.zeros(1, 64, 8), torch.zeros(1, 16, 8))
    p_x, p_y = ProjOut(8, "conv")(torch.zeros(1, 64, 8), torch.zeros(1, 16, 8))
    assert (p_x.shape, p_y.shape) == ((1, 64, 8), (1, 16, 8))


def test_the_merged_projection_is_exact_under_a_large_bias_in_half_precision():
    """The layer's W is read off its output, where W + bias would be rounded to the bias's steps."""
    generator = torch.Generator().manual_seed(0)
    attn = Attention(32, heads=2, dim_head=16, bias=True).to(torch.bfloat16)
    parts = JointParts(AttentionShape(32, 32, 32, 32), JointConfig(rank=2), generator)
    with torch.no_grad():
        attn.to_out[0].weight.normal_(0, 0.03, generator=generator)
        attn.to_out[0].bias.fill_(3.0)
        parts.proj_out.weight.copy_(torch.eye(64))
        parts.to(torch.bfloat16)
        weight, _ = JointOut(parts)._merge(attn, torch.zeros(1, 1, 32).bfloat16(), True, False)
    exact = attn.to_out[0].weight.detach().float()
    # what is left is bfloat16's own rounding of 8 bits, and of 64 W + bias
    assert float((weight.float() - exact).norm() / exact.norm()) < 0.015
