"""Previews of a grounding: nothing that is said of two things lies on top of another."""

import pytest

from unicond.grounding import Box, Grounding, Interaction
from unicond.tasks.preview import draw_grounding

SIDE = 256
THINGS = (Box("a red ball", (0.0, 0.25, 0.3, 0.75)), Box("a blue box", (0.7, 0.25, 1.0, 0.75)))
UPRIGHT = (Box("a red ball", (0.25, 0.0, 0.75, 0.3)), Box("a blue box", (0.25, 0.7, 0.75, 1.0)))


def ink(*pairs, boxes=THINGS):
    """Where arrows and texts are, but for the boxes' phrases."""
    said = tuple(Interaction(subject, "holding", thing) for subject, thing in pairs)
    drawn, plain = (draw_grounding(Grounding(boxes, one), (SIDE, SIDE)) for one in (said, ()))
    return (drawn.amax(0) < 0) & ~(plain.amax(0) < 0)


@pytest.mark.parametrize("boxes", [THINGS, UPRIGHT])
def test_actions_of_one_pair_stand_below_each_other(boxes):
    one, two, three = (int(ink(*[(0, 1)] * n, boxes=boxes).sum()) for n in (1, 2, 3))
    text = two - one
    assert text > 50
    assert abs(three - two - text) < 0.2 * text  # a line more each, and none on another


@pytest.mark.parametrize("boxes", [THINGS, UPRIGHT])
def test_what_comes_back_has_an_arrow_of_its_own(boxes):
    there, back, both = (
        int(ink(*pairs, boxes=boxes).sum()) for pairs in ([(0, 1)], [(1, 0)], [(0, 1), (1, 0)])
    )
    assert both > 0.9 * (there + back)


def test_a_thing_with_itself_has_a_loop():
    found = ink((0, 0))
    rows, columns = found.nonzero().unbind(1)
    middle = (SIDE // 2, round(0.15 * SIDE))
    above = rows[(rows < middle[0]) & ((columns - middle[1]).abs() < 24)]
    assert 24 < middle[0] - int(above.min()) < 40
    hole = found[middle[0] - 20 : middle[0] - 12, middle[1] - 4 : middle[1] + 4]
    assert not hole.any()


def test_boxes_around_one_middle_are_drawn():
    around = (THINGS[0], Box("a hat", (0.1, 0.4, 0.2, 0.6)))
    assert ink((0, 1), (1, 0), boxes=around).any()


def test_a_text_stays_inside_of_the_picture():
    corner = (Box("a", (0.0, 0.0, 0.1, 0.05)), Box("b", (0.0, 0.06, 0.1, 0.1)))
    found = ink((0, 1), (1, 0), boxes=corner)
    assert not found[:, 0].any()
    assert not found[0].any()
