"""Random scenes: seeded, in the frame, at rest, apart, and true to their relations."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from shapes import distance, inner_points

from unicond.world import Camera, Place, Scene, Solid, World, render
from unicond.world import vocabulary as words
from unicond.world.people import body, pieces
from unicond.world.relations import find_relations
from unicond.world.vectors import project


def lowest(solid: Solid) -> float:
    """Least height of a dense sample of the solid's surface and inside, in float64."""
    return float(inner_points(solid, 6000)[:, 1].min())


def by_name(scenes, name):
    return [(scene, r) for scene in scenes for r in scene.relations if r.name == name]


def test_a_scene_is_its_number():
    assert World(4)[17] == World(4)[17]
    assert World(4)[17] == World(4).scenes(10, 10)[7]
    assert World(4)[17] != World(5)[17]
    assert World(4)[17] != World(4)[18]
    first = next(iter(World(4)))
    assert first == World(4)[0]


def test_scenes_are_the_same_on_every_machine():
    """The first scene of world 0, as models were trained on it."""
    scene = World(0)[0]
    assert scene.place.ground == "tiles"
    assert [s.shape for s in scene.solids] == ["box"]
    assert scene.solids[0].color == "yellow"
    assert scene.camera.fov == pytest.approx(44.385438135780674, abs=1e-12)
    assert scene.solids[0].center == pytest.approx(
        (0.21509194867914533, 0.25471811738423206, -0.2632522287023489), abs=1e-9
    )


def test_a_forced_style_leaves_the_scene():
    for index in range(12):
        mixed, toon = World(8)[index], World(8, style="toon")[index]
        assert toon == mixed.with_style("toon")


def test_shares(scenes):
    photo = sum(scene.style == "photo" for scene in scenes) / len(scenes)
    people = sum(bool(scene.people) for scene in scenes) / len(scenes)
    # 200 scenes: three standard errors of a share of 0.6 or 0.4 are 0.10
    assert abs(photo - 0.6) < 0.1
    assert abs(people - 0.4) < 0.1
    poses = {person.pose.name for scene in scenes for person in scene.people}
    assert poses == set(words.POSES)
    assert {solid.shape for scene in scenes for solid in scene.solids} == set(words.SHAPES)
    assert {solid.color for scene in scenes for solid in scene.solids} == set(words.COLORS)
    assert {r.name for scene in scenes for r in scene.relations} == set(words.RELATIONS)


def test_restrictions():
    for scene in World(1, people=False, min_objects=2, max_objects=3).scenes(0, 20):
        assert 2 <= len(scene.solids) <= 3
        assert not scene.people
    for scene in World(1, people=True, max_objects=0).scenes(0, 20):
        assert not scene.solids
        assert scene.people


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "0 or more"),
        ({"style": "oil"}, "choose one of photo"),
        ({"min_objects": 3, "max_objects": 2}, "min_objects <= max_objects"),
        ({"max_objects": 7}, "<= 6"),
        ({"people": False, "max_objects": 0}, "nothing to draw"),
    ],
)
def test_bad_worlds_say_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        World(**given)


def test_negative_scenes_are_refused():
    with pytest.raises(IndexError, match="start at 0"):
        World(0)[-1]


def test_everything_is_seen(scenes, rendering):
    hidden = 0
    for n, scene in enumerate(scenes):
        ids = rendering.instances[n]
        for k in range(len(scene)):
            count = int((ids == k + 1).sum())
            assert count > 0, f"entity {k} of scene {scene.index} is not to be seen"
            hidden += count < 40
        border = torch.cat([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
        assert (border <= 0).all(), f"scene {scene.index} leaves the frame"
    # at 96 px; held and pushed things may hide behind people
    assert hidden / sum(len(scene) for scene in scenes) < 0.03


def test_solids_rest_on_something(scenes):
    for scene in scenes[:120]:
        for solid in scene.solids:
            low = lowest(solid)
            if solid.support == "ground":
                # 6,000 random points come within a few millimetres of the lowest one
                assert 0 <= low < 0.03
                continue
            below = scene.entity(int(solid.support))
            if isinstance(below, Solid):
                flat = below.center[1] + 0.5 * below.size[1]
                assert flat - 1e-9 <= low < flat + 0.03
                apart = math.dist(solid.center[::2], below.center[::2])
                assert apart <= 0.5 * min(below.size[0], below.size[2])
            else:
                assert low > 0.6, "held things are off the ground"


def test_solids_keep_apart(scenes):
    for scene in scenes:
        for a in scene.solids:
            points = inner_points(a)
            for b in scene.solids:
                if a is not b:
                    # contact on a flat top is distance 0, up to rounding
                    assert distance(b, points).min() > -1e-9


def test_people_keep_out_of_solids():
    """How deep flesh goes into solids, by points along every piece of every body."""
    allowed = {"holding": 0.06, "pushing": 0.04, "sitting on": 0.12}
    for scene in World(9, people=True, min_objects=1).scenes(0, 120):
        acts = {(r.subject, r.target): r.name for r in scene.relations}
        for n, person in enumerate(scene.people):
            for k, solid in enumerate(scene.solids):
                # hands press on what they hold, hips sink into seats; no one else touches
                most = allowed.get(acts.get((len(scene.solids) + n, k), ""), 0.0)
                for piece in pieces(person):
                    straight = np.array(piece.y) * piece.radii[1] * piece.stretch
                    points = np.linspace(-1, 1, 7)[:, None] * straight + np.array(piece.center)
                    assert min(piece.radii) - distance(solid, points).min() <= most


def test_stand_on_the_ground(scenes):
    for scene in scenes:
        for person in scene.people:
            points = body(person).points
            low = min(points[f"{side} ankle"][1] for side in ("left", "right"))
            assert 0.05 < low < 0.15


def test_sides_hold_in_the_picture(scenes, rendering):
    columns = torch.arange(96).float()
    for n, scene in enumerate(scenes):
        for r in scene.relations:
            if r.name not in ("left of", "right of", "in front of", "behind"):
                continue
            a, b = (rendering.instances[n] == k + 1 for k in (r.subject, r.target))
            if r.name in ("left of", "right of"):
                gap = (b.sum(0) * columns).sum() / b.sum() - (a.sum(0) * columns).sum() / a.sum()
                # at least 4 % of the picture between the middles of what is seen
                assert (gap if r.name == "left of" else -gap) > 4
                continue
            depth = rendering.depth[n, 0]
            gap = depth[b].median() - depth[a].median()
            assert (gap if r.name == "in front of" else -gap) > 0.1
            assert (a.any(0) & b.any(0)).any() or min(a.sum(), b.sum()) < 60


def test_relations_come_in_pairs(scenes):
    turned = {"left of": "right of", "right of": "left of", "in front of": "behind"}
    turned["behind"] = "in front of"
    for scene in scenes:
        told = {(r.subject, r.name, r.target) for r in scene.relations}
        for subject, name, target in told:
            if name in turned:
                assert (target, turned[name], subject) in told


def test_on_top(scenes):
    found = by_name(scenes, "on top of")
    assert len(found) >= 15
    for scene, r in found:
        above, below = scene.solids[r.subject], scene.solids[r.target]
        assert above.support == str(r.target)
        assert above.center[1] > below.center[1] + 0.5 * below.size[1]


def test_hands_are_where_actions_need_them():
    scenes = World(9, people=True, min_objects=1).scenes(0, 120)
    for name, low, high in (("holding", -0.02, 0.1), ("pushing", -0.02, 0.1)):
        found = by_name(scenes, name)
        assert len(found) >= 8
        for scene, r in found:
            points = body(scene.people[r.subject - len(scene.solids)]).points
            hands = np.array([points["left hand"], points["right hand"]])
            gap = distance(scene.solids[r.target], hands)
            # a hand is a ball of 6 cm
            assert gap.min() > low, (name, scene.index)
            assert gap.max() < high, (name, scene.index)


def test_pointing_arms_aim_at_their_target():
    found = by_name(World(9, people=True, min_objects=1).scenes(0, 120), "pointing at")
    assert len(found) >= 8
    for scene, r in found:
        points = body(scene.people[r.subject - len(scene.solids)]).points
        goal = np.array(scene.solids[r.target].center)
        best = 180.0
        for side in ("left", "right"):
            shoulder, wrist = (
                np.array(points[f"{side} {joint}"]) for joint in ("shoulder", "wrist")
            )
            arm, way = wrist - shoulder, goal - shoulder
            cosine = arm @ way / np.linalg.norm(arm) / np.linalg.norm(way)
            if np.linalg.norm(arm) > 0.45:
                best = min(best, math.degrees(math.acos(min(1.0, cosine))))
        # solids of 0.3 m at 2 m are 8 degrees wide
        assert best < 9, scene.index
        seen = {name: project(scene.camera, point)[0] for name, point in points.items()}
        hands = [abs(seen[f"{side} wrist"] - seen["neck"]) for side in ("left", "right")]
        assert max(hands) > 0.05, "the arm is to be seen beside the body"


def test_seats_carry_those_who_sit():
    found = by_name(World(9, people=True, min_objects=1).scenes(0, 120), "sitting on")
    assert len(found) >= 8
    for scene, r in found:
        pelvis = np.array(body(scene.people[r.subject - len(scene.solids)]).points["pelvis"])
        seat = scene.solids[r.target]
        high = seat.center[1] + 0.5 * seat.size[1]
        # hips of 0.11 m radius (0.13 when broad) touch the seat and sink in little
        assert 0.08 < pelvis[1] - high < 0.14
        assert distance(seat, np.array([[pelvis[0], high - 0.01, pelvis[2]]]))[0] < 0


def test_relations_follow_the_camera():
    solids = (
        Solid("ball", "red", (-1.0, 0.3, 0.0), (0.6, 0.6, 0.6)),
        Solid("box", "blue", (1.0, 0.3, 0.0), (0.6, 0.6, 0.6)),
    )
    place = Place("sand", "day", 0.0, 45.0)
    names = []
    for spot in ((0.0, 2.0, 6.0), (0.0, 2.0, -6.0), (-6.0, 2.0, 0.01), (6.0, 2.0, 0.01)):
        scene = Scene(0, 0, "photo", Camera(spot, (0.0, 0.3, 0.0), 45.0), place, solids)
        relations = find_relations(scene)
        names.append([r.name for r in relations if r.subject == 0])
    assert names == [["left of"], ["right of"], ["in front of"], ["behind"]]


def test_colors_are_told_apart_in_every_light():
    """Lit or not, a solid's median colour is nearest to its own name, hue by hue."""
    grounds = [Place(g, s, 20.0, 45.0) for g in ("sand", "tiles") for s in words.SKIES]
    camera = Camera((0.0, 1.6, 3.6), (0.0, 0.4, 0.0), 40.0)
    for place in grounds:
        medians = {}
        for color in words.COLORS:
            ball = Solid("ball", color, (0.0, 0.5, 0.0), (1.0, 1.0, 1.0))
            drawn = render(Scene(0, 0, "photo", camera, place, (ball,)), 64)
            medians[color] = drawn.image[0, :, drawn.instances[0] == 1].median(dim=1).values
        for a in words.COLORS:
            for b in words.COLORS:
                if a < b:
                    gap = (medians[a] - medians[b]).norm().item()
                    # of a cube of side 2: 0.3 is 38 of 255 levels
                    assert gap > 0.3, (place.sky, a, b, gap)


def test_identity_looks_the_same_in_any_pose_and_place():
    people = [p for scene in World(6, people=True).scenes(0, 30) for p in scene.people]
    identity = people[0].identity
    seen: dict[int, set[tuple[int, ...]]] = {}
    for n, person in enumerate(people[:24]):
        person = dataclasses.replace(person, identity=identity, position=(0.0, 0.0, 0.0))
        place = Place(words.GROUNDS[n % 6], words.SKIES[n % 4], 10.0 * n, 40.0)
        camera = Camera((0.0, 1.2, 4.0), (0.0, 0.8, 0.0), 40.0)
        drawn = render(Scene(0, n, "photo", camera, place, (), (person,)), 96)
        mask = drawn.instances[0] == 1
        albedo = (drawn.albedo[0, :, mask] * 1000).round().int().T
        for part, rgb in zip(drawn.parts[0][mask].tolist(), albedo.tolist(), strict=True):
            seen.setdefault(part, set()).add(tuple(rgb))
    named = {words.PARTS[part] for part in seen}
    assert named == {"skin", "hair", "shirt", "trousers", "shoes", "eyes"}
    assert all(len(colors) == 1 for colors in seen.values())
