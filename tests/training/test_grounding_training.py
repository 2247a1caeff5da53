"""Grounding adapters: that they learn and nothing else does, their scores, that runs go on."""

import copy
from dataclasses import replace

import pytest
import small
import torch

from unicond.adapters.grounding.attach import Attachment
from unicond.adapters.grounding.boxes import Regions
from unicond.adapters.grounding.migc import Wanted
from unicond.training import presets, things
from unicond.training.budget import Budget
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.grounding import METHODS, GroundingTask, GroundingTrainingConfig
from unicond.training.loop import LoopConfig, Setup, fit
from unicond.training.processes import Part
from unicond.training.text2image import Pictured
from unicond.training.things import Phrases, Placed

LOOP = LoopConfig(batch_size=4, lr=0.02, budget=Budget(steps=4), precision="no")
CONFIG = GroundingTrainingConfig(slots=4, loop=LOOP)
N, THINGS, RELATIONS, PHRASES = 6, 3, 5, 9


@pytest.fixture(scope="module")
def base():
    return small.base()


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    table = torch.randint(18, (N, 1, 77), generator=generator, dtype=torch.int16)
    low = torch.rand(N, THINGS, 2, generator=generator) / 2
    size = 0.25 + torch.rand(N, THINGS, 2, generator=generator) / 4
    told = [[0, 7, 1], [1, 8, 2], *([thing, 6, thing] for thing in range(THINGS))]
    return Placed(
        pictures=Pictured(drawn(N, 4, 8, 8), CaptionTable(table, torch.full((77,), 19))),
        boxes=torch.cat([low, low + size], 2),
        seen=torch.ones(N, THINGS, dtype=torch.bool),
        names=torch.randint(PHRASES, (N, THINGS, 4), generator=generator),
        relations=torch.tensor(told).expand(N, -1, -1),
        alone=torch.tensor([one[0] == one[2] for one in told]).expand(N, -1),
        shown=torch.ones(N, RELATIONS, dtype=torch.bool),
        firm=torch.tensor([True, *[False] * 4]).expand(N, -1),
        phrases=Phrases(drawn(PHRASES, 16), drawn(PHRASES, 77, 16)),
        size=(64, 64),
    )


def recipe(method, **changes):
    """MIGC always has something to be told."""
    fixed = {"nothing": 0.0, "both": 0.0} if method == "migc" else {}
    return replace(CONFIG, method=method, **(fixed | changes))


@pytest.fixture
def made(base, data):
    def make(config, opened=True):
        adapter = config.adapter(base["unet"], "test")
        with torch.no_grad():
            for name, value in adapter.named_parameters():
                if name.endswith(("attn.to_out.0.weight", "ff.net.2.weight")) and opened:
                    value.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(2))
        noising = Noising.of(mini_scheduler(), "cpu")
        return GroundingTask(config, adapter, base, noising, data, data)

    return make


def losses(task, seed=0, part=None):
    return task.losses(part or Part(0, N), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("method", "share"),
    # MIGC has cross-attention alone, of which this base's random pictures hardly hang, and adds
    # nothing at first
    [("gligen", 0.75), ("interact", 0.75), ("migc", 0.98)],
)
def test_the_loss_falls_on_a_fixed_batch_and_the_base_stays(made, base, method, share):
    task = made(recipe(method), opened=False)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    adam = torch.optim.Adam(task.trained().parameters(), lr=3e-2)
    found = []
    for _ in range(16):
        loss = losses(task).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        found.append(float(loss.detach()))
    assert found[-1] < share * found[0]
    assert all(value.grad is None for value in base.parameters())
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_the_bases_errors_with_what_is_told(made, data, method):
    """The same draws, the network run by hand."""
    shares = (0.0, 0.0) if method == "migc" else (0.2, 0.2)
    task = made(recipe(method, drop=0.3, nothing=shares[0], both=shares[1]))
    found = losses(task, 3).detach()
    generator = torch.Generator().manual_seed(3)
    rows = torch.multinomial(data.weights(method), N, replacement=True, generator=generator)
    fate, (nothing, both) = torch.rand(N, generator=generator), shares
    silent, wordless = fate < nothing + both, (fate >= nothing) & (fate < nothing + both + 0.3)
    tokens = data.pictures.captions.drawn(rows, wordless, generator)
    index = task.times(N, generator)
    told = things.draw(data, task.config, rows, silent, generator)
    noise = torch.randn(N, 4, 8, 8, generator=generator)
    noisy, target = task.noising.noised(data.pictures.latents[rows], index, noise)
    inputs = things.inputs_of(data, method, told)
    with torch.no_grad():
        prompts = task.text_encoder(tokens).last_hidden_state
        plain = task.unet(noisy, index, prompts).sample
        with Attachment(task.unet, task.adapter, inputs).active():
            drawn = task.unet(noisy, index, prompts).sample
    wanted = (drawn - target).square().mean((1, 2, 3))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - (plain - target).square().mean((1, 2, 3))).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_parts_of_a_batch_are_the_batch(made, method):
    task = made(recipe(method, some=0.8))
    parts = [losses(task, part=Part(9, N, number, 3)).detach() for number in range(3)]
    torch.testing.assert_close(torch.cat(parts), losses(task).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_breaks_off_goes_on_bit_for_bit(made, tmp_path, method):
    config = recipe(method)
    pauses = Setup(pause_steps=2)
    whole, broken, again = (made(config) for _ in range(3))
    fit(whole, LOOP, tmp_path / "whole", setup=pauses)
    batches, own = [], broken.losses

    def breaks(part, generator):
        batches.append(part.number)
        if len(batches) > 3:
            raise RuntimeError("the power went")
        return own(part, generator)

    broken.losses = breaks
    with pytest.raises(RuntimeError, match="power"):
        fit(broken, LOOP, tmp_path / "parts", setup=pauses)
    with torch.no_grad():
        for value in again.trained().parameters():
            value.zero_()  # whatever it starts from, the checkpoint counts
    fit(again, LOOP, tmp_path / "parts", setup=pauses)
    there = again.trained().state_dict()
    for name, value in whole.trained().state_dict().items():
        assert torch.equal(there[name], value), name


@pytest.fixture
def many(made, data):
    """What the network is asked in 2000 draws of a recipe."""

    def run(config):
        task, count, asked = made(config), 2000, []

        def errors(_, tokens, index, __, inputs):
            asked.append((tokens, index, inputs))
            return torch.zeros(count)

        task.errors = errors
        losses(task, part=Part(0, count))
        tokens, index, inputs = asked[0]
        empty = (tokens == data.pictures.captions.empty).all(1)
        return empty, inputs.masks.sum(1) == 0, index

    return run


def test_what_guidance_subtracts_is_drawn_as_such(many):
    empty, nothing, _ = many(recipe("interact", drop=0.3, nothing=0.05, both=0.1))
    found = [(empty & ~nothing), (nothing & ~empty), (empty & nothing)]
    shares = [float(one.float().mean()) for one in found]
    assert shares == pytest.approx([0.3, 0.05, 0.1], abs=0.045)  # four standard errors
    empty, nothing, _ = many(presets.mini().grounding_of("migc"))
    assert not nothing.any()
    assert float(empty.float().mean()) == pytest.approx(0.3, abs=0.045)
    for method in ("gligen", "interact"):
        empty, nothing, _ = many(presets.mini().grounding_of(method))
        assert 0.05 <= float((empty & nothing).float().mean()) <= 0.12


def test_times_are_where_the_adapter_acts(many):
    """MIGC's early ones alone, all of them; the others' everywhere, more of them early."""
    _, _, index = many(presets.mini().grounding_of("migc"))
    assert index.min() in range(500, 510)
    assert index.max() in range(990, 1000)
    tenths = index.div(100, rounding_mode="floor").bincount(minlength=10) / len(index)
    assert tenths.tolist() == pytest.approx([0.0] * 5 + [0.2] * 5, abs=0.02)
    _, _, index = many(recipe("gligen", early=0.7))
    tenths = index.div(100, rounding_mode="floor").bincount(minlength=10) / len(index)
    assert tenths.tolist() == pytest.approx([0.03] * 5 + [0.17] * 5, abs=0.035)


def test_scores_compare_with_the_base_alone(made, data):
    """A fresh fuser changes nothing: the gain is 0."""
    task = made(recipe("gligen"), opened=False)
    found = task.scores()
    assert found["v_error"] == found["v_error_without"]
    gains = [found[f"gain_at_{t}"] for t in (0.999, 0.7, 0.4)]
    assert gains == [0.0] * 3
    opened = made(recipe("gligen"))
    scores = opened.scores()
    assert scores["v_error_without"] == found["v_error_without"]
    assert scores["v_error"] != scores["v_error_without"]
    assert opened.scores() == scores
    opened.train = replace(data, boxes=data.boxes / 2)
    assert opened.scores() == scores
    opened.held = opened.train
    assert opened.scores() != scores


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_a_few_at_once_are_those_of_all(made, method):
    task = made(recipe(method))
    whole = task.scores()
    task.at_once = 4  # of 6: two parts of 3
    assert task.scores() == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_with_blocks_called_again_are_the_same(made, method):
    found = []
    for again in (False, True):
        task = made(recipe(method))
        task.recompute = again
        losses(task).mean().backward()
        found.append({n: v.grad for n, v in task.adapter.named_parameters() if v.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_base_in_half_precision_computes_in_it_and_hears_its_words_in_their_own(made, base):
    task = made(recipe("gligen"))
    whole, heard = losses(task).detach(), []
    own = task.text_encoder.forward
    task.unet = copy.deepcopy(task.unet).bfloat16()
    task.text_encoder.forward = lambda *told, **more: heard.append(own(*told, **more)) or heard[-1]
    try:
        with torch.autocast("cpu", torch.bfloat16):  # as in the loop
            half = losses(task).detach()
        scores = task.scores()
    finally:
        del task.text_encoder.forward
    assert heard[0].last_hidden_state.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.02)
    assert scores == pytest.approx(made(recipe("gligen")).scores(), abs=0.05)


def test_gains_are_shares_of_the_errors_at_their_times(made):
    task = made(recipe("interact"))
    found, seen = task.scores(), []
    own = task.errors
    task.errors = lambda *told: seen.append((told[2], own(*told))) or seen[-1][1]
    task.scores()
    (index, given), (_, without) = seen
    for t, k in ((0.999, 999), (0.7, 700), (0.4, 400)):
        gain = 1 - given[index == k].mean() / without[index == k].mean()
        assert found[f"gain_at_{t}"] == pytest.approx(float(gain), abs=1e-6)
    assert found["v_error"] == pytest.approx(float(given.mean()))


def test_the_text_is_heard_unless_it_is_dropped(made, data):
    for drop, heard in ((0.0, True), (1.0, False)):
        task = made(recipe("gligen", drop=drop, nothing=0.0, both=0.0))
        before = losses(task).detach()
        other = replace(data.pictures.captions, table=torch.full((N, 1, 77), 5))
        task.train = replace(data, pictures=replace(data.pictures, captions=other))
        assert torch.equal(losses(task).detach(), before) is not heard


def test_every_field_is_used(made):
    plain = losses(made(recipe("interact"))).detach()
    loop = replace(LOOP, seed=1)
    changed = [{"hidden": 8}, {"slots": 1}, {"drop": 0.8}, {"nothing": 0.6}, {"both": 0.6}]
    changed += [{"early": 0.0}, {"some": 1.0}, {"alone": 1.0}, {"colored": 0.1}]
    for changes in (*changed, {"method": "gligen"}, {"loop": loop}):
        config = replace(recipe("interact"), **changes)
        assert not torch.equal(losses(made(config)).detach(), plain), changes
    widths = made(recipe("migc", blocks=("mid_block",))).adapter.widths
    assert {name.partition(".")[0] for name in widths} == {"mid_block"}
    assert made(recipe("migc")).adapter.widths.keys() > widths.keys()


@pytest.mark.parametrize("method", ["gligen", "interact"])
def test_a_fresh_fuser_learns_behind_open_gates(made, method):
    """Its last matrices have gradients, of what it is told, from the first step on."""
    task = made(recipe(method, nothing=0.0, both=0.0), opened=False)
    losses(task).sum().backward()
    for _, part in task.adapter.parts():
        assert (part.alpha_attn, part.alpha_dense) == (1.0, 1.0)
        for last in (part.attn.to_out[0].weight, part.ff.net[-1].weight):
            assert not last.any()
            assert last.grad.abs().max() > 0


def test_a_fresh_migc_hears_phrases_in_their_boxes_and_the_prompt_elsewhere(made):
    (_, part), *_ = made(recipe("migc", slots=6)).adapter.parts()
    width, generator = part.norm.normalized_shape[0], torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    masks = torch.tensor([[1.0, 1.0, 0.0]])
    regions = Regions.of(boxes, masks, (64, 64), (8, 8))
    prompt, heard, picture, phrases = (
        torch.randn(*shape, generator=generator)
        for shape in ((1, 64, width), (2, 64, width), (1, 64, width), (1, 3, 16))
    )
    told = Wanted(phrases, boxes, masks, regions)
    with torch.no_grad():
        out = part(prompt, heard, picture, told, torch.arange(6)[None])
    wanted = prompt.clone()
    for number in (0, 1):
        inside = regions.instances[0, number].flatten() == 1
        wanted[:, inside] = heard[None, number, inside]
    gap = (out - wanted).square().mean() / wanted.square().mean()
    assert gap.sqrt() < 0.15  # the three other phases hear nothing there, e^-5 of the sum each


def test_an_adapter_is_one_of_its_network(base):
    config = recipe("interact").adapter(base["unet"], "mini@1").config
    assert (config.method, config.base, config.slots) == ("interact", "mini@1", 4)
    assert (config.text, config.tokens) == (16, 16)


def test_recipes_differ_by_method():
    recipes = presets.mini()
    for method in METHODS:
        config = recipes.grounding_of(method)
        assert config.method == method
        share = presets.MINUTE_SHARES[method]
        assert config.loop.budget.minutes == share * recipes.grounding.loop.budget.minutes
        assert config.drop == 0.3
    assert recipes.grounding_of("gligen").nothing > recipes.grounding_of("migc").nothing == 0
    tiny = presets.tiny()
    assert tiny.grounding_of("gligen") == tiny.grounding  # budgets in steps stay


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"method": "layout"}, "choose one of gligen, interact, migc"),
        ({"drop": 1.5}, "drop must be in"),
        ({"colored": -0.1}, "colored must be in"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"variants": 0}, "variants must be at least 1"),
        ({"method": "migc"}, "nothing is 0.05 and both 0.08, but MIGC learns"),
        ({"method": "migc", "nothing": 0.0}, "nothing is 0.0 and both 0.08, but MIGC learns"),
        ({"drop": 0.9, "nothing": 0.1}, "drop, nothing and both are 0.9, 0.1 and 0.08"),
    ):
        with pytest.raises(ValueError, match=words):
            GroundingTrainingConfig(**changes)
