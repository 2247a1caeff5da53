"""Augmentations: pairs stay aligned, mirrored conditions are those of mirrored pictures."""

import math
from dataclasses import replace

import pytest
import torch

from unicond import conditions
from unicond.annotators.base import CAPTION
from unicond.annotators.edges import SoftEdges
from unicond.annotators.registry import MADE
from unicond.data.augment import AugmentConfig, augmented, names_a_side
from unicond.data.conditions import KINDS, condition_part, kind_of, mirrored
from unicond.data.sources import Pair
from unicond.pictures.fitting import resized
from unicond.pictures.metric_depth import draw_metric_depth
from unicond.world import World, render
from unicond.world.annotate import EDGE_LEVELS, soft_edges
from unicond.world.drawings import draw_segmentation, draw_skeletons


@pytest.fixture(scope="module")
def world():
    """One scene with people, and the same looked at in a mirror."""
    scene = next(s for s in World(2, people=True).scenes(0, 40) if len(s.people) == 1 and s.solids)
    return scene, render(scene, (64, 96))


def gradient(height=64, width=96):
    """A picture whose pixels say where they are, and a condition that says the same."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack([x, y, torch.zeros_like(x)])


def pair(kind="scribble"):
    place = gradient()
    return Pair("x", place, place.clone(), ("a thing",)), kind_of(kind)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(64, 64), (96, 32), (32, 96), (128, 128)])
def test_picture_and_condition_are_cut_alike(seed, size):
    """The condition is the picture itself: whatever is done, they stay equal."""
    both, kind = pair()
    config = AugmentConfig(zoom=1.7, flip=0.5)
    image, condition = augmented(both, "a thing", size, kind, config, (seed, 3))
    assert image.shape == condition.shape == (3, *size)
    # the picture is resized smoothly, and so is a condition of no known kind
    assert torch.equal(image, condition)


def test_the_largest_part_of_the_proportions_is_kept():
    both, kind = pair()
    for crop in ("center", "random"):
        config = AugmentConfig(crop=crop)
        image, _ = augmented(both, "", (64, 64), kind, config, (0,))
        # full height: both ends are there; two thirds of the width
        assert float(image[1].max() - image[1].min()) == pytest.approx(2, abs=0.05)
        assert float(image[0].max() - image[0].min()) == pytest.approx(2 * 64 / 96, abs=0.05)
    middle, _ = augmented(both, "", (64, 64), kind, AugmentConfig(crop="center"), (0,))
    assert float(middle[0].mean()) == pytest.approx(0, abs=0.02)


def test_no_proportions_are_changed():
    """A step of one pixel across is as large as one down, before and after."""
    both, kind = pair()
    for size in ((32, 96), (96, 64)):
        image, _ = augmented(both, "", size, kind, AugmentConfig(zoom=1.3), (4,))
        across = float(image[0].diff(dim=1).mean()) * 96
        down = float(image[1].diff(dim=0).mean()) * 64
        # the cut is rounded to whole pixels
        assert across / down == pytest.approx(1, rel=0.06)


def test_draws_belong_to_the_place_in_the_run():
    both, kind = pair()
    config = AugmentConfig(zoom=1.5, flip=0.5, color=0.3)
    one = [augmented(both, "", (48, 48), kind, config, (0, n))[0] for n in range(20)]
    again = [augmented(both, "", (48, 48), kind, config, (0, n))[0] for n in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert len({float(image.sum()) for image in one}) == 20
    plain = replace(config, color=0.0)
    unlit = [augmented(both, "", (48, 48), kind, plain, (0, n)) for n in range(20)]
    lit = [augmented(both, "", (48, 48), kind, config, (0, n)) for n in range(20)]
    # colours change the picture alone, and nothing else of the draws
    assert all(torch.equal(a[1], b[1]) for a, b in zip(unlit, lit, strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(unlit, lit, strict=True))


def test_neutral_settings_change_nothing():
    both, kind = pair()
    image, condition = augmented(both, "", both.size, kind, AugmentConfig(), (1, 2, 3))
    assert torch.equal(image, both.image)
    assert torch.equal(condition, both.condition)


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("a ball left of a box", True),
        ("A man's RIGHT hand", True),
        ("the leftmost cup", True),
        ("right-handed player", True),
        ("a left-hand drive", True),
        ("turned clockwise", True),
        ("turned anti-clockwise", True),
        ("a bright copyright cleft", False),
        ("two cats", False),
        ("", False),
    ],
)
def test_captions_that_name_a_side(caption, told):
    assert names_a_side(caption) is told
    both, kind = pair()
    image, _ = augmented(both, caption, both.size, kind, AugmentConfig(flip=1.0), (0,))
    assert torch.equal(image, both.image) is told


def test_flips_are_as_frequent_as_asked():
    both, kind = pair()
    config, count = AugmentConfig(flip=0.3), 400
    flipped = sum(
        not torch.equal(augmented(both, "", both.size, kind, config, (0, n))[0], both.image)
        for n in range(count)
    )
    # four standard errors
    assert abs(flipped / count - 0.3) < 4 * math.sqrt(0.3 * 0.7 / count)


def test_mirrored_normals_are_those_of_the_mirrored_surface():
    """Normals of a bump's height, computed on the mirrored bump, against the mirrored normals."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 41), torch.linspace(-2, 3, 61), indexing="ij")

    def normals(height):
        dx, dy = torch.zeros_like(height), torch.zeros_like(height)
        dx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
        dy[1:-1] = (height[2:] - height[:-2]) / 2
        return torch.nn.functional.normalize(torch.stack([-dx, dy, torch.ones_like(dx)]), dim=0)

    bump = torch.exp(-(x**2) - (y - 0.5) ** 2) + 0.3 * x
    assert torch.allclose(
        mirrored(normals(bump), KINDS["normals"]), normals(bump.flip(-1)), atol=1e-6
    )


def test_mirrored_edges_are_those_of_the_mirrored_picture(world):
    picture = world[1].image[0]
    edges = SoftEdges()
    flipped = mirrored(edges(picture[None])[0], KINDS["softedge"])
    # an edge between two levels may fall to the other one
    assert float((flipped != edges(picture.flip(-1)[None])[0]).float().mean()) < 0.01


def test_skeletons_are_never_mirrored(world):
    """Their colours say which arm it is: the mirrored drawing shows another person."""
    scene, drawn = world
    skeleton = draw_skeletons([scene], (64, 96))[0]
    with pytest.raises(ValueError, match="not mirrored"):
        mirrored(skeleton, KINDS["pose"])
    both = Pair("x", drawn.image[0], skeleton, ("a person",))
    config = AugmentConfig(flip=1.0)
    image, condition = augmented(both, "a person", (64, 96), KINDS["pose"], config, (0,))
    assert torch.equal(image, drawn.image[0])
    assert torch.equal(condition, skeleton)


def test_conditions_stay_what_they_are_when_resized(world):
    drawn = world[1]
    size = (48, 80)
    edges = condition_part(soft_edges(drawn)[0], size, KINDS["softedge"])
    assert torch.isin(edges, torch.linspace(-1, 1, EDGE_LEVELS)).all()
    assert len(edges.unique()) > 2
    segments = draw_segmentation(drawn)[0]
    cut = condition_part(segments, size, KINDS["segmentation"])
    assert {tuple(c) for c in cut.flatten(1).T.tolist()} <= {
        tuple(c) for c in segments.flatten(1).T.tolist()
    }
    normals = condition_part(drawn.normals[0], size, KINDS["normals"])
    length = normals.norm(dim=0)
    # sky has none: it stays 0, and between it and a surface they are short
    assert float((length[length > 0.5] - 1).abs().max()) < 1e-5
    assert bool((length == 0).any())
    # 0 is no number of 8 bits: what is read is 1 / 255, and stays it
    sky = torch.full((3, 4, 4), 1 / 255)
    assert torch.equal(condition_part(sky, (4, 4), KINDS["normals"]), sky)
    depth = condition_part(drawn.inverse_depth[0, :, :32, :40], size, KINDS["depth"])
    assert (float(depth.min()), float(depth.max())) == (-1, 1)
    # metres: no photograph's sharpening beyond what is there, no stretching to a span of its own
    metric = draw_metric_depth(drawn.depth[0], drawn.valid[0])
    part = metric[:, :32, :40].repeat(3, 1, 1)
    cut = condition_part(part, size, KINDS["depth-metric"])
    assert torch.equal(cut, resized(part, size, "linear"))
    assert float(part.min()) <= float(cut.min()) < float(cut.max()) <= float(part.max()) < 1


def test_a_kind_of_every_condition_and_annotator():
    assert set(KINDS) == set(conditions.NAMES)
    assert all(KINDS[one.name].aligned == one.aligned for one in conditions.CONDITIONS)
    assert {name for name in KINDS if KINDS[name].annotated} == set(MADE) - {CAPTION}
    flat = torch.full((3, 8, 8), 0.2)
    assert torch.equal(condition_part(flat, (8, 8), KINDS["depth"]), flat)


def test_a_stretched_depth_is_an_affine_map_of_its_part(world):
    part = world[1].inverse_depth[0, :, 10:40, 20:60]
    found = condition_part(part, (30, 40), KINDS["depth"])
    low, high = part.min(), part.max()
    assert torch.allclose((found + 1) / 2 * (high - low) + low, part, atol=1e-5)


def test_loose_pairs_are_cut_apart():
    image, reference = gradient(), gradient(80, 60)
    both = Pair("x", image, reference, ())
    config = AugmentConfig(zoom=1.5)
    first, second = augmented(both, "", (48, 48), KINDS["identity"], config, (0,))
    assert first.shape == second.shape == (3, 48, 48)
    assert not torch.equal(first, second)


def test_colours_keep_their_hue():
    both, kind = pair()
    red = torch.stack([torch.full((8, 8), value) for value in (0.4, -0.4, -0.4)])
    both = replace(both, image=red, condition=red)
    for number in range(10):
        image, _ = augmented(both, "", (8, 8), kind, AugmentConfig(color=0.4), (number,))
        assert image[1].sub(image[2]).abs().max() < 1e-6
        assert (image[0] >= image[1] - 1e-6).all()
        assert image.min() >= -1
        assert image.max() <= 1


@pytest.mark.parametrize(
    "wrong", [{"zoom": 0.9}, {"flip": 1.1}, {"color": -0.1}, {"crop": "corner"}]
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|is neither"):
        AugmentConfig(**wrong)
