"""Reading people back: several in one picture, their attributes, and skeleton drawings."""

from dataclasses import replace

import pytest
import torch
from truth import reading_of

from unicond.evaluation.fidelity_people import pck_values, people_of, share_alike
from unicond.evaluation.people import (
    People,
    exact_attributes,
    exact_people,
    read_attributes,
    read_people,
)
from unicond.evaluation.skeletons import read_skeletons
from unicond.world import World, render
from unicond.world.drawings import draw_skeletons
from unicond.world.vocabulary import PARTS, SKINS

SIZE = 128


@pytest.fixture(scope="module")
def scenes():
    """Two pictures of one person, two of several."""
    found = [scene for scene in World(12, style="photo", people=True).scenes(0, 40)]
    one = [scene for scene in found if len(scene.people) == 1][:2]
    return one + [scene for scene in found if len(scene.people) > 1][:2]


@pytest.fixture(scope="module")
def reading(scenes):
    drawn = render(scenes, SIZE, smooth=False)
    return reading_of(scenes, drawn, torch.zeros(len(scenes), 2))


def test_everybody_is_found_apart(scenes, reading):
    found = people_of(reading)
    exact = exact_people(scenes, SIZE)
    assert [len(people) for people in exact] == [len(scene.people) for scene in scenes]
    assert min(pck_values(found, exact)) > 0.9
    assert all(len(a) >= len(b) for a, b in zip(found, exact, strict=True))


def test_a_shaky_judge_still_tells_people_apart(scenes, reading):
    noise = torch.Generator().manual_seed(0)
    shaken = 0.8 * reading.offsets + 0.02 * torch.randn(reading.offsets.shape, generator=noise)
    found = people_of(replace(reading, offsets=shaken))
    assert min(pck_values(found, exact_people(scenes, SIZE))) > 0.9


def test_nobody_is_nobody(reading):
    empty = torch.zeros_like(reading.classes)
    found = read_people(reading.keypoints, reading.offsets, empty)
    assert [len(people) for people in found] == [0] * 4
    assert found[0].xy.shape == (0, 18, 2)
    cold = read_people(0.1 * reading.keypoints, reading.offsets, reading.classes)
    assert [len(people) for people in cold] == [0] * 4


def test_pck_is_one_minus_who_moved(scenes):
    exact = exact_people(scenes[:1], SIZE)[0]
    side = float(exact.sides()[0])
    count = int(exact.found[0].sum())
    moved = exact.xy.clone()
    first = int(exact.found[0].nonzero()[0])
    moved[0, first, 0] += 0.11 * side
    near = exact.xy.clone()
    near[0, first, 0] += 0.09 * side
    scores = [pck_values([People(xy, exact.found)], [exact])[0] for xy in (moved, near)]
    assert scores == [pytest.approx((count - 1) / count), 1.0]
    nobody = People(exact.xy, torch.zeros_like(exact.found))
    assert pck_values([exact], [nobody]) == [None]


def test_sides_are_of_the_larger_extent():
    xy = torch.zeros(2, 18, 2)
    xy[0, 1] = torch.tensor([3.0, 8.0])
    xy[0, 2] = torch.tensor([99.0, 0.0])
    found = torch.zeros(2, 18, dtype=torch.bool)
    found[0, :2] = True
    assert People(xy, found).sides().tolist() == [8.0, 0.0]


def test_attributes_are_read_off_the_parts(scenes, reading):
    portraits = scenes[:2]
    wanted = [list(exact_attributes(scene.people[0].identity)) for scene in portraits]
    assert read_attributes(reading)[:2].tolist() == wanted
    bare = torch.where(reading.parts == PARTS.index("hair"), 0, reading.parts)
    found = read_attributes(replace(reading, parts=bare))[:2].tolist()
    assert [row[1] for row in found] == [-1, -1]
    assert [row[0] for row in found] == [row[0] for row in wanted]
    other = (wanted[0][0] + 1) % len(SKINS)
    painted = torch.zeros_like(reading.skins)
    painted[:, other] = 1.0
    assert int(read_attributes(replace(reading, skins=painted))[0, 0]) == other


def test_skeleton_drawings_are_read_back(scenes):
    drawn = draw_skeletons(scenes, SIZE)
    exact = exact_people(scenes, SIZE)
    found = read_skeletons(drawn)
    assert [len(people) for people in found] == [len(people) for people in exact]
    scores = pck_values(found, exact)
    assert sum(scores) / len(scores) > 0.95
    soft = torch.nn.functional.avg_pool2d(drawn, 3, 1, 1)  # what an autoencoder does to it
    scores = pck_values(read_skeletons(soft), exact)
    assert sum(scores) / len(scores) > 0.75
    assert [len(people) for people in read_skeletons(torch.full((1, 3, 64, 64), -1.0))] == [0]


def test_what_neither_picture_shows_is_not_alike():
    ours, theirs = torch.tensor([[1, -1, 2, 3]]), torch.tensor([[1, -1, 0, 3]])
    assert share_alike(ours, theirs) == [0.5]
