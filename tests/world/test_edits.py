"""Edits of scenes: one thing changes, the words say which, and the true result is known."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from unicond.world.edits import KINDS, LEVEL, Edits, change_mask, rendered


@pytest.fixture(scope="module")
def edits():
    return Edits(3).edits(range(40))


@pytest.fixture(scope="module")
def pair(edits):
    return rendered(edits, 64)


def told_apart(source, target):
    """The words of each caption that are left between what both begin and end with."""
    one, other = source.split(), target.split()
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return one, other


def test_an_edit_is_its_number(edits):
    assert Edits(3)[7] == edits[7]
    assert Edits(4)[7] != edits[7]
    assert [edit.kind for edit in edits[:6]] == [*KINDS, KINDS[0]]
    assert all(one.source != other.source for one, other in pairwise(edits))
    with pytest.raises(IndexError, match="indices start at 0"):
        Edits(3)[-1]


def test_scenes_are_simple_photos_before(edits):
    for edit in edits:
        assert edit.source.style == "photo"
        assert 1 <= len(edit.source.solids) <= 3
        assert 1 <= len(edit.target.solids) <= 3
        assert not edit.source.people
        for scene in (edit.source, edit.target):
            looks = [(solid.shape, solid.color) for solid in scene.solids]
            assert len(set(looks)) == len(looks)  # words mean one thing


@pytest.mark.parametrize("kind", KINDS)
def test_one_thing_changes(edits, kind):
    for edit in edits:
        if edit.kind != kind:
            continue
        source, target = edit.source, edit.target
        assert source.camera == target.camera
        assert source.place == target.place
        if kind == "restyle":
            assert target == source.with_style(target.style) != source
            continue
        assert source.style == target.style
        less, more = sorted((source, target), key=len)
        looks = [{dataclasses.replace(s, support="") for s in each.solids} for each in (less, more)]
        new = looks[1] - looks[0]
        assert new == {dataclasses.replace(edit.solid, support="")} or len(less) == len(more)
        if kind in ("add", "remove"):
            assert looks[0] < looks[1]
            assert (kind == "add") == (source == less)
            continue
        old, new = source.solids[edit.entity], edit.solid
        changed = {k for k in vars(old) if getattr(old, k) != getattr(new, k)}
        if kind == "recolour":
            assert changed == {"color"}
            assert new.color not in {solid.color for solid in source.solids}
        else:
            assert old.color == new.color
            assert old.shape != new.shape
            assert old.support == new.support == "ground"
            assert new.center[::2] == old.center[::2]
        rest = [k for k in range(len(source.solids)) if k != edit.entity]
        assert [source.solids[k] for k in rest] == [target.solids[k] for k in rest]


def test_captions_differ_in_the_words_of_the_edit(edits):
    for edit in edits:
        one, other = told_apart(edit.source_caption, edit.target_caption)
        noun = edit.words.split()[-1]
        if edit.kind in ("recolour", "swap_class"):
            assert len(one) == len(other) <= 2  # an article may change with its colour
            assert {*other} <= {*edit.words.split()}
        elif edit.kind == "restyle":
            assert "photo" in one
            assert edit.target_caption.startswith(f"{edit.words} of ")
        else:
            gone, come = (other, one) if edit.kind == "remove" else (one, other)
            assert not gone
            assert noun in come
            assert edit.words in edit.target_caption + edit.source_caption
        ground = edit.source.place.ground
        assert ground in edit.source_caption or "wooden" in edit.source_caption


def test_the_words_are_true_of_both_pictures(edits):
    linked = 0
    for edit in edits:
        for scene, text in (
            (edit.source, edit.source_caption),
            (edit.target, edit.target_caption),
        ):
            solids = [f"{solid.color} {solid.shape}" for solid in scene.solids]
            assert all(words in text for words in solids)
            told = [
                f"{solids[r.subject]} {r.name} a {solids[r.target]}"
                for r in scene.relations
                if not solids[r.target].startswith("orange")
            ]
            joined = text.count(" of a ") - text.count("photo of a ") > 0 or " on top" in text
            linked += any(each in text for each in told)
            if joined and len(solids) > 1 and "orange" not in text and edit.kind != "restyle":
                assert any(each in text for each in told), text
    assert linked > 20


def test_the_rest_of_the_picture_is_the_same(edits, pair):
    before, after = pair
    mask = change_mask(before.image, after.image)
    gap = (before.image - after.image).abs().amax(1, keepdim=True)
    assert gap[~mask].max() <= LEVEL
    for row, edit in enumerate(edits):
        if edit.entity is None:
            assert torch.equal(before.depth[row], after.depth[row])
            continue
        shown = before if edit.kind == "remove" else after
        place = shown.instances[row] == edit.entity + 1
        assert place.float().mean() >= 0.01
        same = 0.5 if edit.kind == "swap_class" else 0.95  # two shapes may share a flat shade
        assert mask[row, 0][place].float().mean() > same
        assert 0.01 < mask[row].float().mean() < 0.7
        if edit.kind == "recolour":
            assert torch.equal(before.depth[row], after.depth[row])
            assert torch.equal(before.classes[row], after.classes[row])
            assert not (before.colors[row] == after.colors[row])[place].any()


def test_masks_reach_as_far_as_asked():
    black = torch.full((1, 3, 32, 40), -1.0)
    dot = black.clone()
    dot[0, 1, 10, 20] = 1.0
    for margin in (0, 1, 3):
        mask = change_mask(black, dot, margin)[0, 0]
        rows, columns = mask.nonzero().T
        assert (rows.min(), rows.max()) == (10 - margin, 10 + margin)
        assert (columns.min(), columns.max()) == (20 - margin, 20 + margin)
        assert mask.sum() == (2 * margin + 1) ** 2
    faint = black + 0.9 * LEVEL
    assert not change_mask(black, faint).any()
    assert change_mask(torch.zeros(1, 3, 256, 256), torch.ones(1, 3, 256, 256)).all()
    with pytest.raises(ValueError, match="one shape"):
        change_mask(black, dot[..., :20])
