"""Photographs, a folder of them, and tiny models."""

import pytest
import skimage.data
import tiny_models
import torch
from PIL import Image

from unicond.pictures import read_picture, resized


@pytest.fixture(scope="session")
def photographs():
    """Real photographs as (3, H, W) in [-1, 1], the shorter side 256 pixels."""
    found = {}
    for name in ("astronaut", "coffee", "chelsea", "rocket", "camera"):
        picture = read_picture(getattr(skimage.data, name)())
        height, width = (round(256 * side / min(picture.shape[1:])) for side in picture.shape[1:])
        found[name] = resized(picture, (height, width))
    return found


@pytest.fixture
def folder(tmp_path):
    """A folder of five photographs of three sizes, one below it, and two broken files."""
    place = tmp_path / "photos"
    (place / "more").mkdir(parents=True)
    for name, picture in (
        ("coffee.jpg", skimage.data.coffee()[:96, :128]),
        ("cat.png", skimage.data.chelsea()[:96, :128]),
        ("rocket.jpg", skimage.data.rocket()[:96, :128]),
        ("face.png", skimage.data.astronaut()[:64, 150:246]),
        ("more/camera.png", skimage.data.camera()[:80, :80]),
    ):
        Image.fromarray(picture).save(place / name)
    (place / "empty.jpg").touch()
    (place / "cut.png").write_bytes((place / "cat.png").read_bytes()[:300])
    return place


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """{kind: folder} of tiny random models."""
    place = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_models.save_depth(place / "depth", "relative")
        tiny_models.save_depth(place / "metric", "metric")
        tiny_models.save_segmentation(place / "segmentation")
        tiny_models.save_captions(place / "caption")
        tiny_models.save_edges(place / "softedge")
    tiny_models.save_poses(place / "pose")
    return {path.name: path for path in place.iterdir()}
