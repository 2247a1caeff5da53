"""The table of memory counts what lives, on the meta device as on any other."""

from dataclasses import replace

import pytest
import torch
from benchmarks import training
from benchmarks.training import Alive, Setting, step_bytes
from diffusers import UNet2DConditionModel

from unicond.conditions import named
from unicond.training.joint import JointRecipe

SMALL = Setting(side=128, pairs=2, half=False)


def network(device):
    with torch.device(device):
        return UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64),
            norm_num_groups=8,
            cross_attention_dim=32,
            layers_per_block=1,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).requires_grad_(False)


def turn(setting, device="meta"):
    made = network(device).to(torch.bfloat16 if setting.half else torch.float32)
    adapter = JointRecipe(rank=2, y_rank=2).adapter(made, named("depth"), "x")
    return step_bytes(setting, made, adapter)


def test_what_lives_is_counted_once_and_what_is_gone_no_more():
    with Alive() as alive, torch.device("meta"):
        kept = torch.zeros(1000)
        view = kept[10:]
        view += 1
        for _ in range(5):
            gone = torch.zeros(500)
            del gone
        assert alive.now == 4000
    assert alive.peak == 6000


@pytest.mark.parametrize("half", [False, True])
def test_a_turn_takes_on_the_meta_device_what_it_takes_on_a_cpu(half):
    setting = replace(SMALL, half=half)
    for device in ("meta", "cpu"):
        turn(setting, device)  # makes the masks of a size, which are kept from then on
    assert turn(setting) == turn(setting, "cpu")


def test_what_each_setting_saves():
    plain = turn(SMALL)
    assert turn(replace(SMALL, checkpointing=True)) < 0.5 * plain
    assert turn(replace(SMALL, half=True)) < 0.8 * plain
    one = turn(replace(SMALL, pairs=1))
    assert 1.8 < (turn(replace(SMALL, pairs=4)) - one) / (plain - one) / 1.5 < 2.2


def test_a_row_of_the_real_table():
    """Stable Diffusion 1.5's sizes, which are known."""
    row = training.row(Setting(pairs=1, checkpointing=True))
    assert row["parameters"] == 75_096_064  # as counted in the authors' release
    # 860 M parameters in 2 bytes; 84 M of the autoencoder and 123 M of the words in 4
    assert row["frozen"] == pytest.approx((859.5 * 2 + (83.7 + 123.1) * 4) * 1e6 / 2**30, abs=0.05)
    assert row["adapter"] == pytest.approx(75_096_064 * 16 / 2**30, abs=0.05)
    assert row["peak"] == pytest.approx(row["frozen"] + row["adapter"] + row["encoding"], abs=0.11)
