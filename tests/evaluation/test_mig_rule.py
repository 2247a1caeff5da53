"""COCO-MIG's rule on drawn pictures, against closed forms and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from drawn_mig import BENCH, GREY, LEFT, LEVELS, RIGHT, Exact, paint, sure

from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.mig.colors import RANGES, color_share, hsv
from unicond.evaluation.mig.rule import Detection, Verdict, best_iou, judged, kept, squared, verdict

CATS, GLASS = (Entry.model_validate(BENCH[key]) for key in ("0", "1"))


@pytest.fixture(scope="module")
def every_level():
    """(3, 52, 52 * 52) uint8: red, green and blue at every fifth level."""
    steps = torch.arange(0, 256, 5, dtype=torch.uint8)
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(3, 52, -1)


def as_cv2(levels):
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def test_hue_saturation_and_value_are_opencvs(every_level):
    expected = torch.from_numpy(cv2.cvtColor(as_cv2(every_level), cv2.COLOR_RGB2HSV))
    assert torch.equal(hsv(every_level), expected.permute(2, 0, 1).int())


@pytest.mark.parametrize("color", RANGES)
def test_shares_are_those_of_the_official_steps(every_level, color):
    """Outside of the mask grey, then OpenCV's ranges, over the mask."""
    mask = torch.rand(every_level.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.3
    painted = torch.where(mask, every_level, torch.full_like(every_level, 127))
    shown = cv2.cvtColor(as_cv2(painted), cv2.COLOR_RGB2HSV)
    hits = np.zeros(mask.shape, bool)
    for low, high in RANGES[color]:
        hits |= cv2.inRange(shown, np.array(low), np.array(high)) > 0
    share = color_share(every_level, mask, color)
    assert share == (hits & mask.numpy()).sum() / mask.sum().item()
    assert 0 < share < 0.5


def test_every_color_is_itself_and_grey_is_none():
    full = torch.ones(1, 1, dtype=torch.bool)
    for name, levels in LEVELS.items():
        pixel = torch.tensor(levels, dtype=torch.uint8)[:, None, None]
        assert [color for color in RANGES if color_share(pixel, full, color)] == [name]
    grey = torch.tensor(GREY, dtype=torch.uint8)[:, None, None]
    assert not any(color_share(grey, full, color) for color in RANGES)
    assert color_share(grey, ~full, "red") == 0.0


@pytest.mark.parametrize(
    ("iou", "share", "expected"),
    [
        (0.0, 0.0, Verdict(False, 0.0)),
        (0.49, 1.0, Verdict(False, 0.49)),
        (0.5, 0.19, Verdict(False, 0.0)),
        (0.5, 0.2, Verdict(True, 0.5)),
        (0.9, 1.0, Verdict(True, 0.9)),
    ],
)
def test_verdicts(iou, share, expected):
    assert verdict(iou, share) == expected


def test_uncertain_and_doubled_detections_are_dropped():
    near = (0.0, 0.0, 1.0, 0.9)  # IoU 0.9 with the whole
    apart = (0.0, 0.0, 1.0, 0.8)  # 0.8 with the whole, 8/9 with near
    whole = (0.0, 0.0, 1.0, 1.0)
    given = [
        Detection(apart, 0.4),
        Detection(near, 0.5),
        Detection(whole, 0.6),
        Detection(LEFT, 0.25),
    ]
    assert [one.box for one in kept(given)] == [whole, apart]
    assert kept([]) == []
    assert best_iou(near, kept(given)) == pytest.approx(0.9)
    assert best_iou(LEFT, []) == 0.0


def test_things_in_place_and_in_color_succeed():
    picture = paint([(LEFT, LEVELS["black"]), (RIGHT, LEVELS["white"])])
    found = judged(picture, CATS, Exact({"cat": sure(LEFT, RIGHT)}))
    assert found == [Verdict(True, 1.0), Verdict(True, 1.0)]


def test_one_detection_may_count_for_several_instances():
    whole = (0.0, 0.25, 1.0, 0.75)  # lies half on each
    picture = paint([(LEFT, LEVELS["black"]), (RIGHT, LEVELS["white"])])
    assert judged(picture, CATS, Exact({"cat": sure(whole)})) == [Verdict(True, 0.5)] * 2


def test_wrong_colors_count_nothing():
    picture = paint([(LEFT, LEVELS["white"]), (RIGHT, LEVELS["black"])])
    found = judged(picture, CATS, Exact({"cat": sure(LEFT, RIGHT)}))
    assert found == [Verdict(False, 0.0), Verdict(False, 0.0)]


def test_a_fifth_of_the_color_is_enough():
    """The left box is 256 x 256 pixels; some of its rows are black."""
    for rows, success in ((51, False), (52, True)):  # 51 / 256 < 0.2 < 52 / 256
        part = (0.0, 0.25, 0.5, 0.25 + rows / 512)
        picture = paint([(part, LEVELS["black"]), (RIGHT, LEVELS["white"])])
        found = judged(picture, CATS, Exact({"cat": sure(LEFT, RIGHT)}))
        assert [one.success for one in found] == [success, True]


def test_misplaced_things_count_their_iou_whatever_their_color():
    class Blind(Exact):
        def masks(self, picture, boxes):
            raise AssertionError("the colour of misplaced things is not looked at")

    low = (0.0, 0.5, 0.5, 1.0)  # a third with the left box
    found = judged(paint([]), CATS, Blind({"cat": sure(low)}))
    assert [one.success for one in found] == [False, False]
    assert [one.iou for one in found] == pytest.approx([1 / 3, 0.0])


def test_only_detections_of_the_thing_count():
    picture = paint([(LEFT, LEVELS["red"]), (RIGHT, LEVELS["blue"])])
    detector = Exact({"bird": sure(LEFT, RIGHT)})
    assert judged(picture, GLASS, detector) == [Verdict(False, 0.0), Verdict(True, 1.0)]
    assert detector.looked == [((3, 512, 512), "wine glass"), ((3, 512, 512), "bird")]


def test_pictures_of_other_sizes_are_stretched():
    parts = [(LEFT, LEVELS["black"]), (RIGHT, LEVELS["white"])]
    assert judged(paint(parts, (64, 128)), CATS, Exact({"cat": sure(LEFT, RIGHT)})) == [
        Verdict(True, 1.0),
        Verdict(True, 1.0),
    ]
    assert squared(paint(parts, (64, 128))).shape == (3, 512, 512)
    assert torch.equal(squared(paint(parts)), paint(parts))
