"""Parity with the authors' released code: U-Net outputs, loss and gradients."""

import json

import pytest
import torch
from diffusers import DDIMScheduler
from golden_unicon import ROOT, UNetCase, pairs_of, released_name, unet_case, unet_case_names
from safetensors.torch import load_file
from torch import Tensor

from unicond.adapters.attach import attached
from unicond.sampling.rows import Rows, Variant

TOLERANCE = 1e-5  # float32 rounding of one U-Net of width 64; 1.5e-6 is seen


def run(unet, adapters, case: UNetCase) -> Tensor:
    with torch.no_grad(), attached(unet, adapters, case.joint_in), case.rows.active():
        return unet(*case.inputs).sample


@pytest.mark.parametrize("name", unet_case_names())
def test_unet_output_is_the_released_codes(name, unet, adapters):
    case = unet_case(name)
    error = (run(unet, adapters, case) - case.tensors["output"]).abs().max().item()
    assert error < TOLERANCE, f"{name}: max error {error:.2e}"


@pytest.mark.parametrize("name", ["b1_depth_pair", "b4_id_pair", "d1_two_models"])
def test_first_block_is_the_released_codes(name, unet, adapters):
    """Inputs and outputs of the block and of its joint attention, before the post projection."""
    case = unet_case(name)
    block = unet.down_blocks[0].attentions[0].transformer_blocks[0]
    seen: dict[str, list[Tensor]] = {"h": [], "heard_x": [], "heard_y": []}

    def keep_block(module, args, output):
        seen.update(block_in=[args[0]], block_out=[output])

    def keep_h(module, args, output):
        seen["h"].append(output)

    def keep_heard(module, args, output):
        seen["heard_x"].append(args[0])
        seen["heard_y"].append(args[1])

    handles = [
        block.register_forward_hook(keep_block),
        block.norm1.register_forward_hook(keep_h),
    ]
    for adapter in adapters.values():
        parts = dict(adapter.layers())["down_blocks.0.attentions.0.transformer_blocks.0.attn1"]
        handles.append(parts.joint.proj_out.register_forward_hook(keep_heard))
    # with gradients, the output projections are not merged, and each can be seen
    with attached(unet, adapters, case.joint_in), case.rows.active():
        unet(*case.inputs)
    for handle in handles:
        handle.remove()

    x = torch.cat([pairs.x for pairs in case.rows.pairs.values()])
    y = torch.cat([pairs.y for pairs in case.rows.pairs.values()])
    (h,) = seen["h"]
    found = {
        "block_in": seen["block_in"][0],
        "block_out": seen["block_out"][0],
        "attn1n_in": torch.cat([h[x], h[y]]),
        "attn1n_ctx": torch.cat([h[y], h[x]]),
        "attn1n_out": torch.cat([*seen["heard_x"], *seen["heard_y"]]),
    }
    for key, value in found.items():
        error = (value - case.tensors[f"block0.{key}"]).abs().max().item()
        assert error < TOLERANCE, f"{name} {key}: max error {error:.2e}"


def min_snr_loss(scheduler, output, target, timesteps, prediction_type) -> Tensor:
    """Mean over all rows of w * MSE: w = min(SNR, 5) / SNR for eps, / (SNR + 1) for v."""
    alphas_cumprod = scheduler.alphas_cumprod[timesteps]
    snr = alphas_cumprod / (1 - alphas_cumprod)
    weight = snr.clamp(max=5) / (snr if prediction_type == "epsilon" else snr + 1)
    return (weight * (output - target).square().mean((1, 2, 3))).mean()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("model", ["depth", "id"])
def test_loss_and_gradients_are_the_released_codes(model, prediction_type, unet, adapters):
    scheduler = DDIMScheduler.from_pretrained(ROOT / "base/scheduler")
    facts = json.loads((ROOT / f"train/{model}_{prediction_type}.json").read_text())
    golden = load_file(ROOT / f"train/{model}_{prediction_type}.safetensors")
    batch = load_file(ROOT / f"train/{model}_epsilon.safetensors")
    target = batch["noise"]
    if prediction_type == "v_prediction":
        target = scheduler.get_velocity(batch["latents"], batch["noise"], batch["timesteps"])
        torch.testing.assert_close(target, golden["target"])
    pairs = pairs_of([(i, i + 4, 1.0, 1.0, True, True) for i in range(4)])
    rows = Rows((Variant(),), ("image", model), 4, {model: pairs})
    adapter = adapters[model]

    with attached(unet, adapters), rows.active():
        output = unet(
            batch["noisy_latents"], batch["timesteps"], batch["encoder_hidden_states"]
        ).sample
    loss = min_snr_loss(scheduler, output, target, batch["timesteps"], prediction_type)
    loss.backward()

    assert (output - batch["model_pred"]).abs().max() < TOLERANCE
    assert abs(loss.item() - facts["loss"]) < TOLERANCE
    grads = {released_name(name): p.grad for name, p in adapter.named_parameters()}
    assert grads.keys() == facts["grad_norms"].keys()
    for name, norm in facts["grad_norms"].items():
        # 1e-4 relative: gradients pass the whole network once more; 6e-6 is seen
        assert abs(grads[name].norm().item() / norm - 1) < 1e-4, name
        if f"grad.{name}" in golden:
            expected = golden[f"grad.{name}"]
            error = (grads[name] - expected).norm() / expected.norm()
            assert error < 1e-4, f"{name}: relative error {error:.2e}"
