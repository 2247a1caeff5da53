"""The joint adapter's training: roles, times, dropped prompts, and what its loss leaves out."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from unicond.adapters.joint import JointAdapter
from unicond.conditions import named
from unicond.sampling.prompts import Prompt
from unicond.sampling.schedules import from_config
from unicond.training import roles
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.joint import JointTask, JointTrainingConfig
from unicond.training.loop import seeded
from unicond.training.pairs import Batch, LatentPairs, PairData, noise_of
from unicond.training.processes import Part
from unicond.training.roles import CONDITION_HELD, IMAGE_HELD, TWO_WAY
from unicond.training.text2image import TextToImageConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"
CONFIG = JointTrainingConfig(rank=2, y_rank=2, variants=1, floor=0.1)
N = 20_000


def drawn(config=CONFIG, count=N):
    return roles.draw(config, count, 1000, torch.Generator().manual_seed(0))


def test_prompts_are_dropped_by_the_papers_rule():
    found = drawn()
    x, y = found.drop_x.float(), found.drop_y.float()
    # four standard errors of a share of 20,000
    assert float(x.mean()) == pytest.approx(0.2, abs=0.0115)
    assert float(y.mean()) == pytest.approx(0.2, abs=0.0115)
    assert float((x * y).mean()) == pytest.approx(0.1, abs=0.0085)
    assert not bool(drawn(replace(CONFIG, drop=0.0)).drop_x.any())


def test_roles_come_in_their_shares_and_times_are_independent():
    found = drawn()
    for role, share in zip((TWO_WAY, CONDITION_HELD, IMAGE_HELD), CONFIG.role_shares, strict=True):
        assert float((found.role == role).float().mean()) == pytest.approx(share, abs=0.014)
    free = found.role == TWO_WAY
    times = torch.stack([found.index_x[free], found.index_y[free]]).float()
    assert abs(float(torch.corrcoef(times)[0, 1])) < 4 / int(free.sum()) ** 0.5
    assert int(times.min()) < 5
    assert int(times.max()) > 994


def test_held_branches_are_exactly_clean_in_their_share():
    found = drawn()
    for role, clean, index in (
        (IMAGE_HELD, found.clean_x, found.index_x),
        (CONDITION_HELD, found.clean_y, found.index_y),
    ):
        mine = found.role == role
        assert not bool(clean[~mine].any())
        assert float(clean[mine].float().mean()) == pytest.approx(CONFIG.clean_share, abs=0.03)
        assert bool((index[clean] == 0).all())


def test_under_a_held_image_conditions_are_pure_noise_in_their_share():
    found = drawn()
    held = found.role == IMAGE_HELD
    pure = (found.index_y == 999).float()
    assert float(pure[held].mean()) == pytest.approx(CONFIG.noise_share, abs=0.03)
    assert float(pure[~held].mean()) < 0.005
    assert float((drawn(replace(CONFIG, noise_share=0.0)).index_y == 999).float().mean()) < 0.005


def test_held_branches_hear_nothing():
    found = drawn(count=50)
    pairs = roles.rows_of(found, (16, 16)).pairs[roles.NAME]
    assert torch.equal(pairs.hears_x, found.role != IMAGE_HELD)
    assert torch.equal(pairs.hears_y, found.role != CONDITION_HELD)
    assert torch.equal(pairs.y, pairs.x + 50)


def test_both_views_are_learned_in_their_shares():
    streams = [torch.Generator().manual_seed(seed) for seed in range(400)]
    views = [roles.draw(replace(CONFIG, aligned_share=0.25), 2, 1000, s).aligned for s in streams]
    assert sum(views) / 400 == pytest.approx(0.25, abs=0.09)  # four standard errors
    assert CONFIG.attention == ("global", "aligned")
    assert replace(CONFIG, aligned_share=0.0).attention == ("global",)
    assert replace(CONFIG, aligned_share=1.0).attention == ("aligned",)


@pytest.fixture(scope="module")
def task():
    with seeded(0):
        base = TextToImageConfig(
            block_out_channels=(16, 16), head_width=8, norm_num_groups=4, text_width=16
        )
        unet = base.unet(4)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=20,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                bos_token_id=18,
                eos_token_id=19,
            )
        )
        latents = [torch.randn(6, 4, 16, 16) for _ in range(2)]
        tables = [
            CaptionTable(torch.randint(18, (6, 1, 77), dtype=torch.int16), torch.full((77,), 19))
            for _ in range(2)
        ]
        data = PairData(*latents, *tables)
        adapter = CONFIG.adapter(unet, named("depth"), "test")
        for value in adapter.parameters():
            torch.nn.init.normal_(value, std=0.2)
    noising = Noising.of(mini_scheduler(), "cpu")
    pairs = LatentPairs(data, text)
    return JointTask(CONFIG, adapter, unet, noising, pairs, pairs)


def errors_of(task, rows, drawn, seed, **changes):
    """The task's errors on pairs `rows`, some of whose data are changed."""
    generator = torch.Generator().manual_seed(seed)
    pairs = replace(task.train, data=replace(task.train.data, **changes))
    part = Part(0, len(rows))
    batch = pairs.at(rows, part, drawn.drop_x, drawn.drop_y, generator)
    return task.errors(batch, drawn, noise_of(batch, part, generator))


def test_a_held_branchs_loss_is_left_out_and_it_depends_on_nothing(task):
    """The adapter's weights move a held branch's error through its own y-LoRA alone."""
    generator = torch.Generator().manual_seed(0)
    found = roles.draw(replace(CONFIG, role_shares=(0.0, 1.0, 0.0)), 6, 1000, generator)
    rows = torch.arange(6)
    zeros = torch.zeros(6, 4, 16, 16)
    errors = [errors_of(task, rows, found, 1, **change) for change in ({}, {"image": zeros})]
    assert torch.allclose(errors[0][1], errors[1][1], atol=1e-5)  # the condition hears no image
    assert not torch.allclose(errors[0][0], errors[1][0], atol=1e-3)
    other = [errors_of(task, rows, found, 1, **change)[0] for change in ({}, {"condition": zeros})]
    assert not torch.allclose(other[0], other[1], atol=1e-4)  # the image hears the condition


def test_losses_are_weighted_sums_of_the_branches_that_count(task):
    found = task.losses(Part(0, 6), torch.Generator().manual_seed(2)).detach()
    generator = torch.Generator().manual_seed(2)
    drawn = roles.draw(CONFIG, 6, 1000, generator)
    batch = task.train.batch(Part(0, 6), drawn, generator)
    noise = noise_of(batch, Part(0, 6), generator)
    x, y = (part.detach() for part in task.errors(batch, drawn, noise))
    for n in range(6):
        weights = [
            float(task.noising.min_snr(index[n : n + 1], 5.0, 0.1))
            for index in (drawn.index_x, drawn.index_y)
        ]
        expected = 0.0
        if drawn.role[n] != IMAGE_HELD:
            expected += weights[0] * float(x[n])
        if drawn.role[n] != CONDITION_HELD:
            expected += weights[1] * float(y[n])
        assert float(found[n]) == pytest.approx(expected, rel=1e-4)


def test_places_weigh_by_their_focus_where_noise_leaves_them(task):
    """From the errors with two complementary focuses follow those of the places themselves."""
    rows = torch.arange(6)
    drawn = replace(
        roles.clean_draw(TWO_WAY, torch.full((6,), 400), False), index_y=torch.full((6,), 999)
    )
    mask = torch.zeros(6, 1, 16, 16)
    mask[..., :4] = 1.0  # a quarter of the places
    plain = errors_of(task, rows, drawn, 1)
    one, rest = (
        errors_of(task, rows, drawn, 1, focus=(3.0 * part, 3.0 * part)) for part in (mask, 1 - mask)
    )
    weight = 3.0 * float(task.noising.alpha[400]) ** 2

    def there(found, share):
        return ((1 + weight * share) * found - plain[0]) / (weight * share)

    mean = 0.25 * there(one[0], 0.25) + 0.75 * there(rest[0], 0.75)
    assert torch.allclose(mean, plain[0], rtol=1e-4)
    assert not torch.allclose(one[0], rest[0], rtol=1e-2)
    assert torch.equal(one[1], plain[1])  # pure noise has no places


def test_processes_share_a_batch(task):
    """The parts of a batch have the losses of the whole, whatever is drawn for it."""
    whole = task.losses(Part(0, 6), torch.Generator().manual_seed(5)).detach()
    for count in (2, 3):
        parts = [
            task.losses(Part(9, 6, number, count), torch.Generator().manual_seed(5)).detach()
            for number in range(count)
        ]
        assert {len(part) for part in parts} == {6 // count}
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-4)


def test_blocks_that_are_called_again_give_the_same_gradients(task):
    found = []
    for recompute in (False, True):
        task.adapter.zero_grad()
        task.recompute = recompute
        task.losses(Part(0, 6), torch.Generator().manual_seed(3)).mean().backward()
        found.append(
            {n: v.grad.clone() for n, v in task.adapter.named_parameters() if v.grad is not None}
        )
    task.recompute = False
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        # the plain step's normalisation has a backward pass of its own (see `norm`)
        assert torch.allclose(found[1][name], value, rtol=1e-3, atol=1e-5), name


def test_scores_do_not_depend_on_how_many_fit_into_a_call(task):
    @dataclass(frozen=True)
    class Few(LatentPairs):
        at_once = 2

    plain = task.scores()
    task.held = Few(task.held.data, task.held.text_encoder)
    assert task.scores() == pytest.approx(plain, rel=1e-4)
    task.held = task.train


def test_the_base_stays_frozen_and_the_adapter_learns(task):
    task.losses(Part(0, 6), torch.Generator().manual_seed(3)).mean().backward()
    assert all(value.grad is None for value in task.unet.parameters())
    assert any(
        float(v.grad.abs().max()) > 0 for v in task.adapter.parameters() if v.grad is not None
    )
    scores = task.scores()
    assert set(scores) == {"v_error_image", "v_error_condition"}


def test_every_field_is_used(task):
    def losses(**changes):
        other = JointTask(
            replace(CONFIG, **changes),
            task.adapter,
            task.unet,
            task.noising,
            task.train,
            task.held,
        )
        return other.losses(Part(0, 6), torch.Generator().manual_seed(4)).detach()

    plain = losses()
    estimating = losses(role_shares=(0.0, 0.0, 1.0))
    assert not torch.equal(losses(role_shares=(0.0, 0.0, 1.0), noise_share=0.0), estimating)
    for changes in (
        {"role_shares": (0.0, 0.5, 0.5)},
        {"clean_share": 0.0, "role_shares": (0.0, 0.5, 0.5)},
        {"drop": 0.33},
        {"gamma": 0.1},
        {"floor": 0.9},
    ):
        assert not torch.equal(losses(**changes), plain), changes
    shapes = {
        name: tuple(value.shape)
        for name, value in replace(CONFIG, rank=3, y_rank=0)
        .adapter(task.unet, named("depth"), "b")
        .state_dict()
        .items()
    }
    assert shapes != {n: tuple(v.shape) for n, v in task.adapter.state_dict().items()}
    edges = CONFIG.adapter(task.unet, named("softedge"), "b").config
    assert (edges.y, edges.trigger, edges.post_joint) == ("softedge", "edges_map, ", "conv_fuse")
    loose = CONFIG.adapter(task.unet, named("identity"), "b").config
    assert (loose.y_rank, loose.trigger, loose.post_joint) == (0, "", "conv")


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"role_shares": (0.5, 0.5, 0.5)}, "shares of 1"),
        ({"drop": 0.5}, "drop"),
        ({"noise_share": 1.5}, "noise_share"),
        ({"gamma": 0.0}, "gamma"),
        ({"focus": -1.0}, "focus"),
    ):
        with pytest.raises(ValueError, match=words):
            JointTrainingConfig(**changes)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_the_released_trainers(kind):
    """Golden: the authors' own code, one step of 4 pairs on the fixture network."""
    tensors = load_file(GOLDEN / "train" / "depth_epsilon.safetensors")
    wanted = load_file(GOLDEN / "train" / f"depth_{kind}.safetensors")["loss"]
    unet = UNet2DConditionModel.from_pretrained(GOLDEN / "base" / "unet")
    adapter = JointAdapter.from_pretrained(GOLDEN / "weights" / "depth")
    config = json.loads((GOLDEN / "base/scheduler/scheduler_config.json").read_text())
    noising = Noising.on(from_config(config | {"prediction_type": kind}), "cpu")
    latents, prompts = tensors["latents"], Prompt(tensors["encoder_hidden_states"])
    batch, (index_x, index_y) = Batch(latents, prompts), tensors["timesteps"].chunk(2)
    never = torch.zeros(4, dtype=torch.bool)
    role = torch.full((4,), TWO_WAY)
    drawn = roles.Draw(role, index_x, index_y, never, never, never, never)
    task = JointTask(replace(CONFIG, floor=0.0), adapter, unet, noising, None, None)
    errors = torch.cat(task.errors(batch, drawn, tensors["noise"]))
    loss = (noising.min_snr(tensors["timesteps"], 5.0, 0.0) * errors).mean()
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-5)
