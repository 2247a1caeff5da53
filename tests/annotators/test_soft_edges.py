"""The filter: closed forms on steps, symmetries, and what it finds in real photographs."""

import numpy as np
import pytest
import skimage.data
import skimage.feature
import torch
from safetensors.torch import save_file
from torch.nn import functional

from unicond.annotators.edges import SoftEdges
from unicond.annotators.learned_edges import EdgeNetwork, LearnedEdges
from unicond.pictures import read_picture
from unicond.world.annotate import EDGE_LEVELS

FILTER = SoftEdges()


def step(height=96, width=128, at=50, low=-0.6, high=0.7):
    picture = torch.full((3, height, width), low)
    picture[:, :, at:] = high
    return picture


def grown(mask, pixels):
    return functional.max_pool2d(mask.float()[None, None], 2 * pixels + 1, 1, pixels)[0, 0] > 0


def test_a_step_is_one_full_line_where_it_is():
    edges = FILTER(step()[None])
    assert edges.shape == (1, 3, 96, 128)
    assert (edges[0, :, :, 49:51] == 1).all()
    assert (edges[0, :, :, :47] == -1).all()
    assert (edges[0, :, :, 53:] == -1).all()


@pytest.mark.parametrize("height", [0.1, 0.5, 1.3])
def test_the_gradient_of_a_step_is_its_height_at_every_scale(height):
    """g_s = s sqrt(2 pi) max |d/dx (G_s * step)| = height of the step, in [0, 1] colours.

    1 %: the pixel grid lies half a pixel beside the step, and the kernel ends at 3 sigma.
    """
    from unicond.annotators.edges import _largest, _structure

    colors = (step(low=-0.6, high=-0.6 + height)[:, None] + 1) / 2
    for scale in (3.0, 6.0):
        found = _largest(_structure(colors, scale))
        assert float(found.max()) == pytest.approx(height / 2, rel=0.02)
        assert int(found[40].argmax()) in (49, 50)


def test_nothing_is_found_in_nothing():
    flat = torch.full((1, 3, 64, 80), 0.3)
    assert (FILTER(flat) == -1).all()
    ramp = torch.linspace(-1, 1, 320).expand(1, 3, 64, 320)
    assert (FILTER(ramp) == -1).all()


def test_levels_are_those_of_the_world(photographs):
    found = FILTER(photographs["coffee"][None])
    levels = torch.linspace(-1, 1, EDGE_LEVELS)
    assert torch.isin(found, levels).all()
    assert len(found.unique()) == EDGE_LEVELS
    assert (found[:, 0] == found[:, 2]).all()


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_symmetries(photographs, name):
    """Mirrored and turned pictures have mirrored and turned edges.

    1e-3: convolutions sum in another order, and the ridge compares neighbours.
    """
    picture = photographs[name][:, :128, :160]
    found = FILTER.strength(picture)
    for change in (
        lambda values: values.flip(-1),
        lambda values: values.flip(-2),
        lambda values: values.rot90(1, (-2, -1)),
    ):
        gap = (FILTER.strength(change(picture)) - change(found)).abs()
        assert float((gap > 1e-3).float().mean()) < 1e-3


def test_light_does_not_matter_but_contrast_does(photographs):
    picture = photographs["camera"][:, :128, :128] * 0.5
    assert torch.equal(FILTER((picture + 0.25)[None]), FILTER((picture - 0.25)[None]))
    assert FILTER.strength(picture).mean() > FILTER.strength(picture * 0.2).mean()


def test_colour_alone_is_an_edge():
    picture = torch.zeros(3, 64, 64)
    picture[0, :, 32:], picture[1, :, 32:] = 0.5, -0.5 * 0.299 / 0.587
    luma = picture[0] * 0.299 + picture[1] * 0.587 + picture[2] * 0.114
    assert float(luma.max() - luma.min()) < 1e-6
    assert (FILTER(picture[None])[0, 0, :, 31:33] >= 0.5).all()


def test_pictures_of_a_batch_do_not_see_each_other(photographs):
    pair = torch.stack([photographs[name][:, :96, :96] for name in ("astronaut", "camera")])
    assert torch.equal(FILTER(pair)[1:], FILTER(pair[1:]))


def test_large_photographs_have_the_edges_of_small_ones(photographs, monkeypatch):
    """Looked at in one size: the edges of the doubled picture, halved, are about the first's.

    0.05 of the range on average: what the doubling blurs.
    """
    from unicond.annotators import edges

    picture = photographs["astronaut"]
    monkeypatch.setattr(edges, "SIDE", 256)
    twice = functional.interpolate(picture[None], scale_factor=2.0, mode="bicubic")[0].clamp(-1, 1)
    large = FILTER.strength(twice)
    assert large.shape == (512, 512)
    small = functional.avg_pool2d(large[None, None], 2)[0, 0]
    assert float((small - FILTER.strength(picture)).abs().mean()) < 0.05


def test_a_silhouette_has_edges_on_its_outline_only():
    """scikit-image's horse: drawn in two colours, so that the truth is known to the pixel."""
    picture = read_picture(skimage.data.horse().astype(np.float32))
    inside = picture[0] > 0
    outline = grown(inside, 1) & grown(~inside, 1)
    edge = FILTER(picture[None])[0, 0] > 0
    assert float(grown(edge, 1)[outline].float().mean()) > 0.98
    assert float(grown(outline, 1)[edge].float().mean()) > 0.98


@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera", "rocket"])
def test_strong_edges_of_photographs_are_found(photographs, name):
    """Canny's coarse, strong edges are found within 2 pixels, in a sparse picture."""
    picture = photographs[name]
    grey = (picture.mean(0).numpy() + 1) / 2
    strong = torch.from_numpy(
        skimage.feature.canny(grey, sigma=2.0, low_threshold=0.05, high_threshold=0.15)
    )
    found = FILTER(picture[None])[0, 0]
    assert float(grown(found >= 0, 2)[strong].float().mean()) > 0.8
    assert 0.02 < float((found > -1).float().mean()) < 0.35


def test_depth_edges_of_a_photograph_are_found():
    """The motorcycle's laser-scanned disparity: where it jumps, there is an edge."""
    picture, _, disparity = (array[:320, 160:560] for array in skimage.data.stereo_motorcycle())
    disparity = torch.from_numpy(np.nan_to_num(disparity, posinf=0.0))
    known = disparity > 0
    jump = torch.zeros_like(known)
    jump[:, 1:] = (disparity.diff(dim=1).abs() > 8) & known[:, 1:] & known[:, :-1]
    assert int(jump.sum()) > 500
    edge = FILTER(read_picture(picture)[None])[0, 0] > -1
    found = float(grown(edge, 2)[jump].float().mean())
    chance = float(grown(edge, 2).float().mean())
    assert found > 0.85
    assert found > 1.3 * chance


def test_grass_is_quieter_than_an_object(photographs):
    picture = read_picture(skimage.data.grass())[:, :256, :256]
    grass = FILTER.strength(picture)
    loud = SoftEdges(quiet=0.0).strength(picture)
    assert grass.mean() < 0.6 * loud.mean()
    assert float(FILTER.strength(photographs["astronaut"]).max()) == 1


@pytest.mark.parametrize("wrong", [{"scales": ()}, {"floor": 0.0}, {"least": 0.7}, {"quiet": -1.0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be positive|give 0 <= least"):
        SoftEdges(**wrong)


def test_learned_edges_are_the_formula(models, photographs):
    """The layout's network, computed another way: block by block from the file."""
    pictures = photographs["coffee"][None, :, :96, :128]
    found = LearnedEdges(models["softedge"], "cpu")(pictures)
    weights = torch.load(models["softedge"] / "ControlNetHED.pth", weights_only=True)
    features, sides = (pictures + 1) * 127.5 - weights["norm"], []
    for number, layers in enumerate((2, 2, 3, 3, 3), 1):
        features = features if number == 1 else functional.max_pool2d(features, 2, 2)
        for layer in range(layers):
            name = f"block{number}.convs.{layer}"
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            features = functional.conv2d(features, weight, bias, padding=1).relu()
        weight = weights[f"block{number}.projection.weight"]
        side = functional.conv2d(features, weight)
        sides.append(functional.interpolate(side, (96, 128), mode="bilinear"))
    edges = torch.stack(sides).mean(0).sigmoid()
    steps = EDGE_LEVELS - 1
    expected = (edges * steps).round() / steps * 2 - 1
    assert len(expected.unique()) > 2
    # rounding may fall to the other side where an edge lies between two levels
    assert float((found[:, :1] != expected).float().mean()) < 1e-3
    with pytest.raises(ValueError, match="no weights of HED"):
        EdgeNetwork({"block1.convs.0.weight": torch.zeros(4, 3, 3, 3)})


def test_learned_edges_say_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"none of model\.safetensors"):
        LearnedEdges(tmp_path)


@pytest.mark.parametrize("name", ["ControlNetHED.pth", "model.safetensors"])
@pytest.mark.parametrize("left", [0, 30, 1000])
def test_learned_edges_say_that_a_file_is_cut_off(tmp_path, name, left):
    weights = {"norm": torch.zeros(1, 3, 1, 1), "block1.convs.0.weight": torch.zeros(64, 3, 3, 3)}
    save = save_file if name.endswith("safetensors") else torch.save
    save(weights, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    assert len(whole) > 5000
    (tmp_path / name).write_bytes(whole[:left])
    words = "no model for soft edges can be loaded from .*; give .* get files that are cut off"
    with pytest.raises(ValueError, match=words):
        LearnedEdges(tmp_path)


def test_learned_edges_say_that_a_file_holds_something_else(tmp_path):
    torch.save({"norm": torch.zeros(1, 3, 1, 1), "epoch": 3}, tmp_path / "ControlNetHED.pth")
    with pytest.raises(ValueError, match="holds something else than named tensors"):
        LearnedEdges(tmp_path)
