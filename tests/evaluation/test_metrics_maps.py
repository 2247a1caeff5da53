"""Class maps, normals and metric depth against values worked out by hand."""

import math

import pytest
import torch

from unicond.evaluation.metrics_depth import score_metres
from unicond.evaluation.metrics_maps import mean_angle, mean_iou


def test_iou_of_boxes_by_hand():
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[0, :4] = 1
    guess = torch.zeros_like(truth)
    guess[0, :6] = 1
    # class 1: 32 of 48; class 0: 16 of 32
    assert mean_iou(guess, truth, range(2), 1).tolist() == [pytest.approx((32 / 48 + 0.5) / 2)]
    assert mean_iou(guess, truth, range(1, 2), 1).tolist() == [pytest.approx(32 / 48)]
    assert mean_iou(truth, truth, range(5), 1).tolist() == [1.0]


def test_only_classes_that_the_reference_shows_count():
    truth = torch.zeros(2, 8, 8, dtype=torch.int64)
    truth[0, 0, :3] = 2
    guess = truth.clone()
    guess[:, 7] = 3  # a class of the guess alone costs where it covers others
    scores = mean_iou(guess, truth, range(4), 4)
    assert scores[0] == pytest.approx((61 - 8) / 61)
    assert scores[1] == pytest.approx(56 / 64)
    assert mean_iou(guess, truth, range(4), 3)[0] == pytest.approx(((61 - 8) / 61 + 1) / 2)
    assert math.isnan(mean_iou(guess, truth, range(4, 5), 1)[0])
    big = torch.zeros(1, 128, 128, dtype=torch.int64)
    big[0, 0, :24] = 1  # the default's least
    assert mean_iou(torch.zeros_like(big), big, range(1, 2)).tolist() == [0.0]
    big[0, 0, 0] = 0
    assert math.isnan(mean_iou(torch.zeros_like(big), big, range(1, 2))[0])


def test_iou_does_not_depend_on_the_batch():
    noise = torch.Generator().manual_seed(0)
    maps = torch.randint(3, (2, 4, 8, 8), generator=noise)
    whole = mean_iou(*maps, range(3), 1)
    assert mean_iou(maps[0, 2:3], maps[1, 2:3], range(3), 1)[0] == whole[2]
    with pytest.raises(ValueError, match="share one shape"):
        mean_iou(maps[0], maps[1, :2], range(3))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 17.0, 90.0, 135.0, 180.0])
def test_angles_are_what_they_are(degrees):
    radians = math.radians(degrees)
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)
    turned = torch.tensor([math.cos(radians), math.sin(radians), 0.0], dtype=torch.float64)
    turned = 3 * turned.reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)  # lengths do not matter
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert mean_angle(turned, x, valid).item() == pytest.approx(degrees, abs=1e-9)


def test_only_surfaces_have_angles():
    normals = torch.zeros(2, 3, 1, 2)
    normals[:, 2] = 1.0
    guess = normals.clone()
    guess[0, :, 0, 0] = 0.0  # nothing was drawn: a right angle
    guess[1, 2] = -1.0
    valid = torch.tensor([[True, True], [True, False]]).reshape(2, 1, 1, 2)
    assert mean_angle(guess, normals, valid).tolist() == pytest.approx([45.0, 180.0])
    assert math.isnan(mean_angle(guess, normals, valid & False)[0])
    with pytest.raises(ValueError, match="mask be"):
        mean_angle(guess, normals, valid[:, 0])


def test_metric_depth_by_hand():
    truth = torch.tensor([2.0, 4.0, 10.0, 0.0]).reshape(1, 1, 2, 2)
    valid = truth > 0
    guess = torch.tensor([2.2, 3.0, 13.0, 5.0]).reshape(1, 1, 2, 2)
    scores = score_metres(guess, truth, valid)
    assert scores.abs_rel.item() == pytest.approx((0.1 + 0.25 + 0.3) / 3, rel=1e-6)
    assert scores.delta1.item() == pytest.approx(1 / 3)  # 4 / 3 and 1.3 are beyond 1.25
    twice = score_metres(2 * truth.clamp_min(1), truth, valid)
    assert twice.abs_rel.item() == pytest.approx(1.0)  # a scale is not forgiven
    with pytest.raises(ValueError, match="not finite"):
        score_metres(guess / 0, truth, valid)
