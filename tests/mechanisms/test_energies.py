"""Guidance by energies: of the predicted picture in closed form, of attention maps by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from measured import MEAN, SHAPE, TRUTH, VP, gaussian, random, sample, start

from unicond.adapters.readout import ReadoutConfig, ReadoutHead, channels_of
from unicond.denoisers.network import NetworkDenoiser
from unicond.mechanisms.attention import words
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.guidance.classifier import Classifier
from unicond.mechanisms.guidance.energies import Watch
from unicond.mechanisms.guidance.layout import Layout, Placed, _MiddleAndFirstUp
from unicond.mechanisms.guidance.properties import (
    Appearance,
    Position,
    Seen,
    Shape,
    Size,
    appearance,
    centroid,
    shape,
)
from unicond.mechanisms.guidance.readout import Readout, upward
from unicond.mechanisms.guidance.self_guidance import SelfGuidance
from unicond.mechanisms.guidance.universal import Descent, Universal, travelled
from unicond.sampling import plans
from unicond.sampling.controls import Layer, Recorder, acting
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, DPMSolverPP2M
from unicond.sampling.state import Move, Setup, State
from unicond.sampling.window import ALWAYS, Window

PROMPT = "a red ball"
PLAIN = (Variant(),)
TIMES = [0.9, 0.6, 0.3]
MOVE = Move({"image": 0.6}, {"image": 0.5})


def quadratic(x0):
    return 0.5 * (x0.flatten(1) - TRUTH).square().sum(1)


def of_mean(t, latents):
    """x0_hat (B, n) of white pixels of mean MEAN, and its slope."""
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    slope = alpha / (alpha**2 + sigma**2)
    return MEAN + slope * (latents.flatten(1) - alpha * MEAN), slope


# --- universal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m"])
def test_a_quadratic_energy_is_a_classifier(solver):
    """The same function of the latents, through the network or by hand, to the end of a run."""
    by_hand = Classifier(
        log_probability=lambda latents, t: -quadratic(of_mean(t, latents)[0]), scale=2.0
    )
    latents = random(2, *SHAPE)
    expected = sample([by_hand], solver=solver, latents=latents)
    found = sample([Universal(energy=quadratic, scale=2.0)], solver=solver, latents=latents)
    assert torch.allclose(found, expected, atol=1e-10)
    assert (found - sample([], solver=solver, latents=latents)).abs().max() > 0.1


def test_universal_guidance_is_its_formula():
    """Forward, then backward on what forward made; both belong to the latents."""
    latents = random(3, *SHAPE)
    (x0, slope), (alpha, sigma) = of_mean(0.6, latents), (VP.alpha(0.6), VP.sigma(0.6))
    x0 = x0 - 1.5 * sigma**2 / alpha * slope * (x0 - TRUTH)
    x0 = x0 + (1 - (1 - 0.3) ** 4) * (TRUTH - x0)  # the gradient of E is x0 - TRUTH
    eps = (latents.flatten(1) - alpha * x0) / sigma
    one = Universal(energy=quadratic, scale=1.5, backward=Descent(iterations=4, learning_rate=0.3))
    steps = run(start(latents, 0.6), gaussian(), [MOVE], DDIM(), [one])
    found = next(steps).state.latents["image"].flatten(1)
    assert torch.allclose(found, VP.alpha(0.5) * x0 + VP.sigma(0.5) * eps, atol=1e-10)


def test_backward_alone_arrives_where_the_energy_is_lowest():
    one = Universal(energy=quadratic, scale=0.0, backward=Descent(iterations=1, learning_rate=1.0))
    found = sample([one], latents=random(2, *SHAPE))
    assert torch.allclose(found, TRUTH.expand(2, -1), atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"scale": 0.0, "backward": Descent()}])
def test_universal_guidance_is_each_samples_own(options):
    latents = random(3, *SHAPE) * torch.tensor([0.1, 1, 30]).view(3, 1, 1, 1)
    one = Universal(energy=quadratic, **options)
    together = sample([one], latents=latents)
    for row in range(3):
        assert torch.allclose(sample([one], latents=latents[row : row + 1])[0], together[row])


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"window": Window.steps(50, 99)}])
def test_universal_guidance_that_is_off_is_absent(options):
    calls = []

    def counted(x0):
        calls.append(len(x0))
        return quadratic(x0)

    latents = random(2, *SHAPE)
    found = sample([Universal(energy=counted, **options)], latents=latents)
    assert torch.equal(found, sample([], latents=latents))
    assert len(calls) == (0 if "scale" in options else 1)  # tried once


def test_time_travel_goes_the_middle_several_times():
    plan = plans.descend(VP.times(10), {"image": 1.0})
    assert travelled(plan, 1) == plan
    moves = travelled(plan, 3)
    plans.check(moves)
    gone = [[m.t["image"] for m in moves if m.kind == "step"].count(m.t["image"]) for m in plan]
    assert gone == [1, 1, 1, 3, 3, 3, 3, 1, 1, 1]
    back = [m for m in moves if m.kind == "renoise"]
    assert len(back) == 8
    assert all(m.s["image"] > m.t["image"] for m in back)
    assert [m.t["image"] for m in travelled(plan, 2, 0.8, 1.0)][-2:] == [
        plan[-2].t["image"],
        plan[-1].t["image"],
    ]
    for bad in ((0.5, 0.5), (0.7, 0.3), (0.98, 1.0)):
        with pytest.raises(ValueError, match="shares"):
            travelled(plan, 2, *bad)


WEIGHT = torch.ones(6, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (lambda x0: quadratic(x0).mean(), r"shape \(\) for 2 samples; it must be \(2,\)"),
        (lambda x0: x0.square().flatten(1), r"shape \(2, 6\)"),
        (lambda x0: quadratic(x0.detach()), "no gradient"),
        (lambda x0: (x0.detach().flatten(1) * WEIGHT).sum(1), "its own weights"),
        (lambda x0: float(x0.detach().sum()), r"returned [-\d.]+; it must be a tensor \(2,\)"),
        (lambda _: None, r"returned None; it must be a tensor \(2,\)"),
        (lambda x0: quadratic(x0) / 0, r"returned \[inf, inf\]: all must be finite"),
    ],
)
def test_energies_that_are_none_are_refused_before_the_run(energy, said):
    denoiser = pytest.fail
    with pytest.raises(ValueError, match=said):
        sample([Universal(energy=energy)], latents=random(2, *SHAPE), denoiser=denoiser)
    with pytest.raises(ValueError, match="of 'depth', but the branches of this run are image"):
        sample([Universal(energy=quadratic, branch="depth")])
    with pytest.raises(ValueError, match="scale is -1"):
        Universal(energy=quadratic, scale=-1)
    off = Universal(energy=quadratic, scale=0.0, branch="depth")
    assert torch.equal(sample([off]), sample([]))
    with pytest.raises(ValueError, match="iterations >= 1"):
        Descent(iterations=0)


# --- on networks ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tiny):
    return copy.deepcopy(tiny.backbone.network).double().requires_grad_(False)


@pytest.fixture(scope="module")
def red(tiny):
    return words.places(tiny.backbone.tokenizers[0], PROMPT, ["red"])


@pytest.fixture(scope="module")
def ball(tiny):
    return words.places(tiny.backbone.tokenizers[0], PROMPT, ["ball"])


def denoiser_of(tiny, network=None, branches=("image",)):
    prompt = tiny.backbone.encode_prompts([PROMPT])
    table = {
        "positive": dict.fromkeys(branches, prompt),
        "negative": dict.fromkeys(branches, tiny.backbone.encode_negative("")),
    }
    return NetworkDenoiser(network or tiny.backbone.network, table)


def state_of(tiny, t=TIMES[0], seeds=(0, 1), branches=("image",), dtype=torch.float32):
    noise = Generators(seeds, branches)
    latents = {b: noise.draw(b, torch.zeros(len(seeds), 4, 8, 8, dtype=dtype)) for b in branches}
    return State(latents, dict.fromkeys(branches, t), tiny.backbone.schedule, noise)


@torch.no_grad()
def walked(tiny, *mechanisms, seeds=(0, 1), branches=("image",), solver=None):
    """{branch: latents} at the end of three moves under text guidance."""
    plan = plans.path({b: [*TIMES, 0.0] for b in branches})
    everything = [*mechanisms, ClassifierFree(2.0)]
    state, denoiser = (
        state_of(tiny, seeds=seeds, branches=branches),
        denoiser_of(tiny, branches=branches),
    )
    *_, last = run(state, denoiser, plan, solver or DDIM(), everything)
    return last.state.latents


@pytest.fixture(scope="module")
def head(tiny):
    blocks = channels_of(tiny.backbone.network)
    config = ReadoutConfig(kind="depth", blocks=blocks, channels=1, width=16)
    return ReadoutHead(config, torch.Generator().manual_seed(0)).requires_grad_(False)


@pytest.fixture(scope="module")
def kinds(red, ball, head):
    left = Placed(words=red, box=(0.0, 0.0, 0.5, 1.0))
    return {
        "layout": Layout(
            objects=[left, Placed(words=ball, box=(0.25, 0.4, 1.0, 0.9))],
            window=ALWAYS,
            iterations=2,
            stop=0.0,
        ),
        "self": SelfGuidance(
            terms=[Position(words=red, to=(0.2, 0.7)), Size(words=ball, to=0.1, weight=2.0)]
        ),
        "source": SelfGuidance(
            terms=[
                Position(words=red, source_words=ball, by=(0.1, 0.0)),
                Size(words=red, source_words=ball, times=1.5),
                Shape(words=ball, source_words=red),
                Appearance(words=ball, source_words=red),
            ]
        ),
        "readout": Readout(head=head, wanted=torch.ones(1, 1, 64, 64)),
    }


@pytest.fixture(scope="module")
def plain(tiny):
    return walked(tiny)


ACTIVE = ["layout", "self", "source", "readout"]


@pytest.mark.parametrize("name", ACTIVE)
def test_a_sample_alone_and_in_a_batch_is_the_same(tiny, kinds, name):
    branches = ("image", "source") if name == "source" else ("image",)
    found, alone = (walked(tiny, *one, branches=branches) for one in ([kinds[name]], []))
    both = found["image"]
    if name == "source":  # which is only looked at, and where the image starts
        assert torch.equal(found["source"], alone["source"])
        alone["image"] = alone["source"]
    assert (both - alone["image"]).abs().max() > 1e-3
    for row in (0, 1):
        one = walked(tiny, kinds[name], seeds=(row,), branches=branches)["image"]
        # guided states reach 4 and more, and float32 rounds in proportion
        torch.testing.assert_close(both[row : row + 1], one, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("layout", {"scale": 0.0}),
        ("layout", {"objects": ()}),
        ("layout", {"window": Window.steps(9, 99)}),
        ("layout", {"stop": 2.0}),  # it looks, and is content
        ("self", {"scale": 0.0}),
        ("self", {"terms": ()}),
        ("self", {"window": Window.steps(9, 99)}),
        ("readout", {"scale": 0.0}),
        ("readout", {"window": Window.steps(9, 99)}),
    ],
)
def test_neutral_is_absent_bit_for_bit(tiny, kinds, plain, name, neutral):
    found = walked(tiny, replace(kinds[name], **neutral))
    assert torch.equal(found["image"], plain["image"])


# --- layout --------------------------------------------------------------------------------------


def test_the_energy_of_a_layout_by_hand():
    """Two tokens of one word, two heads, a 2 x 2 grid: all sums written out."""
    marked = torch.tensor([[0.0, 1.0, 1.0]])
    one = Layout(objects=[Placed(words=marked, box=(0.0, 0.0, 0.5, 0.75))])
    first = [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.2, 0.6, 0.2]]
    second = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]
    maps = torch.tensor([[first, second]], dtype=torch.float64)
    # inside: all of the upper left place, half of the lower left one
    shares = [
        (0.2 + 0.15) / 1.5,
        (0.7 + 0.2) / 1.4,
        (0.1 + 0.25) / 1.0,
        (0.1 + 0.15) / 1.3,
    ]
    expected = sum((1 - share) ** 2 for share in shares) / 4
    assert math.isclose(one.energy(maps, (2, 2)).item(), expected, rel_tol=1e-12)
    whole = Placed(words=torch.tensor([[1.0, 0.0, 0.0]]), box=(0.0, 0.0, 1.0, 1.0))
    both = replace(one, objects=[*one.objects, whole])  # E of a box that is everything is 0
    assert math.isclose(both.energy(maps, (2, 2)).item(), expected / 2, rel_tol=1e-12)
    with pytest.raises(ValueError, match="marked in 3 tokens, but prompts have 5"):
        one.energy(torch.ones(1, 1, 4, 5), (2, 2))


def test_a_box_covers_what_it_covers():
    inside = Placed(words=torch.ones(1, 1), box=(0.1, 0.3, 0.4, 0.35)).inside((4, 3))
    assert inside.shape == (12,)
    assert math.isclose(inside.sum() / 12, 0.3 * 0.05)  # thin, and there on any grid
    assert inside.nonzero().flatten().tolist() == [3, 4]


def energy_at(layout, denoiser, state):
    return layout._differentiated(denoiser, state)


def test_the_gradient_of_a_layout_is_that_of_finite_differences(tiny, network, kinds):
    denoiser, layout = denoiser_of(tiny, network), kinds["layout"]
    state = state_of(tiny, dtype=torch.float64)
    latents, step = state.latents["image"], 1e-4
    way = random(*latents.shape)
    _, gradient = energy_at(layout, denoiser, state)
    ends = [
        energy_at(layout, denoiser, state.at({"image": latents + h * way}, state.t))[0]
        for h in (step, -step)
    ]
    slope = (ends[0] - ends[1]) / (2 * step)
    expected = (gradient * way).flatten(1).sum(1)
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=0)
    assert expected.abs().min() > 1e-8


def test_a_step_of_a_layout_is_its_formula_and_makes_it_better(tiny, network, kinds):
    denoiser = denoiser_of(tiny, network)
    state = state_of(tiny, dtype=torch.float64)
    move = Move({"image": 0.9}, {"image": 0.6})
    layout = replace(kinds["layout"], iterations=1)
    before, gradient = energy_at(layout, denoiser, state)
    sigma = tiny.backbone.schedule.sigma(0.9)
    there = state.at({"image": state.latents["image"] - 30.0 * sigma**2 * gradient}, state.t)
    assert (energy_at(layout, denoiser, there)[0] < before).all()
    for solver in (DDIM(), DPMSolverPP2M()):  # as if the latents had been there from the start
        expected = next(run(there, denoiser, [move], solver)).state.latents["image"]
        found = next(run(state, denoiser, [move], solver, [layout])).state.latents["image"]
        # predictions are float32
        torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=1e-6)
        plain = next(run(state, denoiser, [move], solver)).state.latents["image"]
        assert (found - plain).abs().max() > 1e-4


def test_only_samples_that_are_badly_placed_are_moved(tiny, kinds):
    """Between the energies of two samples, the better one stays, and the better one's numbers."""
    denoiser, state = denoiser_of(tiny), state_of(tiny)
    energies, _ = energy_at(kinds["layout"], denoiser, state)
    worse = int(energies.argmax())
    layout = replace(kinds["layout"], stop=energies.mean().item(), iterations=1)
    shift = layout._shift(denoiser, state)
    assert shift[worse].abs().max() > 0
    assert not shift[1 - worse].any()


def test_calls_of_a_layout(tiny, kinds):
    """Two of the bare prediction with a graph, then both prompts from where that led."""
    counts = []
    hook = tiny.backbone.network.register_forward_pre_hook(
        lambda _, arguments: counts.append(len(arguments[0]))
    )
    walked(tiny, replace(kinds["layout"], window=Window.steps(0, 1)))
    hook.remove()
    assert counts == [2, 2, 4, 4, 4]


def test_maps_are_of_the_middle_and_the_first_block_up(tiny):
    where = []

    class Asked(Watch):
        def wants(self, layer):
            if self.where(layer):
                where.append((layer.part, layer.number))
            return ()

    with acting(Asked("image", where=_MiddleAndFirstUp())), torch.no_grad():
        denoiser_of(tiny)(state_of(tiny))
    assert where == [("mid", 0), ("up", 0), ("up", 1)]
    levels = [Layer(f"up_blocks.{n // 2}", "cross", "up", n, 4, 1 - n // 2) for n in range(4)]
    take = _MiddleAndFirstUp()
    assert [take(one) for one in levels] == [True, True, False, False]
    assert not take(Layer("d", "cross", "down", 0, 1, 1))
    assert not take(Layer("m", "self", "mid", 0, 1, 1))


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 0.0, 1.0), (0.5, 0.2, 0.4, 1.0), (-0.1, 0, 1, 1), (0, 0, 1, 1.1)]
)
def test_boxes_that_are_none_are_refused(box):
    with pytest.raises(ValueError, match="out of range or empty"):
        Placed(words=torch.ones(1, 3), box=box)


def test_what_a_layout_cannot_do_is_refused(tiny, kinds, red):
    layout = kinds["layout"]
    with pytest.raises(ValueError, match=r"words\.places"):
        Placed(words=torch.tensor([[0.0, 1.0], [0.0, 0.0]]), box=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="stop >= 0"):
        replace(layout, iterations=0)
    with pytest.raises(ValueError, match="of 'depth', but the branches"):
        walked(tiny, replace(layout, branch="depth"))
    three = Placed(words=red.expand(3, -1), box=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="given for 3 samples, but this run has 2"):
        walked(tiny, replace(layout, objects=[three]))
    with pytest.raises(ValueError, match="needs cross-attention"):
        sample([layout])


def test_a_prediction_of_several_calls_cannot_be_watched(tiny):
    denoiser, state = denoiser_of(tiny), state_of(tiny)
    with acting(Watch("image")), torch.no_grad():
        denoiser(state)
        with pytest.raises(ValueError, match="several network calls of one prediction"):
            denoiser(state)


# --- self-guidance -------------------------------------------------------------------------------


def blob(*places, side=4):
    """(1, side, side), 1 at some places and 0 elsewhere."""
    maps = torch.zeros(1, side, side, dtype=torch.float64)
    for row, column in places:
        maps[0, row, column] = 1
    return maps


def test_centroid_and_shape_by_hand():
    """Three quarters of the weight in row 0, column 3, one in row 2, column 1; a tall map too."""
    maps = 3 * blob((0, 3)) + blob((2, 1))
    x, y = (0.75 * 3.5 + 0.25 * 1.5) / 4, (0.75 * 0.5 + 0.25 * 2.5) / 4
    assert torch.allclose(centroid(maps), torch.tensor([[x, y]]).double())
    tall = torch.zeros(1, 4, 2, dtype=torch.float64)
    tall[0, 3, 0] = 5
    assert torch.allclose(centroid(tall), torch.tensor([[0.25, 0.875]]).double())
    ends = [1 / (1 + math.exp(10 * (0.5 - one))) for one in (0.0, 1 / 3, 1.0)]
    middle = (ends[1] - ends[0]) / (ends[2] - ends[0])
    found = shape(maps)
    assert math.isclose(found[0, 0, 3], 1.0)
    assert math.isclose(found[0, 2, 1], middle)
    assert math.isclose(found.sum(), 1 + middle)
    assert torch.allclose(shape(7 * maps + 2), found)  # nothing of the map's own scale
    assert shape(torch.ones(1, 4, 4)).isfinite().all()


def test_terms_by_hand():
    """One layer, two tokens; the object of a word of two tokens is that of their mean map."""
    one, two = blob((0, 0), (0, 1), (1, 0), (1, 1)), blob((3, 3))
    first, both = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    features = torch.stack([blob((0, 0))[0], torch.full((4, 4), 2.0).double()])[None]
    seen = Seen([torch.stack([one, two], 1)], features)
    source = Seen([torch.stack([two, one], 1)], 3 * features)

    def energy(term):
        found = term.energy(seen, source if term.source_words is not None else None)
        assert found.shape == (1,)
        return found.item()

    assert math.isclose(energy(Position(words=first, to=(0.5, 1.0))), 0.25 + 0.75)
    assert math.isclose(energy(Size(words=first, to=0.5)), 0.25)
    assert math.isclose(energy(Position(words=both, to=(0.0, 0.0))), 2 * (4 * 0.25 + 0.875) / 5)
    there = Position(words=first, source_words=first, by=(-0.5, 0.0))
    assert math.isclose(energy(there), abs(0.25 - 0.375) + abs(0.25 - 0.875))
    assert math.isclose(energy(Size(words=first, source_words=first, times=2.0)), 0.25 - 2 / 16)
    assert math.isclose(energy(Shape(words=first, source_words=first)), 5 / 16)
    assert energy(Shape(words=first, source_words=torch.tensor([[0.0, 1.0]]))) == 0
    assert torch.allclose(appearance(one, features), torch.tensor([[0.25, 2.0]]).double())
    look = Appearance(words=first, source_words=first)  # the source's: (0, 6)
    assert math.isclose(energy(look), (0.25 + 4) / 2)
    with pytest.raises(ValueError, match="marked in 3 tokens, but prompts have 2"):
        energy(Size(words=torch.ones(1, 3), to=0.5))
    with pytest.raises(ValueError, match="Position is wanted as in a source, but no source was"):
        there.energy(seen, None)


def test_self_guidance_goes_along_the_gradient(tiny, network, kinds):
    """The change of eps is `g sigma grad E`, E by finite differences; and E falls that way."""
    denoiser, state = denoiser_of(tiny, network), state_of(tiny, dtype=torch.float64)
    guide = replace(kinds["self"], scale=1.0)
    plain, latents = denoiser(state)[0]["image"], state.latents["image"]
    found = guide.wrap(denoiser, Move({"image": 0.9}, {"image": 0.6}))(state)[0]["image"]
    alpha, sigma = state.scales("image")
    gradient = (found.eps - plain.eps) / sigma
    torch.testing.assert_close(
        alpha * found.x0 + sigma * found.eps, latents, rtol=0, atol=1e-5, check_dtype=False
    )

    def energy(at):
        kept = []

        class Kept(SelfGuidance):
            def _energy(self, seen):
                kept.append(super()._energy(seen))
                return kept[-1]

        again = Kept(terms=guide.terms, scale=1.0)
        move = Move({"image": 0.9}, {"image": 0.6})
        again.wrap(denoiser, move)(state.at({"image": at}, state.t))
        return kept[0].detach()

    way = random(*latents.shape)
    slope = (energy(latents + 1e-4 * way) - energy(latents - 1e-4 * way)) / 2e-4
    expected = (gradient.double() * way).flatten(1).sum(1)
    torch.testing.assert_close(slope, expected, rtol=0.02, atol=1e-6)  # eps is float32
    lower = energy(latents - 0.1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    assert (lower < energy(latents)).all()


def test_a_source_like_the_branch_pulls_nowhere(tiny, red):
    """The same words of the same latents: |property - property| has no slope at 0."""
    kinds = (Position, Size, Shape, Appearance)
    terms = [kind(words=red, source_words=red) for kind in kinds]
    found = walked(tiny, SelfGuidance(terms=terms), branches=("image", "source"))
    torch.testing.assert_close(found["image"], found["source"], rtol=0, atol=1e-5)


def test_what_self_guidance_cannot_do_is_refused(tiny, kinds, red):
    with pytest.raises(ValueError, match="outside of the picture"):
        Position(words=red, to=(1.2, 0.0))
    with pytest.raises(ValueError, match="no share of the picture"):
        Size(words=red, to=0.0)
    for make in (Position, Size):
        with pytest.raises(ValueError, match="give one of them"):
            make(words=red)
    for make in (Shape, Appearance):
        with pytest.raises(ValueError, match="taken from a source"):
            make(words=red)
    with pytest.raises(ValueError, match="both 'source'"):
        replace(kinds["self"], branch="source")
    with pytest.raises(ValueError, match="of 'source', but the branches"):
        walked(tiny, kinds["source"])
    uneven = Move({"image": 0.9, "source": 0.6}, {"image": 0.6, "source": 0.3})
    state = State({}, uneven.t, VP, Generators([0]))
    with pytest.raises(ValueError, match="the same times"):
        Setup(state, [uneven], DDIM(), [kinds["source"]]).check()
    with pytest.raises(ValueError, match="needs cross-attention"):
        sample([kinds["self"]])


# --- readout -------------------------------------------------------------------------------------


@torch.no_grad()
def reading(denoiser, state, head):
    recorder = Recorder("image", where=upward)
    with acting(recorder):
        denoiser(state)
    t = torch.full((2,), state.t["image"])
    return head(list(recorder.found.values()), t)


def test_a_readout_that_is_what_is_wanted_pulls_nowhere(tiny, head):
    denoiser, state = denoiser_of(tiny), state_of(tiny)
    move = Move({"image": 0.9}, {"image": 0.6})
    read = reading(denoiser, state, head)
    assert read.shape == (2, 1, 8, 8)
    plain = denoiser(state)[0]["image"].eps
    content = Readout(head=head, wanted=read, scale=10.0)
    assert torch.equal(content.wrap(denoiser, move)(state)[0]["image"].eps, plain)
    far = read.clone()
    far[:, :, :, 4:] += 1.0
    pulled = replace(content, wanted=far).wrap(denoiser, move)(state)[0]["image"].eps
    assert (pulled - plain).abs().max() > 1e-3
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    masked = replace(content, wanted=far, mask=left)
    assert torch.equal(masked.wrap(denoiser, move)(state)[0]["image"].eps, plain)


def test_a_step_of_readout_guidance_brings_the_reading_nearer(tiny, head):
    denoiser, state = denoiser_of(tiny), state_of(tiny)
    wanted = reading(denoiser, state, head) + 0.1
    guide = Readout(head=head, wanted=wanted, scale=1.0)
    plain = denoiser(state)[0]["image"].eps
    found = guide.wrap(denoiser, Move({"image": 0.9}, {"image": 0.6}))(state)[0]["image"].eps
    step = -0.05 * (found - plain) / (found - plain).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    there = state.at({"image": state.latents["image"] + step}, state.t)
    before = (reading(denoiser, state, head) - wanted).square().sum((1, 2, 3))
    after = (reading(denoiser, there, head) - wanted).square().sum((1, 2, 3))
    assert (after < before).all()


def test_readout_guidance_goes_along_the_gradient(tiny, network, head):
    """The change of eps is `g sigma grad E`, E and its slope computed from readings alone."""
    denoiser, state = denoiser_of(tiny, network), state_of(tiny, dtype=torch.float64)
    head, latents = copy.deepcopy(head).double(), state.latents["image"]
    wanted = reading(denoiser, state, head) + random(2, 1, 8, 8)
    mask = torch.linspace(0, 1, 8, dtype=torch.float64).expand(1, 1, 8, 8)
    guide = Readout(head=head, wanted=wanted, mask=mask, scale=0.7)
    plain = denoiser(state)[0]["image"]
    found = guide.wrap(denoiser, Move({"image": 0.9}, {"image": 0.6}))(state)[0]["image"]
    alpha, sigma = state.scales("image")
    torch.testing.assert_close(
        alpha * found.x0 + sigma * found.eps, latents, rtol=0, atol=1e-5, check_dtype=False
    )

    def energy(at):
        read = reading(denoiser, state.at({"image": at}, state.t), head)
        return 0.5 * (mask * (read - wanted)).square().sum((1, 2, 3))

    gradient = (found.eps - plain.eps) / sigma
    assert gradient.flatten(1).norm(dim=1).min() > 1e-3
    for seed in range(3):
        way = random(*latents.shape, seed=seed)
        slope = 0.7 * (energy(latents + 1e-4 * way) - energy(latents - 1e-4 * way)) / 2e-4
        expected = (gradient.double() * way).flatten(1).sum(1)
        torch.testing.assert_close(slope, expected, rtol=0.02, atol=1e-6)  # eps is float32


class Spoilt:
    """A head whose reading is changed; it says which blocks it reads, or does not."""

    def __init__(self, head, change, says=False):
        self.head, self.change, self.channels = head, change, head.channels
        if says:
            self.config = head.config

    def __call__(self, features, t):
        return self.change(self.head(features, t))


READINGS = {
    "a number": (torch.mean, r"returned shape \(\); of 2 samples and .* \(1, 1, 64, 64\), it"),
    "too many channels": (lambda read: read.expand(-1, 2, -1, -1), r"returned shape \(2, 2, 8, 8"),
    "one sample": (lambda read: read[:1], r"it must be a tensor \(2, 1, height, width\)"),
    "a list": (lambda read: read.flatten(1).mean(1).tolist(), r"the readout head returned \["),
    "no gradient": (torch.detach, "the readout's error has no gradient"),
}


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("case", READINGS)
def test_a_head_that_reads_no_such_map_is_refused(tiny, kinds, head, case, says):
    """Before the network runs, where the head says which blocks it reads; else in its first call.

    The first call of all: no other is made before.
    """
    change, said = READINGS[case]
    asked = []
    hook = tiny.backbone.network.register_forward_pre_hook(lambda *_: asked.append(1))
    with pytest.raises(ValueError, match=said):
        walked(tiny, replace(kinds["readout"], head=Spoilt(head, change, says)))
    hook.remove()
    assert len(asked) == (0 if says else 1)


def test_what_readout_guidance_cannot_do_is_refused(tiny, kinds):
    guide = kinds["readout"]
    with pytest.raises(ValueError, match="must be finite"):
        replace(guide, wanted=torch.ones(8, 8))
    with pytest.raises(ValueError, match="a mask is"):
        replace(guide, mask=torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="3 maps are wanted of 2 samples"):
        walked(tiny, replace(guide, wanted=torch.ones(3, 1, 8, 8)))
    with pytest.raises(ValueError, match="a head of this kind of map"):
        replace(guide, wanted=torch.ones(1, 3, 8, 8))
    with pytest.raises(ValueError, match="blocks on the way up"):
        sample([guide])
