"""Mini-MIG's layouts, COCO-MIG's rule read by the probe, and what models are told."""

from collections import Counter

import pytest
import torch
from drawn_mig import LEFT, RIGHT, asked
from truth import reading_of

from unicond.evaluation.amdm.layouts import COLORS, LEAST_SIDE, LEVELS, layout, level_of
from unicond.evaluation.amdm.mig import PUBLISHED
from unicond.evaluation.amdm.models import adapters_of
from unicond.evaluation.amdm.wanted import of_entry
from unicond.evaluation.metrics_boxes import box_iou
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.mig.probed import Seen, look, spots_of
from unicond.evaluation.mig.rule import Verdict
from unicond.world.render import render
from unicond.world.vocabulary import CLASSES, COLOR_NAMES

BALL, BOX = CLASSES.index("ball"), CLASSES.index("box")
RED, BLUE = COLOR_NAMES.index("red"), COLOR_NAMES.index("blue")


@pytest.fixture(scope="module")
def some():
    return [layout(3, number) for number in range(10)]


def test_levels_are_in_equal_parts_and_boxes_are_inside(some):
    assert Counter(level_of(number) for number in range(200)) == dict.fromkeys(LEVELS, 40)
    assert [one.entry.level for one in some] == [*LEVELS, *LEVELS]
    for one in some:
        for thing in one.entry.segment:
            left, top, right, bottom = thing.bbox
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert min(right - left, bottom - top) >= LEAST_SIDE
            assert thing.label in one.entry.caption
    assert len({one.scene.index for one in some}) == len(some)
    assert layout(3, 4) == some[4] != layout(4, 4)


def test_the_scene_shows_what_is_asked_for(some):
    """Of every layout the scene succeeds, at the boxes that were taken from it."""
    scenes = [one.scene for one in some]
    drawn = render(scenes, 128, smooth=False)
    read = reading_of(scenes, drawn, torch.zeros(len(scenes), 1))
    for seen in look([spots_of(one.entry) for one in some], read.classes, read.colors):
        assert all(one.share > 0.5 for one in seen)  # things stand before others
    alone = look([spots_of(some[0].entry)], read.classes[:1], read.colors[:1])[0]
    assert [one.verdict for one in alone] == [Verdict(True, 1.0)] * 2


def test_all_seven_colors_are_drawn():
    assert set(COLORS) == {"red", "blue", "yellow", "green", "black", "white", "brown"}
    drawn = {one.color for number in range(0, 100, 5) for one in layout(0, number).entry.segment}
    assert drawn == set(COLORS)


def maps(*parts):
    """(1, 40, 40) classes and colours of (box, class, colour)."""
    classes, colors = (torch.zeros(1, 40, 40, dtype=torch.int64) for _ in range(2))
    for (left, top, right, bottom), cls, color in parts:
        at = (0, slice(round(40 * top), round(40 * bottom)))
        columns = slice(round(40 * left), round(40 * right))
        classes[(*at, columns)], colors[(*at, columns)] = cls, color
    return classes, colors


def seen(*parts):
    entry = Entry.model_validate(asked((LEFT, "a red ball"), (RIGHT, "a blue box")))
    return look([spots_of(entry)], *maps(*parts))[0]


def test_the_rule():
    good = seen((LEFT, BALL, RED), (RIGHT, BOX, BLUE))
    assert good == [Seen(1.0, 1.0), Seen(1.0, 1.0)]
    swapped = seen((LEFT, BALL, BLUE), (RIGHT, BOX, RED))
    assert [one.verdict for one in swapped] == [Verdict(False, 0.0)] * 2
    assert all(one.placed and not one.colored for one in swapped)
    moved = (0.25, 0.25, 0.75, 0.75)
    away = seen((moved, BALL, RED))
    assert [one.verdict for one in away] == [
        Verdict(False, pytest.approx(box_iou(LEFT, moved))),
        Verdict(False, 0.0),
    ]
    assert not away[0].placed
    for part, share in ((0.2, True), (0.15, False)):  # of the box, as much is red
        left = (0.0, 0.25, 0.5 * part, 0.75)
        halves = seen((LEFT, BALL, BLUE), (left, BALL, RED))
        assert halves[0].share == pytest.approx(part, abs=0.03)
        assert halves[0].colored == share


def test_only_the_thing_itself_has_the_color():
    other = seen((LEFT, BALL, BLUE), ((0.0, 0.25, 0.2, 0.75), BOX, RED))
    assert other[0].share == 0
    assert seen()[0] == Seen(0.0, 0.0)


def test_touching_things_of_one_class_are_seen_apart_by_color():
    entry = Entry.model_validate(asked((LEFT, "a red ball"), (RIGHT, "a blue ball")))
    found = look([spots_of(entry)], *maps((LEFT, BALL, RED), (RIGHT, BALL, BLUE)))[0]
    assert found == [Seen(1.0, 1.0), Seen(1.0, 1.0)]


def test_what_models_are_told():
    entry = Entry.model_validate(asked((LEFT, "a red ball"), (RIGHT, "a blue box")))
    told = of_entry(entry, plain=True)
    assert told.caption == entry.caption
    assert [one.phrase for one in told.plain.boxes] == ["a ball", "a box"]
    assert [one.phrase for one in told.colored.boxes] == ["a red ball", "a blue box"]
    assert [one.box for one in told.plain.boxes] == [LEFT, RIGHT]
    both = of_entry(entry, plain=False).plain.told()
    assert [(one.phrase, action, other.phrase) for one, action, other in both] == [
        ("a red ball", "and", "a red ball"),
        ("a blue box", "and", "a blue box"),
    ]


def test_names_of_adapters():
    assert adapters_of(["interact", "text", "style", "interact"]) == ("interact", "image-prompt")


def test_the_papers_averages_are_over_instances():
    """Truncated to two digits, as its percentages are."""
    for numbers in PUBLISHED.values():
        for ratios in (numbers[:6], numbers[6:12]):
            average = sum(n * level for n, level in zip(ratios, LEVELS, strict=False)) / sum(LEVELS)
            assert average == pytest.approx(ratios[5], abs=0.011)
