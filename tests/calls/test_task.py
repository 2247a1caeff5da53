"""The settings of a call whose caller names none: the base's, or what suits its conditions."""

import pytest
import torch

import unicond
from unicond.adapters.config import JointConfig
from unicond.backbones.base import Settings
from unicond.calls.request import MOVES
from unicond.calls.task import estimation, generation
from unicond.sampling.state import Mechanism
from unicond.sampling.suits import Suits

BASE = Settings(
    num_inference_steps=9,
    estimation_steps=2,
    estimation_noise=0.1,
    estimation_ensemble=4,
    guidance_scale=7.0,
    condition_guidance=0.5,
)
NOTHING = Suits()
PICTURE = torch.linspace(-1, 1, 64).repeat(3, 64, 1)


def test_conditions_without_wishes_take_the_bases():
    drawn, read = generation(BASE, [NOTHING]), estimation(BASE, [NOTHING])
    assert (drawn.num_inference_steps, drawn.guidance_scale, drawn.follow) == (9, 7.0, 0.5)
    assert (read.num_inference_steps, read.guidance_scale, read.noise) == (2, 1.0, 0.1)
    assert (drawn.ensemble_size, read.ensemble_size) == (1, 4)


def test_nothing_is_followed_where_nothing_is_given():
    task = generation(BASE, [])
    assert (task.guidance_scale, task.follow) == (7.0, 0.0)


def test_the_least_guidance_and_the_most_demanding_estimate_decide():
    edges = Suits(guidance_scale=4.0, condition_guidance=3.0, estimation_steps=1)
    pose = Suits(
        guidance_scale=8.0, condition_guidance=0.0, estimation_noise=0.3, estimation_ensemble=2
    )
    task = generation(BASE, [edges, pose, NOTHING])
    assert (task.guidance_scale, task.follow) == (4.0, 0.0)
    assert generation(BASE, [edges, NOTHING]).follow == 0.5
    assert generation(BASE, [pose]).follow == 0.0
    assert estimation(BASE, [edges]).num_inference_steps == 1
    assert estimation(BASE, [edges, pose]).num_inference_steps == 2
    assert (estimation(BASE, [edges, pose]).noise, estimation(BASE, [pose]).noise) == (0.3, 0.3)
    assert estimation(BASE, [edges, pose]).ensemble_size == 2


def test_text_guidance_is_of_what_is_generated_beside_the_image_too():
    edges = Suits(guidance_scale=4.0, condition_guidance=3.0)
    task = generation(BASE, [], [edges, NOTHING])
    assert (task.guidance_scale, task.follow) == (4.0, 0.0)
    given = Suits(guidance_scale=3.0, condition_guidance=1.0)
    task = generation(BASE, [given], [edges])
    assert (task.guidance_scale, task.follow) == (3.0, 1.0)


def test_the_plan_is_of_what_is_drawn_from_text_alone_and_agreed_upon():
    edges = Suits(joint_plan="curve(0.8)")
    assert generation(BASE, [], [edges], alone=True).plan == "curve(0.8)"
    assert generation(BASE, [], [edges, edges], alone=True).plan == "curve(0.8)"
    assert generation(BASE, [], [edges, NOTHING], alone=True).plan is None
    assert generation(BASE, [], [edges]).plan is None
    assert generation(BASE, [edges], alone=True).plan is None


@pytest.fixture
def planned(tiny):
    """A model whose depth asks for a plan."""
    config = tiny.adapters["depth"].adapter.config
    object.__setattr__(config, "joint_plan", "curve(0.8)")
    yield tiny
    object.__setattr__(config, "joint_plan", None)


def test_a_call_walks_as_suits_its_adapter(planned):
    def plan(**asked):
        return planned.prepare("a dog", **{"branches": ["image", "depth"], **asked}).record.plan

    assert plan() == "curve(0.8)"
    assert plan(plan="joint") == "joint"
    moves = planned.prepare("a dog", branches=["image", "depth"]).plan
    assert plan(plan=moves) == MOVES
    assert plan(sampling="released") is None
    assert plan(branches=["image"], depth=PICTURE) is None
    assert plan(depth=unicond.given(PICTURE, guide=True)) is None
    assert plan(branches=["image", "depth", "id"]) is None  # which asks for none
    assert all(move.t["image"] < move.t["depth"] for move in moves[1:])


def test_what_is_known_in_part_is_completed_before_the_image(tiny):
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    half = unicond.given(PICTURE, mask=left)

    def call(**asked):
        return tiny.prepare("a dog", **{"branches": ["image", "depth"], "depth": half, **asked})

    plan = call(num_inference_steps=4).plan
    assert call().record.plan == "condition-first"
    usual = tiny.backbone.defaults.num_inference_steps
    assert call().record.num_inference_steps == 2 * usual  # as many for each of the two
    assert call(plan="joint").record.num_inference_steps == usual
    assert call(sampling="released").record.num_inference_steps == usual
    assert plan[2].t["image"] == plan[0].t["image"] > 0
    assert plan[2].t["depth"] == 0.0

    def way(**asked):
        return call(**asked).record.plan

    assert way(num_inference_steps=1) is None  # two lines need two moves
    assert way(plan="joint") == "joint"
    assert way(sampling="released") is None
    assert way(image=half) is None  # of both a half
    assert way(image=PICTURE, branches=["depth"]) is None  # read off the image
    assert way(depth=unicond.given(PICTURE, mask=left, guide=True)) is None
    assert way(branches=["image", "depth", "id"]) is None  # which is drawn from text
    assert way(branches=["image", "depth", "id"], id=PICTURE) == "condition-first"
    assert way(references={"source": unicond.Reference(prompt="a cat")}) is None
    assert way(mechanisms=[Mechanism()]) is None  # its window may count the image's moves


def test_a_call_takes_what_suits_its_adapter(tiny):
    def settings(**asked):
        record = tiny("a dog", **asked).record
        return record.guidance_scale, record.condition_guidance, record.num_inference_steps

    given = {"depth": PICTURE, "branches": ["image"]}
    read = {"image": PICTURE, "branches": ["depth"]}
    usual = settings(**given), settings(**read), settings()
    drawn = settings(image=PICTURE, branches=["depth", "id"])
    config = tiny.adapters["depth"].adapter.config
    own = {"guidance_scale": 3.0, "condition_guidance": 2.0, "estimation_steps": 4}
    for name, value in own.items():
        object.__setattr__(config, name, value)
    try:
        assert settings(**given) == (3.0, 2.0, usual[0][2])
        assert settings(**given, condition_guidance=1.0)[1] == 1.0
        assert settings(**read) == (*usual[1][:2], 4)
        assert settings() == (3.0, *usual[2][1:])  # image, depth and identity, from text
        assert settings(branches=["image", "id"]) == usual[2]
        assert settings(image=PICTURE, branches=["depth", "id"]) == drawn  # beside no image
    finally:
        for name in own:
            object.__setattr__(config, name, None)


def test_wishes_are_kept_and_absent_ones_leave_no_trace():
    plain, own = JointConfig(), JointConfig(condition_guidance=2.0, estimation_steps=1)
    assert "guidance" not in plain.to_json()
    assert JointConfig.from_json(plain.to_json(), "file") == plain
    assert JointConfig.from_json(own.to_json(), "file") == own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_scale": -1.0}, "guidance_scale is -1.0; it must be a number from 0, or left"),
        ({"condition_guidance": True}, "condition_guidance is True"),
        ({"condition_guidance": float("nan")}, "condition_guidance is nan"),
        ({"joint_plan": 0.8}, "joint_plan is 0.8; it must be the name of a plan, or left out"),
        ({"estimation_steps": 0}, "estimation_steps is 0; it must be a number from 1"),
        ({"estimation_steps": 1.5}, "estimation_steps is 1.5"),
        ({"estimation_ensemble": 0}, "estimation_ensemble is 0; it must be a number from 1"),
        ({"estimation_ensemble": 2.0}, "estimation_ensemble is 2.0"),
        ({"estimation_noise": 1.1}, "estimation_noise is 1.1; it must be a number from 0 to 1,"),
    ],
)
def test_impossible_wishes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        JointConfig(**change)
