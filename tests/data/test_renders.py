"""Renders on disk: drawn once, resumable, whole shards only."""

import json
import shutil

import numpy as np
import pytest
import torch
from filelock import FileLock

from unicond.data import folders, renders, texts
from unicond.data.renders import RenderRecipe, as_bytes, as_picture
from unicond.world import describe, render

RECIPE = RenderRecipe(seed=4, size=16)


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(renders, "SHARD", 4)


def test_maps_are_the_worlds(tmp_path):
    told = []
    folder = renders.draw(RECIPE, tmp_path, 6, report=lambda *numbers: told.append(numbers))
    assert told == [(4, 6), (6, 6)]
    found = renders.load(folder, renders.MAPS, 6)
    exact = render(RECIPE.scenes(0, 6), 16)
    assert found["image"].shape == (6, 3, 16, 16)
    assert float((as_picture(found["image"]) - exact.image).abs().max()) <= 1 / 127
    assert float((as_picture(found["depth"]) - exact.inverse_depth[:, :1]).abs().max()) <= 1 / 127
    assert torch.equal(found["classes"], exact.classes)
    assert torch.equal(found["instances"].long() - 1, exact.instances.long())


def test_drawing_goes_on_where_it_was(tmp_path, monkeypatch):
    folder = renders.draw(RECIPE, tmp_path, 4)
    stamp = (folder / "00000" / "image.npy").stat().st_mtime_ns
    calls = []
    drawn = renders._maps
    monkeypatch.setattr(renders, "_maps", lambda *a: calls.append(a) or drawn(*a))
    renders.draw(RECIPE, tmp_path, 8)
    assert len(calls) == 1
    assert (folder / "00000" / "image.npy").stat().st_mtime_ns == stamp


def test_what_another_process_draws_is_found(tmp_path, monkeypatch):
    """The first shard is drawn by another while this one draws the second."""
    folder = renders.draw(RECIPE, tmp_path / "other", 4)
    here, told = RECIPE.folder(tmp_path), []
    (here / ".locks").mkdir(parents=True)
    other = FileLock(here / ".locks" / "00000", thread_local=False)
    other.acquire()

    def arrive(done, _):
        told.append(done)
        if done == 4:
            shutil.copytree(folder / "00000", here / "00000")
            other.release()

    monkeypatch.setattr(renders, "render", counted := Counted(renders.render))
    renders.draw(RECIPE, tmp_path, 8, report=arrive)
    assert (told, counted.calls) == ([4, 8], 1)
    assert np.array_equal(
        renders.load(here, ("image",), 4)["image"], np.load(folder / "00000" / "image.npy")
    )


def test_a_shard_that_lacks_a_map_gets_it_when_it_is_needed(tmp_path):
    folder = renders.draw(RECIPE, tmp_path, 4)
    whole = np.load(folder / "00000" / "edges.npy")
    (folder / "00000" / "edges.npy").unlink()
    renders.draw(RECIPE, tmp_path, 4, ("image",))
    assert not (folder / "00000" / "edges.npy").exists()
    renders.draw(RECIPE, tmp_path, 4, ("edges",))
    assert np.array_equal(np.load(folder / "00000" / "edges.npy"), whole)


def test_what_is_interrupted_leaves_no_shard(tmp_path, monkeypatch):
    def broken(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        renders.draw(RECIPE, tmp_path, 4)
    left = {path.name for path in RECIPE.folder(tmp_path).iterdir()}
    assert left == {"recipe.json", ".locks"}


def test_too_few_renders_are_named(tmp_path):
    folder = renders.draw(RECIPE, tmp_path, 4)
    with pytest.raises(ValueError, match="draw 9 scenes first"):
        renders.load(folder, ("image",), 9)


def test_recipes_have_folders_of_their_own(tmp_path):
    names = {
        recipe.folder(tmp_path).name
        for recipe in (RECIPE, RenderRecipe(seed=5, size=16), RenderRecipe(seed=4, size=24))
    }
    assert len(names) == 3
    assert RenderRecipe(seed=4, size=16, version=9).folder(tmp_path).name not in names
    with pytest.raises(ValueError, match="multiple of 8"):
        RenderRecipe(size=20)


def test_captions_are_kept_beside_the_renders(tmp_path):
    folder = renders.draw(RECIPE, tmp_path, 4)
    told = []
    found = texts.captions(folder, RECIPE, 3, 2, report=lambda *counts: told.append(counts))
    scenes = RECIPE.scenes(0, 3)
    assert found == [[describe(scene, v).text for v in range(2)] for scene in scenes]
    (folder / "00000" / "captions-styled-2.json").write_text(json.dumps([["kept"]] * 4))
    again = texts.captions(folder, RECIPE, 3, 2, report=lambda *counts: told.append(counts))
    assert again == [["kept"]] * 3
    assert told == [(3, 3)]  # what is kept is there at once
    plain = texts.captions(folder, RECIPE, 4, 1, styled=False)
    assert not any("sketch" in text or "toon" in text for [text] in plain)


def test_bytes_and_back():
    values = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    assert as_bytes(values).tolist() == [0, 128, 255, 255]
    assert torch.equal(as_bytes(as_picture(torch.arange(256.0))), torch.arange(256).byte())


def test_folders_are_whole_or_not_there(tmp_path):
    place = tmp_path / "weights"
    with folders.whole_folder(place) as aside:
        (aside / "a.json").write_text("1")

    def fail():
        with folders.whole_folder(place) as aside:
            (aside / "a.json").write_text("2")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert (place / "a.json").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_fingerprints_follow_content_and_not_cards(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = folders.fingerprint(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    assert folders.fingerprint(tmp_path) == first
    (tmp_path / "config.json").write_text("[]")
    assert folders.fingerprint(tmp_path) != first


def test_fingerprints_do_not_follow_variants_that_are_not_read(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.fp16.safetensors").write_text("half")
    alone = folders.fingerprint(tmp_path)
    (tmp_path / "unet" / "model.fp16.safetensors").write_text("other")
    assert folders.fingerprint(tmp_path) != alone  # it is all that can be read
    (tmp_path / "unet" / "model-00001-of-00001.safetensors").write_text("whole")
    whole = folders.fingerprint(tmp_path)
    for name in ("model.fp16.safetensors", "model.fp16-00001-of-00002.safetensors"):
        (tmp_path / "unet" / name).write_text("half")
    (tmp_path / "unet" / "model.safetensors.index.fp16.json").write_text("{}")
    assert folders.fingerprint(tmp_path) == whole
    (tmp_path / "unet" / "model.safetensors.index.json").write_text("{}")
    assert folders.fingerprint(tmp_path) != whole
