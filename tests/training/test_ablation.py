"""Runs that lack something: what they leave out, and nothing else."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from unicond import conditions
from unicond.training.ablation import VARIANTS, AblatedConfig, AblatedTask, Variant, shortened
from unicond.training.budget import Budget
from unicond.training.joint import JointTask, JointTrainingConfig
from unicond.training.loop import LoopConfig
from unicond.training.presets import tiny
from unicond.training.roles import CONDITION_HELD, IMAGE_HELD, TWO_WAY, Draw

DEPTH = conditions.named("depth")
RECIPE = JointTrainingConfig(
    rank=2,
    y_rank=2,
    role_shares=(0.4, 0.35, 0.25),
    loop=LoopConfig(batch_size=4, lr=1e-3, budget=Budget(steps=80)),
)


@pytest.fixture(scope="module")
def unet(tiny_base):
    return UNet2DConditionModel.from_pretrained(tiny_base / "unet")


def config_of(name):
    return VARIANTS[name].config(RECIPE, 160)


def test_a_whole_run_is_the_recipe():
    config = config_of("full")
    same = {name: value for name, value in vars(config).items() if name in vars(RECIPE)}
    assert same == vars(RECIPE) | {"scenes": 160}
    assert (config.condition_loss, config.joint_layers) == (True, "all")


def test_every_variant_lacks_what_it_says():
    assert config_of("data_1_16").scenes == 10
    assert config_of("steps_1_4").loop.budget.steps == 20
    crossed = config_of("data_1_4_no_condition_loss")
    assert (crossed.scenes, crossed.condition_loss) == (40, False)
    assert crossed.role_shares[2] == 0
    assert sum(crossed.role_shares) == pytest.approx(1)
    assert crossed.role_shares[0] / crossed.role_shares[1] == pytest.approx(0.4 / 0.35)
    quiet = config_of("no_condition_noise")
    assert (quiet.role_shares, quiet.clean_share) == ((0, 1, 0), 1)
    configs = [repr(config_of(name)) for name in VARIANTS]
    assert len(set(configs)) == len(VARIANTS)
    assert shortened(Budget(minutes=8), 0.25).minutes == 2
    assert shortened(Budget(steps=1), 0.25).steps == 1
    assert Variant(data=1e-9).config(RECIPE, 16).scenes == 1


def test_an_adapter_says_what_it_was_trained_for(unet):
    def roles(name):
        return config_of(name).adapter(unet, DEPTH, "here").config.roles

    assert roles("full") == ("two_way", "condition_held", "image_held")
    assert roles("no_condition_loss") == ("two_way", "condition_held")
    assert roles("no_condition_noise") == ("condition_held",)
    assert roles("two_way") == ("two_way",)


def test_the_encoder_has_no_joint_attention(unet):
    adapter = config_of("decoder").adapter(unet, DEPTH, "here")
    frozen = [name for name, value in adapter.named_parameters() if not value.requires_grad]
    assert frozen
    assert all(name.startswith("down_blocks.") and ".joint." in name for name in frozen)
    outs = [name for name in frozen if name.endswith("proj_out.weight")]
    # the output projection starts at zero and stays there: nothing of joint attention is added
    assert outs
    assert all(not adapter.get_parameter(name).any() for name in outs)
    free = [name for name, value in adapter.named_parameters() if value.requires_grad]
    assert any(name.startswith("up_blocks.") and ".joint." in name for name in free)
    assert any(name.startswith("down_blocks.") and ".y." in name for name in free)


def test_the_conditions_errors_do_not_count(unet):
    from unicond.training.diffusion import Noising, mini_scheduler

    noising = Noising.of(mini_scheduler(), torch.device("cpu"))
    role = torch.tensor([TWO_WAY, CONDITION_HELD, IMAGE_HELD])
    index, no = torch.full((3,), 500), torch.zeros(3, dtype=torch.bool)
    drawn = Draw(role, index, index, no, no, no, no)
    errors = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([8.0, 16.0, 32.0])

    def losses(kind, config):
        adapter = config.adapter(unet, DEPTH, "here")
        return kind(config, adapter, unet, noising, None, None).weighed(errors, drawn)

    weight = noising.min_snr(index, RECIPE.gamma, RECIPE.floor)
    every = weight * torch.tensor([9.0, 2.0, 32.0])
    assert torch.allclose(losses(JointTask, RECIPE), every)
    assert torch.allclose(losses(AblatedTask, config_of("full")), every)
    alone = losses(AblatedTask, config_of("no_condition_loss"))
    assert torch.allclose(alone, weight * torch.tensor([1.0, 2.0, 0.0]))


def test_the_ablations_are_no_part_of_the_recipes_that_ship():
    assert type(tiny().joint) is JointTrainingConfig
    assert not vars(AblatedConfig()).keys() <= vars(JointTrainingConfig()).keys()
