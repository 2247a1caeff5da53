"""Annotations: edges, keypoints, boxes, drawings."""

import dataclasses

import numpy as np
import pytest
import torch

from unicond.world import Camera, Place, Scene, Solid, World, render
from unicond.world.annotate import (
    EDGE_LEVELS,
    OCCLUDED,
    OUTSIDE,
    SEEN,
    boxes,
    keypoints,
    soft_edges,
)
from unicond.world.drawings import COLORS_RGB, draw_instances, draw_segmentation, draw_skeletons
from unicond.world.palette import CLASS_RGB
from unicond.world.vocabulary import CLASSES, KEYPOINTS

PLACE = Place("snow", "overcast", 30.0, 50.0)
CAMERA = Camera((0.0, 1.5, 5.0), (0.0, 0.6, 0.0), 45.0)


def shrunk(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """The mask (H, W) less what is within some pixels of its border."""
    outside = (~mask).float()[None, None]
    return torch.nn.functional.max_pool2d(outside, 2 * pixels + 1, 1, pixels)[0, 0] == 0


def test_edges_are_zero_inside_and_full_around():
    box = Solid("box", "red", (0.0, 0.75, 0.0), (1.5, 1.5, 1.5))
    camera = Camera((0.0, 2.6, 5.0), (0.0, 0.8, 0.0), 45.0)
    drawn = render(Scene(0, 0, "photo", camera, PLACE, (box,)), 96)
    edges = soft_edges(drawn)
    assert edges.shape == (1, 3, 96, 96)
    assert (edges[0, 0] == edges[0, 2]).all()
    for where in (drawn.instances[0] == 0, drawn.instances[0] == -1):
        assert (edges[0, 0][shrunk(where, 3)] == -1).all()
    front = (drawn.instances[0] == 1) & (drawn.normals[0, 1] < 0.5)
    assert front.sum() > 300
    assert (edges[0, 0][shrunk(front, 3)] == -1).all()
    rim = (drawn.instances[0] == 1) & ~shrunk(drawn.instances[0] == 1, 1)
    # soft corners may lose a level; every pixel of the rim is an edge
    assert edges[0, 0][rim].min() >= 0
    fold = (drawn.normals[0, 1] > 0.5) & (drawn.instances[0] == 1)
    row = int(fold.nonzero()[:, 0].max())
    assert edges[0, 0, row, 40:56].min() >= 0


def test_steep_flat_ground_has_no_edges():
    camera = Camera((0.0, 0.5, 5.0), (0.0, 0.4, 0.0), 60.0)
    drawn = render(Scene(0, 0, "photo", camera, PLACE), 128)
    ground = shrunk(drawn.instances[0] == 0, 3)
    assert ground.sum() > 1000
    assert (soft_edges(drawn)[0, 0][ground] == -1).all()


def test_steep_flat_faces_have_no_edges():
    slab = Solid("box", "blue", (0.0, 0.5, -2.0), (4.0, 1.0, 9.0))
    camera = Camera((0.0, 2.2, 4.0), (0.0, 0.8, 0.0), 60.0)
    drawn = render(Scene(0, 0, "photo", camera, PLACE, (slab,)), 96)
    upper = shrunk((drawn.instances[0] == 1) & (drawn.normals[0, 1] > 0.5), 3)
    depth = drawn.depth[0, 0][upper]
    # its depth bends strongly in the picture, its inverse depth does not
    assert depth.max() > 2 * depth.min()
    assert (soft_edges(drawn)[0, 0][upper] == -1).all()


def test_edges_take_few_levels(rendering):
    values = soft_edges(rendering).unique()
    expected = torch.linspace(-1, 1, EDGE_LEVELS)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


def test_keypoints_fall_on_their_person():
    scenes = [s for s in World(14, people=True, max_objects=0).scenes(0, 60) if len(s.people) == 1]
    drawn = render(scenes, 128, style="photo", smooth=False)
    found = keypoints(scenes, drawn)
    assert found.xy.shape == (len(scenes), len(KEYPOINTS), 2)
    missed = 0
    for n in range(len(scenes)):
        for x, y in found.xy[n].tolist():
            missed += int(drawn.instances[found.scene[n], int(y), int(x)] != 1)
    # joints lie inside the body; at 128 px an ear or nose tip may fall on the pixel beside it
    assert missed / (len(scenes) * len(KEYPOINTS)) < 0.005
    assert (found.visibility != OUTSIDE).all()


def test_visibility_is_that_of_the_picture():
    scenes = World(14, people=True, max_objects=0).scenes(0, 40)
    scene = next(s for s in scenes if len(s.people) == 1 and s.people[0].pose.name == "standing")
    person = scene.people[0]
    camera = Camera((0.0, 1.2, 4.0), (0.0, 0.9, 0.0), 42.0)
    pose = dataclasses.replace(person.pose, head_yaw=0.0, head_pitch=0.0)
    person = dataclasses.replace(person, position=(0.0, 0.0, 0.0), pose=pose)
    nose = KEYPOINTS.index("nose")
    seen = {}
    for yaw in (0.0, 180.0):
        turned = dataclasses.replace(person, yaw=yaw)
        one = Scene(0, 0, "photo", camera, PLACE, (), (turned,))
        seen[yaw] = keypoints([one], render(one, 128)).visibility[0]
    assert seen[0.0][nose] == SEEN
    assert seen[180.0][nose] == OCCLUDED
    assert (seen[0.0] == SEEN).sum() >= 14
    wall = Solid("box", "red", (0.0, 0.5, 1.2), (2.0, 1.0, 0.2))
    one = Scene(0, 0, "photo", camera, PLACE, (wall,), (dataclasses.replace(person, yaw=0.0),))
    hidden = keypoints([one], render(one, 128)).visibility[0]
    for name in ("left knee", "right ankle"):
        assert seen[0.0][KEYPOINTS.index(name)] == SEEN
        assert hidden[KEYPOINTS.index(name)] == OCCLUDED
    assert hidden[nose] == SEEN
    near = dataclasses.replace(one, camera=Camera((0.0, 1.5, 1.9), (0.0, 1.5, 0.0), 20.0))
    outside = keypoints([near], render(near, 64)).visibility[0]
    assert outside[KEYPOINTS.index("left ankle")] == OUTSIDE


def test_keypoints_need_their_own_rendering(scenes, rendering):
    with pytest.raises(ValueError, match="give those that belong together"):
        keypoints(scenes[:3], rendering)


def test_boxes_are_those_of_the_masks(scenes, rendering):
    found = boxes(rendering, 6)
    assert found.corners.shape == (len(scenes), 6, 4)
    for n in range(0, len(scenes), 7):
        for k in range(6):
            rows, columns = np.nonzero(rendering.instances[n].numpy() == k + 1)
            assert int(found.pixels[n, k]) == len(rows)
            expected = [0, 0, 0, 0]
            if len(rows):
                expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert found.corners[n, k].tolist() == expected


def test_skeletons_are_drawn_at_the_joints():
    scenes = [s for s in World(2).scenes(0, 60) if len(s.people) == 1][:12]
    drawn = draw_skeletons(scenes, (96, 128))
    found = keypoints(scenes, render(scenes, (96, 128), smooth=False))
    assert drawn.shape == (12, 3, 96, 128)
    wrong = 0
    for n in range(12):
        for k in (1, 3, 4, 6, 7, 9, 10, 12, 13):
            x, y = found.xy[n, k].tolist()
            color = (drawn[n, :, int(y), int(x)] + 1) / 2
            expected = torch.tensor(COLORS_RGB[k]) / 255
            wrong += int((color - expected).abs().max() > 0.25)
    # joints that lie upon each other cover one another
    assert wrong / (12 * 9) < 0.15


def test_skeletons_without_people_are_black():
    scenes = World(2, people=False).scenes(0, 3)
    assert (draw_skeletons(scenes, 64) == -1).all()


def test_segmentation_is_the_class_map_in_its_palette(rendering):
    drawn = (draw_segmentation(rendering) + 1) / 2
    for n, name in enumerate(CLASSES):
        mask = rendering.classes == n
        if mask.any():
            colors = drawn.permute(0, 2, 3, 1)[mask]
            assert (colors - torch.tensor(CLASS_RGB[name])).abs().max() < 1e-6


def test_instances_have_colors_of_their_own(rendering):
    drawn = draw_instances(rendering)
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    colors = {}
    for k in range(-1, 8):
        mask = rendering.instances == k
        if mask.any():
            found = drawn.permute(0, 2, 3, 1)[mask]
            assert (found - found[0]).abs().max() < 1e-6
            colors[k] = found[0]
    for a in colors:
        for b in colors:
            assert a == b or (colors[a] - colors[b]).abs().max() > 0.1
