"""Relations that hold of what is found: predicates by construction, and on exact scenes."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from truth import reading_of

from unicond.evaluation.amdm.relations import Body, Found, find, holds
from unicond.evaluation.amdm.scenes import acting, action_of
from unicond.world.layout import Frame, entity_frame
from unicond.world.render import render
from unicond.world.scene import Relation
from unicond.world.vocabulary import ACTIONS

STANDING = Body(
    {
        **{"right shoulder": (0.45, 0.25), "left shoulder": (0.55, 0.25)},
        **{"right wrist": (0.45, 0.5), "left wrist": (0.55, 0.5)},
        **{"right hip": (0.47, 0.5), "left hip": (0.53, 0.5)},
        **{"right knee": (0.47, 0.7), "left knee": (0.53, 0.7)},
        **{"right ankle": (0.47, 0.9), "left ankle": (0.53, 0.9)},
    },
    size=0.7,
)
AROUND = Frame(0.4, 0.2, 0.6, 0.95, 4.0, 4.2)


def said(name, box, body=STANDING):
    """Whether the person does that to something in a box (left, upper, right, lower)."""
    found = Found(body, {0: Frame(*box, 4.0, 4.2), 1: AROUND})
    return holds(Relation(1, name, 0), found)


def moved(**points):
    return replace(STANDING, points={**STANDING.points, **points})


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("holding", (0.44, 0.4, 0.56, 0.55), (0.44, 0.7, 0.56, 0.95)),
        ("pushing", (0.6, 0.4, 0.9, 0.9), (0.6, 0.3, 0.9, 0.6)),
        ("pushing", (0.6, 0.4, 0.9, 0.9), (0.3, 0.4, 0.9, 0.9)),
        ("sitting on", (0.4, 0.52, 0.6, 0.9), (0.65, 0.52, 0.9, 0.9)),
        ("sitting on", (0.4, 0.52, 0.6, 0.9), (0.1, 0.52, 0.35, 0.9)),
        ("sitting on", (0.4, 0.52, 0.6, 0.9), (0.4, 0.8, 0.6, 0.95)),
    ],
)
def test_actions(name, yes, no):
    assert said(name, yes)
    assert not said(name, no)


def test_holding_and_pushing_need_a_wrist_at_the_thing():
    near, far = 0.55 + 0.19 * 0.7, 0.55 + 0.21 * 0.7
    for start, answer in ((near, True), (far, False)):
        assert said("holding", (start, 0.4, start + 0.1, 0.55)) == answer
        assert said("pushing", (start, 0.4, start + 0.3, 0.9)) == answer


def test_pointing_is_a_direction():
    stretched = moved(**{"left wrist": (0.75, 0.25)})
    assert said("pointing at", (0.85, 0.2, 0.95, 0.3), stretched)
    assert said("pointing at", (0.85, 0.35, 0.95, 0.4), stretched)  # 19 degrees below
    assert not said("pointing at", (0.85, 0.5, 0.95, 0.6), stretched)  # 40 degrees
    assert not said("pointing at", (0.76, 0.2, 0.95, 0.3), stretched)  # the wrist is at it
    assert not said("pointing at", (0.05, 0.2, 0.15, 0.3), stretched)


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ((0.1, 0.4, 0.3, 0.6, 4, 4), (0.5, 0.4, 0.7, 0.6, 4, 4), "left of"),
        ((0.5, 0.4, 0.7, 0.6, 4, 4), (0.1, 0.4, 0.3, 0.6, 4, 4), "right of"),
        ((0.1, 0.4, 0.3, 0.6, 3, 3), (0.1, 0.4, 0.3, 0.6, 4, 4), "in front of"),
        ((0.1, 0.4, 0.3, 0.6, 5, 5), (0.1, 0.4, 0.3, 0.6, 4, 4), "behind"),
        ((0.1, 0.2, 0.3, 0.4, 4, 4), (0.1, 0.4, 0.3, 0.6, 4, 4), "on top of"),
    ],
)
def test_places(one, other, name):
    found = Found(None, {0: Frame(*one), 1: Frame(*other)})
    names = ("left of", "right of", "in front of", "behind", "on top of")
    held = [each for each in names if holds(Relation(0, each, 1), found)]
    assert held == [name]
    assert not holds(Relation(0, name, 2), found)  # not found
    apart = replace(found.frames[0], upper=0.0, lower=0.1)
    if name == "on top of":
        assert not holds(Relation(0, name, 1), Found(None, {**found.frames, 0: apart}))


def test_exact_scenes_hold_what_they_show():
    """And hardly ever another action."""
    every = [acting(3, number) for number in range(12)]
    scenes = [one.scene for one in every]
    drawn = render(scenes, 128)
    read = reading_of(scenes, drawn, torch.zeros(len(scenes), 1))
    found = find(scenes, read, drawn.depth, drawn.valid)
    wrong = Counter()
    for number, (scene, each) in enumerate(zip(scenes, found, strict=True)):
        acts = [one for one in scene.relations if one.name in ACTIONS]
        assert [one.name for one in acts] == [action_of(number)]
        assert holds(acts[0], each)
        for name in ACTIONS:
            wrong[name] += name != acts[0].name and holds(replace(acts[0], name=name), each)
        held = [holds(one, each) for one in scene.relations]
        assert sum(held) >= len(held) - 1
    assert wrong.total() <= 3  # of 36: a seated person's hands are at the seat
    for scene, each in zip(scenes, found, strict=True):
        for number, frame in each.frames.items():  # metres, from a depth without a unit
            exact = entity_frame(scene, number)
            assert exact.near - 0.1 < frame.near < frame.far < exact.far + 0.1
    nobody = replace(found[0], body=None)
    assert not any(holds(one, nobody) for one in scenes[0].relations if one.name in ACTIONS)


def test_what_is_asked_of_models():
    one = acting(3, 1)
    assert len(one.plain.boxes) == len(one.scene)
    assert [box.box for box in one.plain.boxes] == [box.box for box in one.colored.boxes]
    assert one.plain.boxes[-1].phrase == "a person"
    acts = [(each.subject, each.action, each.object) for each in one.plain.interactions]
    assert acts == [(each.subject, each.name, each.target) for each in one.scene.relations]
    assert acting(3, 1) == one
