"""Partners of loose pairs: drawn once in a folder of their own, row by row with their scenes."""

import pytest
import torch

from unicond.conditions import CONDITIONS, LOOSE
from unicond.data import partners, renders, texts
from unicond.data.partners import FITS, PARTNERS, PartnerRecipe, scene_rows
from unicond.data.renders import RenderRecipe, as_picture
from unicond.pictures.metric_depth import draw_metric_depth
from unicond.world import World, describe, render


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(renders, "SHARD", 4)
    monkeypatch.setattr(partners, "BLOCK", 16)
    partners._block.cache_clear()
    yield
    partners._block.cache_clear()


def test_every_condition_can_be_drawn():
    for condition in CONDITIONS:
        assert condition.scenes in FITS
        assert (condition.source in LOOSE) != condition.aligned
        assert condition.source in (renders.DRAWINGS if condition.aligned else PARTNERS)
        if not condition.aligned:
            assert PARTNERS[condition.source][1] == condition.scenes


def test_rows_are_the_scenes_that_fit():
    people = [len(scene.people) for scene in World(4).scenes(0, 40)]
    assert scene_rows("all", 4, 3) == [0, 1, 2]
    assert scene_rows("people", 4, 40) == [n for n, count in enumerate(people) if count]
    assert scene_rows("portraits", 4, 40) == [n for n, count in enumerate(people) if count == 1]
    assert scene_rows("portraits", 4, 5) == [n for n in range(5) if people[n] == 1]


@pytest.mark.parametrize("source", LOOSE)
def test_partners_lie_row_by_row(source, tmp_path):
    recipe = PartnerRecipe(source=source, seed=4, size=16)
    folder = renders.draw(recipe, tmp_path, 5, ("image",))
    make, kind = PARTNERS[source]
    firsts = scene_rows(kind, 4, 100)[:5]
    scenes = [make(World(4)[n]) for n in firsts]
    assert recipe.scenes(0, 5) == scenes
    assert recipe.scenes(3, 2) == scenes[3:]
    found = as_picture(renders.load(folder, ("image",), 5)["image"])
    assert float((found - render(scenes, 16).image).abs().max()) <= 1 / 127
    assert sorted(p.name for p in (folder / "00000").iterdir()) == ["image.npy"]
    said = texts.captions(folder, recipe, 5, 1)
    assert said == [[describe(scene).text] for scene in scenes]
    for _ in range(2):  # told, and read from the disk
        assert texts.styles(folder, recipe, 5) == [scene.style for scene in scenes]


def test_folders_do_not_mix(tmp_path):
    worlds = {RenderRecipe(seed=seed, size=16).folder(tmp_path) for seed in (0, 1)}
    pairs = {
        PartnerRecipe(source=source, seed=seed, size=16).folder(tmp_path)
        for source in LOOSE
        for seed in (0, 1)
    }
    assert len(worlds | pairs) == 6
    # the world's folder keeps the name that it had before there were partners
    assert RenderRecipe().folder(tmp_path).name == "renders-39086637c959"


def test_metric_depth_is_put_beside_what_is_there(tmp_path):
    recipe = RenderRecipe(seed=4, size=16)
    folder = renders.draw(recipe, tmp_path, 4)
    assert not (folder / "00000" / "metric_depth.npy").exists()
    stamps = {p.name: p.stat().st_mtime_ns for p in (folder / "00000").iterdir()}
    renders.draw(recipe, tmp_path, 4, ("image", "metric_depth"))
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "00000").iterdir()}
    assert {name: after[name] for name in stamps} == stamps
    assert set(after) - set(stamps) == {"metric_depth.npy"}
    exact = render(recipe.scenes(0, 4), 16)
    found = as_picture(renders.load(folder, ("metric_depth",), 4)["metric_depth"])
    gap = (found - draw_metric_depth(exact.depth, exact.valid)).abs()
    assert float(gap.max()) <= 1 / 127
    assert torch.equal(found == -1, found <= -1)
