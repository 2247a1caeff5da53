"""The other picture of a pair: who and what stays, what changes."""

import dataclasses

import pytest

from unicond.world import World, render
from unicond.world.partners import is_portrait, other_frame, same_person


@pytest.fixture(scope="module")
def portraits():
    return [scene for scene in World(3).scenes(0, 60) if is_portrait(scene)]


def test_the_same_person_elsewhere(portraits):
    for scene in portraits:
        other = same_person(scene)
        assert other == same_person(scene)
        assert is_portrait(other)
        assert other.people[0].identity == scene.people[0].identity
        assert other.people[0].pose.name != scene.people[0].pose.name
        assert other.place.ground != scene.place.ground
        assert other.place.sky != scene.place.sky
        assert other.style == "photo"
    assert len({same_person(scene).index for scene in portraits}) == len(portraits)


def test_only_portraits_have_a_same_person():
    alone = next(scene for scene in World(3) if not scene.people)
    with pytest.raises(ValueError, match="has 0 people"):
        same_person(alone)
    together = next(scene for scene in World(3) if len(scene.people) > 1)
    with pytest.raises(ValueError, match="exactly one"):
        same_person(together)


def test_another_frame_shows_the_same_things():
    scenes = World(5).scenes(0, 60)
    moved = 0
    for scene in scenes:
        other = other_frame(scene)
        assert other == other_frame(scene)
        assert (other.seed, other.index, other.style) == (scene.seed, scene.index, scene.style)
        looks = [[(s.shape, s.color, s.size) for s in each.solids] for each in (scene, other)]
        assert looks[0] == looks[1]
        assert [p.identity for p in other.people] == [p.identity for p in scene.people]
        assert other.place == scene.place
        assert other.camera.position != scene.camera.position
        centers = [[s.center for s in each.solids] for each in (scene, other)]
        spots = [[p.position for p in each.people] for each in (scene, other)]
        moved += centers[0] != centers[1] or spots[0] != spots[1]
    assert 15 <= moved <= 35  # half of them, but for those in which nothing can


def test_layouts_differ():
    scenes = World(10_000, style="photo").scenes(0, 16)
    first = render(scenes, 32, smooth=False).classes
    second = render([other_frame(scene) for scene in scenes], 32, smooth=False).classes
    both = ((first > 1) & (first == second)).sum((1, 2)).float()
    either = ((first > 1) | (second > 1)).sum((1, 2)).float()
    assert 0.05 < float((both / either).mean()) < 0.5


def test_a_partner_is_no_scene_of_the_same_world(portraits):
    world = {dataclasses.replace(scene, relations=()) for scene in World(3).scenes(0, 200)}
    assert not {dataclasses.replace(same_person(s), relations=()) for s in portraits} & world
