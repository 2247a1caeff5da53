"""Clips: frames of one scene that differ in what the kind of clip moves, and in nothing else."""

import dataclasses
import math

import numpy as np
import pytest
from shapes import distance, inner_points

from unicond.world import World, render
from unicond.world.clips import KINDS, clip
from unicond.world.people import body


def made(kind, count=12):
    """Some clips of a kind, of scenes that allow it."""
    out = []
    for scene in World(30, people=True if kind == "walk" else None).scenes(0, 60):
        try:
            out.append((scene, clip(scene, kind, 5)))
        except ValueError:
            continue
        if len(out) == count:
            break
    assert len(out) == count
    return out


def test_orbit_moves_the_camera_only():
    for scene, frames in made("orbit"):
        assert dataclasses.replace(frames[0], relations=()) == dataclasses.replace(
            scene, relations=()
        )
        for frame in frames:
            assert frame.solids == scene.solids
            assert frame.people == scene.people
            assert frame.camera.position[1] == pytest.approx(scene.camera.position[1])
            far = math.dist(frame.camera.position, frame.camera.target)
            assert far == pytest.approx(math.dist(scene.camera.position, scene.camera.target))
        assert math.dist(frames[0].camera.position, frames[-1].camera.position) > 0.5


def test_move_slides_one_pile_without_collision():
    for scene, frames in made("move"):
        last = frames[-1]
        moved = [
            n for n, (a, b) in enumerate(zip(scene.solids, last.solids, strict=True)) if a != b
        ]
        assert moved
        assert last.camera == scene.camera
        steps = {
            tuple(np.round(np.subtract(last.solids[n].center, scene.solids[n].center), 9))
            for n in moved
        }
        assert len(steps) == 1
        assert next(iter(steps))[1] == 0
        for frame in frames:
            for n in moved:
                for k, other in enumerate(frame.solids):
                    if k not in moved:
                        points = inner_points(frame.solids[n], 1000)
                        assert distance(other, points).min() > 0


def test_walkers_walk_where_they_face():
    far = 0
    for _, frames in made("walk"):
        for first, last in zip(frames[0].people, frames[-1].people, strict=True):
            assert first.identity == last.identity
            way = np.subtract(last.position, first.position)
            length = float(np.linalg.norm(way))
            far += length > 0.5
            if length > 0:
                ahead = (math.sin(math.radians(first.yaw)), 0, math.cos(math.radians(first.yaw)))
                assert way @ np.array(ahead) / length > 0.999
    assert far >= 6


def test_feet_do_not_slide():
    """Over half a cycle, the standing foot stays within a few centimetres of one spot."""
    scene = next(s for s in World(30, people=True, max_objects=0).scenes(0, 40) if len(s) == 1)
    frames = clip(scene, "walk", 41)
    ankles = np.array([body(f.people[0]).points["left ankle"] for f in frames])
    planted = ankles[:, 1] < ankles[:, 1].min() + 0.01
    first_half = ankles[:21][planted[:21]]
    assert len(first_half) >= 10
    # a sinusoidal foot against a straight pace: at most 0.14 of a step apart
    assert np.ptp(first_half[:, [0, 2]], axis=0).max() < 0.2


def test_frames_are_drawn_and_told_apart():
    for kind in KINDS:
        _, frames = made(kind, 1)[0]
        drawn = render(frames, 48, style="photo")
        assert (drawn.image[0] - drawn.image[-1]).abs().mean() > 0.005


def test_bad_clips_say_what_to_do():
    scene = World(1, people=False)[0]
    with pytest.raises(ValueError, match="choose one of orbit, move, walk"):
        clip(scene, "fly", 3)
    with pytest.raises(ValueError, match="at least 2"):
        clip(scene, "orbit", 1)
    with pytest.raises(ValueError, match="free to walk; choose 'orbit'"):
        clip(scene, "walk", 3)
    with pytest.raises(ValueError, match="room to move; choose 'orbit'"):
        clip(World(1, people=True, max_objects=0)[0], "move", 3)
