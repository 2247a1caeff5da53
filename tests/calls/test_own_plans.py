"""Moves, references and solvers of the caller's own, through the public call."""

import pytest
import torch

import unicond
import unicond.calls.rerun
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.sampling import plans
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Move

STEPS = 3


@pytest.fixture
def picture():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def times(model):
    return model.backbone.schedule.times(STEPS)


def test_moves_are_the_plan_that_a_run_would_follow(tiny):
    moves = plans.descend(times(tiny), {"image": 1.0, "depth": 1.0})
    mine = tiny("a dog", branches=["image", "depth"], plan=moves, solver=DDIM())
    usual = tiny(
        "a dog", branches=["image", "depth"], num_inference_steps=STEPS, solver="ddim", eta=0.0
    )
    assert torch.equal(mine.latents["image"], usual.latents["image"])
    assert mine.record.plan == "moves"
    assert mine.record.num_inference_steps == STEPS
    with pytest.raises(ValueError, match=r"made with DDIM, moves of its own"):
        unicond.calls.rerun.repeat(tiny, mine.record)


def test_what_is_known_in_part_starts_where_moves_of_its_own_do(tiny, picture):
    """`alpha x0 + sigma z`, as of a picture that is given whole; noise alone where a run has it."""
    late = plans.path({"image": [0.5, 0.25, 0.0]})
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1

    def start(plan, **how):
        given = unicond.given(picture, **how)
        return tiny.prepare("a dog", branches=["image"], image=given, plan=plan).state.latents

    whole = start(late)["image"]
    for how in ({"mask": mask}, {"guide": True}):
        assert torch.equal(start(late, **how)["image"], whole)
    usual = plans.descend(times(tiny), {"image": 1.0})
    free = tiny.prepare("a dog", branches=["image"], plan=usual).state.latents["image"]
    assert torch.equal(start(usual, mask=mask)["image"], free)


def test_a_given_picture_goes_up_and_comes_back_beside_its_edit(tiny, picture):
    """EDICT is exact: the source is the picture's own latents again, by words of its own."""
    edit = plan_edit("edict", times(tiny), strength=0.7, target="image")
    out = tiny(
        "a red dog",
        branches=["image"],
        image=picture,
        references={"source": unicond.Reference(prompt="a dog", picture=picture)},
        plan=edit.plan,
        solver=edit.solver,
        mechanisms=edit.mechanisms,
        guidance_scale=1.0,
    )
    clean = tiny.backbone.encode(picture[None])
    assert out.record.generated == ("image", "source")
    assert out.record.references == {"source": ("a dog",)}
    assert (out.latents["source"] - clean).abs().max() < 1e-3 * clean.abs().max()  # rounding
    assert (out.latents["image"] - clean).abs().max() > 1e-2


def test_a_reference_has_its_own_words(tiny):
    """Generated beside the image from noise of its own; a repeated run is the same."""
    beside = {"source": unicond.Reference(prompt="a cat")}
    one = tiny("a dog", branches=["image"], references=beside, num_inference_steps=2)
    other = {"source": unicond.Reference(prompt="a dog")}
    two = tiny("a dog", branches=["image"], references=other, num_inference_steps=2)
    assert torch.equal(one.latents["image"], two.latents["image"])
    assert not torch.equal(one.latents["source"], two.latents["source"])
    again = unicond.calls.rerun.repeat(tiny, one.record)
    assert torch.equal(again.latents["source"], one.latents["source"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": []}, "the plan has no move"),
        ({"branches": ["image", "depth"]}, "the branches of this run are image, depth"),
        ({"num_inference_steps": 9}, "the plan has 3 moves already"),
        ({"solver": DDIM(), "eta": 0.5}, r"give it to DDIM\(eta=0.0\) itself"),
        ({"plan": plans.path({"image": [0.0, 0.5, 0.0]})}, "starts 'image' clean, but no picture"),
        (
            {"plan": [Move({"image": 0.3}, {"image": 0.0})]},
            "starts 'image' at t=0.3, but no picture",
        ),
        ({"references": {"depth": unicond.Reference()}}, "'depth', which is a branch"),
        ({"sampling": "released"}, "not by plan 'moves'"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, arguments, message):
    usual = {"branches": ["image"], "plan": plans.descend(times(tiny), {"image": 1.0})}
    with pytest.raises(ValueError, match=message):
        tiny("a dog", **{**usual, **arguments})
