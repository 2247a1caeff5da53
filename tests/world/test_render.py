"""Depth and normals against closed forms; independence of batch, order and size."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from shapes import distance

from unicond.world import Camera, Place, Rendering, Scene, Solid, World, render
from unicond.world.scene import FAR_M
from unicond.world.vectors import camera_axes, focal
from unicond.world.vocabulary import CLASSES, COLOR_NAMES, STYLES

PLACE = Place("snow", "day", 30.0, 50.0)
LEVEL = Camera((0.0, 1.5, 6.0), (0.0, 1.5, 0.0), 50.0)


def one(*solids: Solid, camera: Camera = LEVEL) -> Scene:
    return Scene(0, 0, "photo", camera, PLACE, solids)


def pixel_rays(camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 places (u, v) of pixel centres in the picture plane at depth 1, each (size, size)."""
    line = (np.arange(size) + 0.5 - 0.5 * size) / (size * focal(camera))
    return np.meshgrid(line, line)


def test_ball_depth_is_the_quadratic_root():
    drawn = render(one(Solid("ball", "red", (0.3, 1.4, 0.2), (1.0, 1.0, 1.0))), 65)
    u, v = pixel_rays(LEVEL, 65)
    d = np.stack([u, -v, -np.ones_like(u)], -1)
    o = np.array(LEVEL.position) - np.array([0.3, 1.4, 0.2])
    a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 0.25
    hit = b * b - a * c > 1e-4
    depth = (-b - np.sqrt(np.where(hit, b * b - a * c, 0))) / a
    assert hit.sum() > 100
    assert (drawn.instances[0].numpy()[hit] == 1).all()
    # float32 of a 6 m depth through a quadratic: 2e-5 relative near the rim
    assert np.abs(drawn.depth[0, 0].numpy() - depth)[hit].max() < 2e-4


def test_ground_depth_is_height_over_slope():
    drawn = render(one(), 64)
    _, v = pixel_rays(LEVEL, 64)
    depth = np.where(v > 0, 1.5 / np.maximum(v, 1e-9), np.inf)
    ground = depth < 0.999 * FAR_M
    assert (drawn.instances[0].numpy()[ground] == 0).all()
    np.testing.assert_allclose(drawn.depth[0, 0].numpy()[ground], depth[ground], rtol=2e-6)
    far = depth > 1.001 * FAR_M
    assert (drawn.instances[0].numpy()[far] == -1).all()
    assert (drawn.depth[0, 0].numpy()[far] == 0).all()
    assert not drawn.valid[0, 0].numpy()[far].any()


def test_box_face_is_flat():
    drawn = render(one(Solid("box", "blue", (0.0, 1.5, 0.0), (1.2, 0.8, 1.0))), 64)
    mask = drawn.instances[0] == 1
    assert mask.sum() > 50
    # the camera stands level before one face: every depth is 6 - 0.5
    assert (drawn.depth[0, 0][mask] - 5.5).abs().max() < 1e-5
    expected = torch.tensor([0.0, 0.0, 1.0])
    assert (drawn.normals[0, :, mask] - expected[:, None]).abs().max() < 1e-6


@pytest.mark.parametrize("shape", ["ball", "box", "cylinder", "pill", "cone"])
def test_hit_points_lie_on_the_surface(shape):
    camera = Camera((1.5, 2.0, 3.0), (0.0, 0.6, 0.0), 40.0)
    right, down, forward = (np.array(axis) for axis in camera_axes(camera))
    u, v = pixel_rays(camera, 80)
    for tilt in (0.0, 35.0, 90.0, 140.0):
        size = (0.6, 0.6, 0.6) if shape == "ball" else (0.5, 0.9, 0.5)
        size = (0.5, 0.9, 0.7) if shape == "box" else size
        solid = Solid(shape, "red", (0.1, 0.7, -0.1), size, 25.0, tilt)
        drawn = render(one(solid, camera=camera), 80)
        mask = drawn.instances[0].numpy() == 1
        assert mask.sum() > 120
        way = forward + u[mask][:, None] * right + v[mask][:, None] * down
        points = np.array(camera.position) + drawn.depth[0, 0].numpy()[mask][:, None] * way
        # float32 intersections at 4 m; grazing rays lose half the digits
        assert np.abs(distance(solid, points)).max() < 5e-4


def test_nothing_in_front_of_the_surface_is_missed():
    camera = Camera((1.0, 1.4, 3.4), (0.0, 0.5, 0.0), 45.0)
    right, down, forward = (np.array(axis) for axis in camera_axes(camera))
    for scene in World(3, people=False, style="photo").scenes(0, 6):
        scene = dataclasses.replace(scene, camera=camera, relations=())
        drawn = render(scene, 24)
        u, v = pixel_rays(camera, 24)
        way = forward + u[..., None] * right + v[..., None] * down
        depth = drawn.depth[0, 0].numpy()
        for share in np.linspace(0.05, 0.99, 60):
            depth_there = np.where(depth > 0, depth, FAR_M) * share
            points = (np.array(camera.position) + depth_there[..., None] * way).reshape(-1, 3)
            for solid in scene.solids:
                # half a percent before the surface, a point may graze what its ray just misses
                assert distance(solid, points).min() > -2e-3


def test_normals_are_unit_and_match_depth(rendering, scenes):
    drawn = render(scenes[:24], 192, style="photo", smooth=False)
    length = drawn.normals.norm(dim=1, keepdim=True)
    assert (length[drawn.valid] - 1).abs().max() < 1e-5
    assert (length[~drawn.valid] == 0).all()
    wrong = total = 0
    for n, scene in enumerate(scenes[:24]):
        u, v = (torch.tensor(grid) for grid in pixel_rays(scene.camera, 192))
        depth = drawn.depth[n, 0].double()
        points = torch.stack([u * depth, -v * depth, -depth])
        across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
        up = points[:, :-2, 1:-1] - points[:, 2:, 1:-1]
        normal = torch.linalg.cross(across, up, dim=0)
        normal = normal / normal.norm(dim=0).clamp_min(1e-12)
        there = drawn.normals[n].double()
        smooth = torch.ones_like(depth[1:-1, 1:-1], dtype=torch.bool)
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            side = there[:, rows : rows + 190, columns : columns + 190]
            smooth &= (side * there[:, 1:-1, 1:-1]).sum(0) > 0.985
            ids = drawn.instances[n, rows : rows + 190, columns : columns + 190]
            smooth &= ids == drawn.instances[n, 1:-1, 1:-1]
        smooth &= drawn.instances[n, 1:-1, 1:-1] > 0
        agreement = (normal * there[:, 1:-1, 1:-1]).sum(0)[smooth]
        wrong += int((agreement < math.cos(math.radians(8))).sum())
        total += int(smooth.sum())
    assert total > 50_000
    # differences over two pixels bend with the surface; hands over bodies keep 1 % of pixels apart
    assert wrong / total < 0.01


def test_inverse_depth_spans_its_range(rendering):
    near = rendering.inverse_depth
    assert near.shape == rendering.image.shape
    assert (near[:, 0] == near[:, 2]).all()
    for n in range(len(rendering)):
        valid = rendering.valid[n, 0]
        values = near[n, 0][valid]
        assert values.min() == pytest.approx(-1, abs=1e-5)
        assert values.max() == pytest.approx(1, abs=1e-5)
        assert (near[n, 0][~valid] == -1).all()
        depth = rendering.depth[n, 0][valid]
        assert (depth.argmin() == values.argmax()) or depth.min() == depth[values.argmax()]


def test_alone_as_in_a_batch(scenes):
    batch = render(scenes[:40], 48)
    for n in range(0, 40, 3):
        alone = render(scenes[n], 48)
        assert torch.equal(alone.instances[0], batch.instances[n])
        assert (alone.depth[0] - batch.depth[n]).abs().max() < 1e-4
        assert (alone.image[0] - batch.image[n]).abs().max() < 1e-4
        assert (alone.normals[0] - batch.normals[n]).abs().max() < 1e-4


def test_size_does_not_change_what_is_there(scenes):
    small, large = render(scenes[:24], 40, smooth=False), render(scenes[:24], 120, smooth=False)
    middle = large.depth[..., 1::3, 1::3]
    other = large.instances[..., 1::3, 1::3] != small.instances
    # the same rays in other float32 sums: only rays that graze a rim may fall to either side
    assert other.float().mean() < 5e-4
    difference = (middle - small.depth).abs()[~other[:, None]]
    assert (difference > 1e-3).float().mean() < 5e-4
    assert difference.median() < 1e-5


def test_wide_picture_contains_the_square(scenes):
    square, wide = render(scenes[:4], 48, smooth=False), render(scenes[:4], (48, 80), smooth=False)
    same = wide.instances[:, :, 16:64] == square.instances
    assert same.float().mean() > 0.999


def test_maps_agree_with_scene(scenes, rendering):
    for n, scene in enumerate(scenes):
        assert int(rendering.instances[n].max()) <= len(scene)
        for k, solid in enumerate(scene.solids):
            mask = rendering.instances[n] == k + 1
            assert (rendering.classes[n][mask] == CLASSES.index(solid.shape)).all()
            assert (rendering.colors[n][mask] == COLOR_NAMES.index(solid.color)).all()
        ground = rendering.instances[n] == 0
        assert (rendering.classes[n][ground] == CLASSES.index("ground")).all()
        assert (rendering.colors[n][ground] == 0).all()


def test_styles_change_the_picture_and_nothing_else(scenes):
    photo = render(scenes[:8], 48, style="photo")
    for style in STYLES[1:]:
        other = render(scenes[:8], 48, style=style)
        assert torch.equal(other.depth, photo.depth)
        assert torch.equal(other.instances, photo.instances)
        assert (other.image - photo.image).abs().mean() > 0.05
        assert other.image.min() >= -1
        assert other.image.max() <= 1


def test_shadow_falls_away_from_the_sun():
    place = Place("snow", "day", 90.0, 45.0)
    ball = Solid("ball", "red", (0.0, 0.5, 0.0), (1.0, 1.0, 1.0))
    camera = Camera((0.0, 5.0, 4.0), (0.0, 0.0, 0.0), 50.0)
    scene = Scene(0, 0, "photo", camera, place, (ball,))
    drawn, bare = render(scene, 64), render(dataclasses.replace(scene, solids=()), 64)
    darker = ((bare.image - drawn.image).mean(1)[0] > 0.2) & (drawn.instances[0] == 0)
    columns = darker.nonzero()[:, 1].float()
    # the sun stands at +x, right in the picture: the shadow lies left
    assert len(columns) > 40
    assert columns.mean() < 28


def test_smoothing_touches_edges_only(scenes):
    rough = render(scenes[:8], 64, style="photo", smooth=False)
    fine = render(scenes[:8], 64, style="photo")
    changed = (rough.image - fine.image).abs().amax(1) > 1e-6
    assert 0.01 < changed.float().mean() < 0.3
    assert torch.equal(rough.depth, fine.depth)
    coarse = torch.nn.functional.avg_pool2d(render(scenes[:8], 256, style="photo").image, 4)
    # smoothing must bring the picture closer to a 4 x 4 supersampled one
    assert (fine.image - coarse).square().mean() < 0.6 * (rough.image - coarse).square().mean()


def test_bad_requests_say_what_to_do(scenes):
    with pytest.raises(ValueError, match="no scenes were given"):
        render([])
    with pytest.raises(ValueError, match="8 to 2048"):
        render(scenes[0], 4)
    with pytest.raises(ValueError, match="choose one of photo, toon"):
        render(scenes[0], 32, style="oil")


def test_a_rendering_slices_and_moves(rendering):
    some = rendering[3:5]
    assert isinstance(some, Rendering)
    assert len(some) == 2
    assert torch.equal(some.to("cpu").depth, rendering.depth[3:5])
