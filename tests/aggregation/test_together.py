"""Several models in one run, on real networks of tiny size."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

import unicond
from unicond.aggregation.manner import PAPER, PAPER_STYLE, PAPER_THREE, Place, manner_of
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.mechanisms.correction.replacement import Replacement
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism, Report
from unicond.sampling.window import Window

SIDE = 64
ALWAYS = Window.steps(0, 4)
ROUNDING = 1e-4  # across batch sizes, in float32


@pytest.fixture
def depth():
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def other(tiny_base):
    """Another network of the same family: its weights are a little off."""
    model = unicond.load(tiny_base)
    with torch.no_grad():
        for parameter in model.backbone.network.parameters():
            parameter.mul_(1.05)
    return model


def only(model, prompt="a dog", **asked):
    asked = {"branches": ["image"], "num_inference_steps": 4, "seed": [3, 4]} | asked
    return model.prepare(prompt, **asked)


def test_the_picture_is_the_first_models_with_what_the_other_knows(tiny, other, depth):
    alone = only(tiny, depth=depth).run()
    both = unicond.aggregate([only(tiny, depth=depth), only(other, "a cat", seed=[5, 6])])
    assert list(both.pictures) == ["image", "depth"]
    assert torch.equal(both.pictures["depth"], alone.pictures["depth"])
    assert (both.latents["image"] - alone.latents["image"]).abs().max() > 1e-2


def test_the_record_of_several_is_no_record_of_one(tiny, other, tmp_path):
    """It is the first model's, and says that there were others, which it does not hold."""
    alone = only(tiny)
    both = unicond.aggregate([alone, only(other, "a cat")])
    assert both.record == replace(alone.record, mechanisms=("Aggregate",))
    record = read_record(both.save(tmp_path)[0])
    with pytest.raises(
        ValueError, match="made with Aggregate, of which a record holds the name al"
    ):
        repeat(tiny, record)
    own = unicond.aggregate([only(tiny, mechanisms=[Louder(1.1)]), only(other)])
    assert own.record.mechanisms == ("Louder", "Aggregate")


def test_what_each_model_was_given_is_told(tiny, depth):
    """Of the second one under a name of its own."""
    flat = torch.zeros_like(depth)
    both = unicond.aggregate([only(tiny, depth=depth), only(tiny, "a cat", depth=flat)])
    assert {*both.given} == {"depth", "depth_2"}
    assert (both.given["depth"] == depth).all()
    assert (both.given["depth_2"] == flat).all()


def test_weights_of_one_leave_it_alone_bit_for_bit(tiny, other, depth):
    alone = only(tiny, depth=depth).run()
    both = unicond.aggregate([only(tiny, depth=depth), only(other)], [1.0])
    assert torch.equal(both.latents["image"], alone.latents["image"])


def test_a_sample_does_not_depend_on_its_batch(tiny, other, depth):
    def made(seeds, others):
        return unicond.aggregate(
            [only(tiny, depth=depth, seed=seeds), only(other, seed=others)], window=ALWAYS
        ).latents["image"]

    whole = made([3, 4], [5, 6])
    for row, (seed, its) in enumerate(((3, 5), (4, 6))):
        found = made([seed], [its])
        torch.testing.assert_close(whole[row : row + 1], found, rtol=0, atol=ROUNDING)


def test_one_network_can_be_asked_two_things(tiny, depth):
    """Its adapters are attached once, for both."""
    calls = [only(tiny, depth=depth), only(tiny, depth=depth.flip(-1)), only(tiny, "a cat")]
    found = unicond.aggregate(calls, window=ALWAYS).latents["image"]
    assert torch.isfinite(found).all()
    alone = only(tiny, depth=depth).run().latents["image"]
    assert (found - alone).abs().max() > 1e-2
    assert torch.equal(only(tiny, depth=depth).run().latents["image"], alone)


def test_calls_can_be_run_together_again(tiny, other, depth):
    """What `refresh` keeps for some calls is of one run; 3 is no part of its 4 moves."""
    calls = [only(tiny, depth=depth, held="two_way", refresh=3), only(other, "a cat")]
    one, two = (unicond.aggregate(calls, window=ALWAYS).latents["image"] for _ in range(2))
    assert torch.equal(one, two)


def test_the_others_stop_after_the_window(tiny, other):
    calls = []
    hooks = [
        model.backbone.network.register_forward_pre_hook(lambda *_, n=name: calls.append(n))
        for name, model in (("first", tiny), ("second", other))
    ]
    try:
        window = Window.steps(1, 3)
        unicond.aggregate([only(tiny), only(other)], window=window, joined=False)
        own = (calls.count("first"), calls.count("second"))
        calls.clear()
        unicond.aggregate([only(tiny), only(other)], window=window)
    finally:
        for hook in hooks:
            hook.remove()
    assert own == (4, 3)
    assert (calls.count("first"), calls.count("second")) == (4, 2)


def test_a_callback_cancels_and_sees_every_move(tiny, other):
    seen = []

    def callback(progress):
        seen.append(progress.move.number)
        return len(seen) < 2

    with pytest.raises(unicond.Cancelled, match="after move 2 of 4"):
        unicond.aggregate([only(tiny, callback=callback), only(other)])
    assert seen == [0, 1]


def test_calls_that_do_not_go_together_are_refused(tiny, other, depth):
    refused = [
        ([only(tiny)], "several models are aggregated, but 1 given: give at least two"),
        ([], "several models are aggregated, but 0 given"),
        ([only(tiny), only(tiny)], "models 1 and 2 are one model asked the same thing"),
        ([only(tiny), only(other, num_inference_steps=5)], "'2:image' takes 5 moves"),
        ([only(tiny), only(other, seed=[1])], "model 2 makes 1 samples, the first one 2"),
        ([only(tiny), only(other, solver="heun")], "share their solver, .* model 2's heun"),
        (
            [only(tiny, solver="ddim"), only(other, solver="ddim", eta=0.5)],
            r"their solver, but the first one's is DDIM\(eta=0.0\), model 2's DDIM\(eta=0.5\)",
        ),
        ([only(tiny), only(other, size=128)], "share their size"),
        (
            [only(tiny), tiny.prepare(image=depth.expand(3, -1, -1), branches=["depth"])],
            "model 2 is to make depth, but what is aggregated is the image",
        ),
    ]
    for calls, message in refused:
        with pytest.raises(ValueError, match=message):
            unicond.aggregate(calls)
    with pytest.raises(ValueError, match="moves 2 to 4 ends beyond the plan, whose moves are 0 to"):
        unicond.aggregate([only(tiny), only(other)], window=Window.steps(2, 5))
    with pytest.raises(ValueError, match="a model that joins has predicted nothing"):
        unicond.aggregate([only(tiny), only(other)], mean="released")


def test_one_model_loaded_twice_is_one_model(tiny, tiny_base):
    again = unicond.load(tiny_base)
    assert again.backbone.network is not tiny.backbone.network
    with pytest.raises(ValueError, match="models 1 and 2 are one model asked the same thing"):
        unicond.aggregate([only(tiny.only()), only(again)])


class Louder(Mechanism):
    """A mechanism of the caller's own."""

    def __init__(self, factor):
        self.factor = factor

    def settle(self, state, predictions, move):
        latents = self.factor * state.latents["image"]
        said = Report(torch.full((len(latents),), self.factor), 1.0, "factor", "take less")
        return replace(state, latents={**state.latents, "image": latents}).report("louder", said)


@dataclass(frozen=True, eq=False)
class Shifted(Mechanism):
    """Another one, whose fields tell what it does."""

    by: torch.Tensor

    def settle(self, state, predictions, move):
        return replace(state, latents={**state.latents, "image": state.latents["image"] + self.by})


def test_what_no_record_tells_apart_is_compared(tiny, tiny_base, prompter, depth):
    """Image prompts, masks and mechanisms that come from memory."""
    styled = unicond.load(tiny_base, [prompter])
    picture = depth.expand(3, -1, -1)

    def half(left):
        mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        mask[:, : SIDE // 2] = 255 * left
        mask[:, SIDE // 2 :] = 255 * (1 - left)
        return Image.fromarray(mask.numpy())

    def masked(left):
        return only(tiny, image=unicond.given(picture, mask=half(left)))

    def shifted(by):
        return only(tiny, mechanisms=[Shifted(torch.tensor([by]))])

    kinds = [
        lambda one: only(styled, image_prompt=picture.flip(-1) if one else picture),
        masked,
        shifted,
    ]
    for kind in kinds:
        assert torch.isfinite(unicond.aggregate([kind(0), kind(1)]).latents["image"]).all()
        with pytest.raises(ValueError, match="models 1 and 2 are one model asked the same thing"):
            unicond.aggregate([kind(1), kind(1)])
    louder = [only(tiny, mechanisms=[Louder(factor)]) for factor in (1.1, 1.2)]
    assert torch.isfinite(unicond.aggregate(louder).latents["image"]).all()


def test_every_model_reports(tiny, other):
    loud, louder = (
        only(model, mechanisms=[Louder(factor)]) for model, factor in ((tiny, 1.1), (other, 1.2))
    )
    out = unicond.aggregate([loud, louder, only(tiny, "a cat")], window=ALWAYS)
    assert {name: float(said.value[0]) for name, said in out.reports.items()} == pytest.approx(
        {"louder": 1.1, "2:louder": 1.2}
    )
    assert [sentence.split(": ")[0] for sentence in out.shortfalls()] == ["louder", "2:louder"]


@pytest.mark.parametrize("joined", [True, False])
def test_what_is_known_of_the_image_is_kept_behind_the_mix(tiny, other, depth, joined):
    """In the last move, too, where nothing else would put it back."""
    mask = Image.fromarray(np.repeat(np.uint8([[0, 255]]), SIDE, 0).repeat(SIDE // 2, 1))
    known = unicond.given(depth.expand(3, -1, -1), mask=mask)
    call = only(tiny, image=known)
    clean = tiny.backbone.encode(call.inputs.pictures["image"])[..., 4:]
    out = unicond.aggregate([call, only(other)], window=ALWAYS, joined=joined).latents["image"]
    assert torch.equal(out[..., 4:], clean.expand(2, -1, -1, -1))
    alone = only(tiny, image=known).run().latents["image"]
    assert (out - alone)[..., :4].abs().max() > 1e-2


def test_a_window_of_shares_is_counted_as_in_the_run(tiny, tiny_base, prompter, depth):
    styled = unicond.load(tiny_base, [prompter])

    def made(start, stop):
        shown = unicond.ImagePrompt(depth.expand(3, -1, -1), 1.0, Window.share(start, stop))
        calls = [only(tiny), only(styled, "a cat", image_prompt=shown)]
        return unicond.aggregate(calls, window=ALWAYS, joined=False).latents["image"]

    without = unicond.aggregate([only(tiny), only(tiny, "a cat")], window=ALWAYS, joined=False)
    assert (made(0.6, 1.0) - without.latents["image"]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="model 2 is asked in the moves 0 to 3, but its adapter"):
        made(0.9, 1.0)


def test_any_call_can_be_the_first(tiny, other, depth):
    """It is mixed before the others, and what is wrong is told by the calls' own numbers."""

    def calls():
        return [only(other, "a cat"), only(tiny, depth=depth), only(other, "a bird", seed=[5, 6])]

    one, two, three = calls()
    asked = {"window": ALWAYS, "mean": "posterior", "step_sizes": [1.0, 2.0, 3.0], "joined": False}
    wanted = unicond.aggregate([two, one, three], [0.3, 0.6], **asked)
    found = unicond.aggregate(calls(), [0.3, 0.6], first=1, **asked)
    assert found.record == wanted.record
    assert found.record.prompts == two.record.prompts
    assert torch.equal(found.latents["image"], wanted.latents["image"])
    for number in (3, -1):
        with pytest.raises(ValueError, match=f"first is {number}, but there are 3 calls: count fr"):
            unicond.aggregate(calls(), first=number)
    again = [only(tiny, "a cat"), *calls()[1:2], only(tiny, "a cat", seed=[5, 6])]
    with pytest.raises(ValueError, match="models 1 and 3 are one model asked the same thing"):
        unicond.aggregate(again, first=1)


def test_the_papers_manner_has_a_name(tiny, other):
    def made(count=2, **asked):
        words = ("a dog", "a cat", "a bird", "a cow")[:count]
        calls = [
            only(other if n else tiny, text, seed=[10 * n, 10 * n + 1])
            for n, text in enumerate(words)
        ]
        return unicond.aggregate(calls, **asked).latents["image"]

    released = {"mix": "released", "mean": "released", "joined": False, "window": Place(3)}
    for count, manner in ((2, PAPER), (3, PAPER_THREE)):
        said = {"weights": manner.weights, "step_sizes": manner.step_sizes}
        paper = made(count, manner="paper")
        assert torch.equal(paper, made(count, **released, **said))
        assert torch.equal(paper, made(count, manner=manner))
    paper = made(manner="paper")
    slerped = {**released, "mix": "slerp", "weights": PAPER.weights}
    assert torch.equal(made(manner="paper", mix="slerp"), made(**slerped))
    for other_one in ({"mean": "none"}, {"window": Window.steps(1, 2)}, {"weights": [0.9]}):
        assert not torch.equal(made(manner="paper", **other_one), paper)
    for count in (3, 4):
        assert torch.isfinite(made(count, manner="paper", mean="none")).all()
    assert torch.isfinite(made(4, manner="paper")).all()
    with pytest.raises(ValueError, match="manner is 'old'; choose one of default, paper"):
        made(manner="old")
    assert manner_of("paper", 2, pictured=True) == PAPER_STYLE


def test_a_manners_start_is_that_of_the_calls_seeds(tiny, other):
    """The paper's models have noise of their own, sample by sample, unless all join the first."""

    def calls(*seeds):
        words = ("a dog", "a cat", "a bird")
        models = (tiny, other, other)
        return [
            only(model, text, seed=seed)
            for model, text, seed in zip(models, words, seeds, strict=False)
        ]

    message = r"\(start='own'\) all models need other seeds, but those of model {} are .* model {} "
    for seeds, (one, two) in (
        (([3, 4], [3, 4]), (1, 2)),
        (([3, 4], [5, 4]), (1, 2)),
        (([3, 4], [5, 6], [7, 6]), (2, 3)),
    ):
        with pytest.raises(ValueError, match=message.format(one, two)):
            unicond.aggregate(calls(*seeds), manner="paper")
    shared = replace(PAPER, start="shared")
    with pytest.raises(ValueError, match=r"\(start='shared'\) all models need the same seeds, bu"):
        unicond.aggregate(calls([3, 4], [3, 5]), manner=shared)
    unicond.aggregate(calls([3, 4], [3, 4]), manner=shared)
    unicond.aggregate(calls([3, 4], [3, 4]), manner="paper", mean="none", joined=True)


def test_a_solver_of_the_callers_own_has_no_mean_to_pull_to(tiny, other):
    class Own:
        def step(self, predict, state, move):
            return DDIM().step(predict, state, move)

    solver = Own()
    calls = [only(tiny, solver=solver), only(other, "a cat", solver=solver)]
    usual = unicond.aggregate([only(tiny, solver="ddim"), only(other, "a cat", solver="ddim")])
    assert torch.equal(unicond.aggregate(calls).latents["image"], usual.latents["image"])
    with pytest.raises(ValueError, match="not known of Own: choose a solver by name"):
        unicond.aggregate(calls, mean="posterior")


@pytest.mark.parametrize("first", [0, 2])
def test_a_model_that_joins_knows_its_part_in_its_first_call(tiny, other, first):
    """In the state of the first one, with all that this one has put into it."""
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    known, mask = torch.full((1, 4, 8, 8), 3.0), torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    call = only(other, "a cat", mechanisms=[Replacement("image", known, mask, noise=noise)])
    there = call.plan[first].t["image"]
    seen = {"tiny": [], "other": []}
    hooks = [
        model.backbone.network.register_forward_pre_hook(
            lambda _, told, n=name: seen[n].append(told[0][:2].clone())
        )
        for name, model in (("tiny", tiny), ("other", other))
    ]
    try:
        window = Window.steps(first, first + 2)
        unicond.aggregate([only(tiny), call], window=window)
    finally:
        for hook in hooks:
            hook.remove()
    alpha, sigma = tiny.backbone.schedule.alpha(there), tiny.backbone.schedule.sigma(there)
    put = alpha * known + sigma * noise
    mine, theirs = seen["other"][0], seen["tiny"][first]
    torch.testing.assert_close(mine[..., 4:], put[..., 4:])
    assert torch.equal(mine[..., :4], theirs[..., :4])
    assert (mine - theirs)[..., 4:].abs().max() > 1e-2


def test_networks_that_predict_otherwise_are_read_by_their_own_schedule(tiny, other):
    """The very same model, whose output is v instead of noise: the same picture."""
    schedule = other.backbone.schedule
    kept = unicond.aggregate([only(tiny), only(other)], window=ALWAYS).latents["image"]
    network = copy.deepcopy(other.backbone.network)
    run = network.forward

    def as_v(latents, timesteps, *told, **more):
        out = run(latents, timesteps, *told, **more)
        t = [schedule.time(float(index)) for index in timesteps]
        alpha, sigma = (
            torch.tensor([scale(each) for each in t]).float().view(-1, 1, 1, 1)
            for scale in (schedule.alpha, schedule.sigma)
        )
        out.sample = (out.sample - sigma * latents) / alpha
        return out

    network.forward = as_v
    v = replace(schedule, prediction_type="v")
    turned = replace(other, backbone=replace(other.backbone, network=network, schedule=v))
    found = unicond.aggregate([only(tiny), only(turned)], window=ALWAYS).latents["image"]
    torch.testing.assert_close(found, kept, rtol=0, atol=ROUNDING)


def test_what_differs_is_said(tiny, other):
    powers = tuple(power**2 for power in other.backbone.schedule.alphas_cumprod)
    schedule = replace(other.backbone.schedule, alphas_cumprod=powers)
    noisier = replace(other, backbone=replace(other.backbone, schedule=schedule))
    message = r"share the noise schedule, but at t=0.0625 .* has alpha=0\.\d+, sigma=.* alpha=0\."
    with pytest.raises(ValueError, match=message):
        unicond.aggregate([only(tiny), only(noisier)])


def spaced(model, **changes):
    schedule = replace(model.backbone.schedule, **changes)
    return replace(model, backbone=replace(model.backbone, schedule=schedule))


@pytest.mark.parametrize(("spacing", "joined"), [("linspace", True), ("trailing", False)])
def test_steps_that_are_spaced_otherwise_take_the_first_ones_times(tiny, other, spacing, joined):
    """The network is the same, and so is the picture; what it moves besides goes along."""
    short = {"num_inference_steps": 2, "seed": 3}

    def made(model):
        branches = ["image"] if joined else ["image", "depth"]
        calls = [only(tiny, **short), only(model, "a cat", branches=branches, **short)]
        found = unicond.aggregate(calls, window=Window.steps(0, 2), joined=joined)
        return found.latents["image"]

    model = other if joined else tiny
    assert torch.equal(made(spaced(model, spacing=spacing)), made(model))


def test_steps_that_are_not_at_the_same_times_are_named(tiny, other, depth):
    message = (
        r"model 2 begins at t=1 \(plan 'joint', spacing 'trailing', offset \d\), the first one at "
        r"t=0\.\d+ \(plan 'joint', spacing 'leading', offset \d\)"
    )
    with pytest.raises(ValueError, match=message):
        unicond.aggregate([only(tiny), only(other, "a cat", spacing="trailing")])
    left = torch.arange(SIDE).lt(SIDE // 2).float().expand(1, SIDE, -1)
    call = only(tiny, branches=["image", "depth"], depth=unicond.given(depth, mask=left))
    with pytest.raises(ValueError, match=r"one at .*plan 'condition-first'.*: give all the same"):
        unicond.aggregate([call, only(other)])
    coarse = {"branches": ["image", "depth"], "depth": unicond.given(depth, noise=0.5)}
    late = spaced(tiny, spacing="trailing")
    with pytest.raises(ValueError, match="'2:image' takes 4 moves from t=1, 'image' 4 from t=0"):
        unicond.aggregate([only(tiny), only(late, "a cat", **coarse)])


def test_a_model_whose_adapters_are_told_nothing_is_refused(tiny, tiny_base, grounders):
    idle = unicond.load(tiny_base, {"migc": grounders["migc"]})
    with pytest.raises(ValueError, match="model 2: the model has migc, but the call does not say"):
        unicond.aggregate([only(tiny), only(idle)])


def test_each_adapter_must_be_told_something(tiny, tiny_base, grounders, prompter):
    beside = unicond.load(tiny_base, [grounders["migc"], prompter])
    said = unicond.Grounding.of([("a dog", 0.1, 0.2, 0.5, 0.9)])
    told = only(beside, grounding=said)
    message = r"model 1: the model has image-prompt, .* not say what to look at \(image_prompt=\)"
    with pytest.raises(ValueError, match=message):
        unicond.aggregate([told, only(tiny)])
    with pytest.raises(ValueError, match=r"where things are .* or what to look at"):
        unicond.aggregate([only(tiny), only(beside)])


def test_another_adapter_of_the_same_name_on_one_network_is_refused(tiny, depth):
    from unicond.adapters.joint import JointAdapter
    from unicond.model import Loaded

    config = tiny.adapters["depth"].adapter.config
    fresh = JointAdapter.for_network(tiny.backbone.network, config)
    twin = replace(tiny, adapters={"depth": Loaded("fresh", fresh)})
    with pytest.raises(ValueError, match="model 2 brings another adapter 'depth'"):
        unicond.aggregate([only(tiny, depth=depth), only(twin, "a cat", depth=depth)])
