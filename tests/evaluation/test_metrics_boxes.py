"""Boxes of what is seen: by hand, on maps of a few rectangles."""

import pytest
import torch

from unicond.evaluation.metrics_boxes import box_iou, largest_alike, placed_ious
from unicond.evaluation.metrics_objects import Spot, box_of, seen_spots

BALL, BOX, RED, BLUE = 2, 3, 1, 5


def maps(*things):
    """(1, 20, 40) maps of (class, colour, left, top, right, bottom) in pixels."""
    classes, colors = torch.ones(1, 20, 40).long(), torch.zeros(1, 20, 40).long()
    for cls, color, left, top, right, bottom in things:
        classes[0, top:bottom, left:right] = cls
        colors[0, top:bottom, left:right] = color
    return classes, colors


def test_overlap_of_boxes_by_hand():
    box = (0.0, 0.0, 0.5, 0.5)
    assert box_iou(box, box) == 1
    assert box_iou(box, (0.5, 0.0, 1.0, 0.5)) == 0
    assert box_iou(box, (0.25, 0.25, 0.75, 0.75)) == pytest.approx(1 / 7)
    assert box_iou(box, (0.0, 0.0, 0.5, 1.0)) == pytest.approx(0.5)


def test_a_box_goes_to_the_outer_borders_of_its_pixels():
    inside = torch.zeros(10, 20, dtype=torch.bool)
    inside[2, 5] = inside[7, 9] = True
    assert box_of(inside) == (0.25, 0.2, 0.5, 0.8)
    with pytest.raises(ValueError, match="nothing has no box"):
        box_of(torch.zeros(4, 4, dtype=torch.bool))


def test_areas_are_seen_with_their_boxes_largest_first():
    classes, colors = maps((BALL, RED, 0, 0, 10, 10), (BOX, BLUE, 20, 10, 40, 20))
    (spots,) = seen_spots(classes, colors, 20)
    things = [spot for spot in spots if spot.color]
    assert things == [
        Spot(BOX, BLUE, (0.5, 0.5, 1.0, 1.0), 200),
        Spot(BALL, RED, (0.0, 0.0, 0.25, 0.5), 100),
    ]
    assert things[0].middle == (0.75, 0.75)
    assert not [s for s in seen_spots(classes, colors, 101)[0] if (s.cls, s.color) == (BALL, RED)]
    with pytest.raises(ValueError, match="must share one shape"):
        seen_spots(classes, colors[:, :5])


def test_areas_of_a_batch_are_not_mixed():
    one, other = maps((BALL, RED, 0, 0, 10, 10)), maps((BALL, RED, 30, 10, 40, 20))
    both = [torch.cat(pair) for pair in zip(one, other, strict=True)]
    boxes = [[s.box for s in spots if s.color] for spots in seen_spots(*both)]
    assert boxes == [[(0.0, 0.0, 0.25, 0.5)], [(0.75, 0.5, 1.0, 1.0)]]


def test_a_thing_is_placed_where_its_class_and_colour_are_seen():
    asked = [Spot(BALL, RED, (0.0, 0.0, 0.25, 0.5)), Spot(BOX, BLUE, (0.5, 0.5, 1.0, 1.0))]
    half = maps((BALL, RED, 0, 0, 10, 5), (BOX, RED, 20, 10, 40, 20))
    (seen,) = seen_spots(*half, 10)
    assert placed_ious(asked, seen) == [pytest.approx(0.5), 0.0]  # half of it; another colour
    twice = maps((BALL, RED, 15, 0, 40, 20), (BALL, RED, 0, 0, 10, 10))
    (seen,) = seen_spots(*twice, 10)
    assert placed_ious(asked, seen)[0] == 1.0  # the better of two
    assert largest_alike(asked[0], seen).pixels == 500
    assert largest_alike(asked[1], seen) is None
    with pytest.raises(ValueError, match="cannot be told apart"):
        placed_ious([asked[0], asked[0]], seen)
