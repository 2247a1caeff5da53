"""Annotators with models, on tiny random ones in the hub's layout."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

import unicond
from unicond.annotators import MADE, load_annotator
from unicond.annotators.normals import normals_of
from unicond.annotators.registry import name_of
from unicond.annotators.segmentation import palette
from unicond.pictures import PictureError, to_pil
from unicond.world import Camera, Place, Scene, Solid, render


@pytest.fixture(scope="module")
def pictures(photographs):
    return torch.stack([photographs[name][:, :60, :80] for name in ("coffee", "chelsea", "rocket")])


@pytest.mark.parametrize("kind", ["depth", "segmentation", "normals"])
def test_conditions_are_pictures_of_the_same_size(models, pictures, kind):
    annotator = load_annotator(kind, models["depth" if kind == "normals" else kind], "cpu")
    assert annotator.kind == kind
    made = annotator(pictures)
    assert made.shape == pictures.shape
    assert made.min() >= -1
    assert made.max() <= 1
    assert not torch.equal(made[0], made[1])
    assert torch.equal(annotator(pictures), made)
    # the same picture in another batch: float sums may differ in their last places
    assert float((annotator(pictures[1:2]) - made[1:2]).abs().max()) < 1e-3


def test_depth_is_the_networks_inverse_depth_scaled(models, pictures):
    """The same files, used as transformers' documentation says."""
    made = load_annotator("depth", models["depth"], "cpu")(pictures)
    network = AutoModelForDepthEstimation.from_pretrained(models["depth"])
    processor = AutoImageProcessor.from_pretrained(models["depth"], backend="pil")
    inputs = processor([to_pil(one) for one in pictures], return_tensors="pt")
    with torch.no_grad():
        found = network(**inputs).predicted_depth[:, None]
    found = functional.interpolate(found, (60, 80), mode="bilinear", align_corners=False)
    low, high = found.amin((1, 2, 3), True), found.amax((1, 2, 3), True)
    assert float((made - ((found - low) / (high - low) * 2 - 1)).abs().max()) < 1e-4
    assert made.amin((1, 2, 3)).tolist() == [-1] * 3
    assert made.amax((1, 2, 3)).tolist() == [1] * 3


def test_metric_depth_is_turned_round(models, pictures):
    annotator = load_annotator("depth", models["metric"], "cpu")
    metres, made = annotator.estimate(pictures), annotator(pictures)
    assert metres.min() > 0
    for depth, drawn in zip(metres, made[:, 0], strict=True):
        assert drawn.flatten()[depth.argmin()] == 1
        assert drawn.flatten()[depth.argmax()] == -1


def test_a_flat_depth_is_refused(models, monkeypatch):
    annotator = load_annotator("depth", models["depth"], "cpu")
    monkeypatch.setattr(annotator, "estimate", lambda _: torch.ones(1, 60, 80))
    with pytest.raises(PictureError, match="constant"):
        annotator(torch.zeros(1, 3, 60, 80))


def test_normals_of_flat_faces_are_exact():
    """The world's depth and normals: a box on the ground, seen obliquely."""
    view = 40.0
    box = Solid("box", "red", (0.0, 0.75, 0.0), (1.5, 1.5, 1.5), yaw=25.0)
    camera = Camera((0.6, 2.6, 5.0), (0.0, 0.6, 0.0), view)
    drawn = render(
        Scene(0, 0, "photo", camera, Place("snow", "day", 30.0, 50.0), (box,)), (96, 128)
    )
    inverse = torch.where(drawn.valid, 1 / drawn.depth, 0.0)[:, 0]
    found = normals_of(inverse, view)
    assert float((found.norm(dim=1) - 1).abs().max()) < 1e-5
    cosine = (found * drawn.normals).sum(1)[0]
    inside = functional.max_pool2d((drawn.instances != 1).float()[:, None], 5, 1, 2)[0, 0] == 0
    edge = (drawn.normals[0].diff(dim=2).abs().amax(0) > 0.1).nonzero()
    assert len(edge) > 20
    flat = inside.clone()
    for row, column in edge.tolist():
        flat[row, max(0, column - 2) : column + 3] = False
    for row, column in (drawn.normals[0].diff(dim=1).abs().amax(0) > 0.1).nonzero().tolist():
        flat[max(0, row - 2) : row + 3, column] = False
    assert int(flat.sum()) > 300
    # float32 differences of an inverse depth of about 0.2, a few thousandths apart
    assert float(cosine[flat].min()) > math.cos(math.radians(1.0))


def test_normals_face_the_camera_where_nothing_is():
    assert normals_of(torch.zeros(1, 4, 5))[0, :, 2, 2].tolist() == [0, 0, 1]
    assert normals_of(torch.full((1, 4, 5), 0.3))[0, :, 1, 3].tolist() == [0, 0, 1]


def test_classes_have_their_colours(models, pictures):
    annotator = load_annotator("segmentation", models["segmentation"], "cpu")
    made, classes = annotator(pictures), annotator.classes(pictures)
    assert len(classes.unique()) > 1
    colors = ((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    for number in classes.unique().tolist():
        assert (colors[classes == number] == palette(5)[number]).all()


def test_no_two_of_256_colours_are_equal():
    assert len({tuple(color) for color in palette(256).tolist()}) == 256
    near = palette(150).int()
    assert int((near[1:] - near[:-1]).abs().amax(1).min()) >= 128
    with pytest.raises(ValueError, match="1 to 256 can"):
        palette(257)


def test_captions_are_words(models, pictures):
    annotator = load_annotator("caption", models["caption"], "cpu")
    found = annotator(pictures)
    assert len(found) == 3
    assert all(text and "[" not in text and text == text.strip() for text in found)
    assert annotator(pictures[:1]) == found[:1]


def test_one_picture_to_all_its_conditions(models, photographs):
    made = ["depth", "softedge", "pose", "segmentation", "normals", "caption"]
    assert list(MADE) == made
    chosen = {kind: models["depth" if kind == "normals" else kind] for kind in made}
    picture = to_pil(photographs["coffee"][:, :64, :96])
    out = unicond.annotate(picture, made, chosen, "cpu")
    assert list(out) == made
    assert isinstance(out.pop("caption"), str)
    assert {one.size for one in out.values()} == {(96, 64)}
    assert {one.mode for one in out.values()} == {"RGB"}


def test_weightless_edges_are_the_default_and_loaded_ones_are_taken(photographs):
    picture = photographs["coffee"][:, :64, :96]
    edges = load_annotator("softedge", device="cpu")
    assert edges.name == "softedge:filter"
    first = unicond.annotate(picture, ["softedge"], device="cpu")["softedge"]
    second = unicond.annotate(picture, [edges])["softedge"]
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() == to_pil(edges(picture[None])[0]).tobytes()


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="the device 'warp' cannot be used"):
        load_annotator("softedge", device="warp")


@pytest.mark.parametrize("kind", MADE)
def test_names_are_known_before_loading(models, kind):
    model = models["depth" if kind == "normals" else kind]
    assert load_annotator(kind, model, "cpu").name == name_of(kind, model)


@pytest.mark.parametrize(
    ("conditions", "given", "message"),
    [
        (["colour"], {}, "'colour' cannot be made of a picture"),
        (["softedge"], {"depth": "x/y"}, "a model for 'depth' is given, but only softedge"),
        (["depth"], {"depth": "/nowhere/at/all"}, "no model for depth can be loaded from"),
        (["segmentation"], {"segmentation": "/nowhere/at/all"}, "no model for segmentation"),
        (["caption"], {"caption": "/nowhere/at/all"}, "no model for captions"),
        (["pose"], {"pose": "/nowhere/at/all"}, r"detector\.onnx does not exist"),
    ],
)
def test_bad_requests_say_what_to_do(photographs, conditions, given, message):
    with pytest.raises(ValueError, match=message):
        unicond.annotate(photographs["coffee"][:, :64, :64], conditions, given, "cpu")
