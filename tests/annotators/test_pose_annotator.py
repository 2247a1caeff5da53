"""Poses by rtmlib, on two tiny networks whose answers are known."""

import pytest
import torch
from tiny_models import PERSON

from unicond.annotators.pose import COCO, PoseAnnotator, openpose_points
from unicond.world import World
from unicond.world.annotate import project_people
from unicond.world.drawings import COLORS_RGB, draw_people
from unicond.world.vocabulary import KEYPOINTS


@pytest.fixture(scope="module")
def annotator(models):
    return PoseAnnotator(models["pose"], "cpu")


def flat(*color):
    return torch.tensor(color)[:, None, None].expand(3, 64, 64).contiguous()


BLUE, RED = flat(-0.9, -0.9, 0.9), flat(0.9, -0.9, -0.9)


def test_points_lie_where_the_network_puts_them(annotator):
    """Even steps along the diagonal of the box, which rtmlib grows by a quarter to 3 : 4."""
    xy, scores = annotator.people(BLUE)
    assert xy.shape == (1, 18, 2)
    left, upper, right, lower = PERSON
    width, height = (right - left) * 1.25, (lower - upper) * 1.25
    width = max(width, height * 48 / 64)
    height = max(height, width * 64 / 48)
    middle = torch.tensor([left + right, upper + lower]) / 2
    corner = middle - torch.tensor([width, height]) / 2
    for name in ("nose", "left wrist", "right ankle"):
        number = COCO.index(name)
        share = torch.tensor([(number + 1) * 96 // 18 / 96, (number + 1) * 128 // 18 / 128])
        expected = corner + share * torch.tensor([width, height])
        assert torch.allclose(xy[0, KEYPOINTS.index(name)], expected, atol=1e-3)
    assert float(scores[0, KEYPOINTS.index("left ear")]) == pytest.approx(0.1)


def test_the_neck_is_between_the_shoulders():
    xy, scores = torch.rand(2, 26, 2), torch.rand(2, 26)
    points, told = openpose_points(xy, scores)
    assert points.shape == (2, 18, 2)
    for number, name in enumerate(KEYPOINTS):
        if name != "neck":
            assert torch.equal(points[:, number], xy[:, COCO.index(name)])
            assert torch.equal(told[:, number], scores[:, COCO.index(name)])
    shoulders = [COCO.index(f"{side} shoulder") for side in ("left", "right")]
    assert torch.allclose(points[:, 1], xy[:, shoulders].mean(1))
    assert torch.equal(told[:, 1], scores[:, shoulders].amin(1))


def test_skeletons_are_drawn_in_openposes_colours(annotator):
    made = annotator(torch.stack([BLUE, RED]))
    assert made.shape == (2, 3, 64, 64)
    assert (made[1] == -1).all(), "rtmlib's networks take BGR: red is not blue"
    xy, _ = annotator.people(BLUE)
    for name in ("nose", "right ankle"):
        number = KEYPOINTS.index(name)
        x, y = xy[0, number].long().tolist()
        color = (made[0, :, y, x] + 1) / 2
        assert float((color - torch.tensor(COLORS_RGB[number]) / 255).abs().max()) < 0.3


def test_uncertain_points_are_left_out(models, annotator):
    eager = PoseAnnotator(models["pose"], "cpu", least_score=0.05)
    xy, _ = annotator.people(BLUE)
    ear = KEYPOINTS.index("left ear")
    x, y = xy[0, ear].long().tolist()
    gap = [
        float(
            ((one(BLUE[None])[0, :, y, x] + 1) / 2 - torch.tensor(COLORS_RGB[ear]) / 255)
            .abs()
            .max()
        )
        for one in (annotator, eager)
    ]
    assert gap[0] > 0.5
    assert gap[1] < 0.3


def test_drawing_follows_the_points_when_pictures_grow():
    """The world's people: drawn in four times the size and reduced, about the same picture."""
    scenes = [scene for scene in World(2).scenes(0, 40) if len(scene.people) == 1][:2]
    found = project_people(scenes, (64, 64))
    shown = torch.ones(2, 18, dtype=torch.bool)
    small = draw_people(found.xy, shown, found.scene, 2, (64, 64))
    large = draw_people(found.xy * 4, shown, found.scene, 2, (256, 256))
    reduced = torch.nn.functional.avg_pool2d(large, 4)
    assert float((small > -1).float().mean()) > 0.01
    # lines of about a pixel: a fifth of the range where there are any
    assert float((reduced - small).abs()[small > -1].mean()) < 0.45
    assert float((reduced - small).abs().mean()) < 0.02


def test_unfit_networks_are_refused(tmp_path):
    for name in ("detector.onnx", "pose.onnx"):
        (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"detector\.onnx cannot be loaded"):
        PoseAnnotator(tmp_path, "cpu")
