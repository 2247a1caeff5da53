"""What is where in scenes: boxes are the masks' own, names and relations the scenes'."""

import json

import numpy as np
import pytest
import torch

from unicond.data import renders
from unicond.data.renders import RenderRecipe
from unicond.data.things import things
from unicond.world.captions import phrases, solid_words
from unicond.world.scene import Solid

RECIPE = RenderRecipe(seed=4, size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renders, "SHARD", 8)
        yield renders.draw(RECIPE, tmp_path_factory.mktemp("cache"), 16, ("instances",))


def test_boxes_are_those_of_the_masks(folder):
    maps = renders.load(folder, ("instances",), 16)["instances"].numpy()
    found, seen = things(folder, RECIPE, 16), 0
    assert len(found) == 16
    for each, scene, instances in zip(found, RECIPE.scenes(0, 16), maps, strict=True):
        assert len(each.boxes) == len(each.pixels) == len(each.phrases) == len(scene)
        for number, (box, pixels) in enumerate(zip(each.boxes, each.pixels, strict=True)):
            y, x = np.nonzero(instances == number + 2)  # sky, ground, then entities
            assert pixels == len(x)
            if pixels:
                assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
                seen += 1
    assert seen > 16


def test_names_and_relations_are_the_scenes(folder):
    for each, scene in zip(things(folder, RECIPE, 16), RECIPE.scenes(0, 16), strict=True):
        assert [tuple(names) for names in each.phrases] == [
            phrases(scene.entity(number)) for number in range(len(scene))
        ]
        assert [tuple(one) for one in each.relations] == [
            (one.subject, one.name, one.target) for one in scene.relations
        ]


def test_phrases_are_class_and_colour_with_and_without_an_article():
    people, solids = set(), set()
    for scene in RECIPE.scenes(0, 16):
        for number in range(len(scene)):
            entity = scene.entity(number)
            plain, a_plain, colored, a_colored = phrases(entity)
            assert a_plain in (f"a {plain}", f"an {plain}")
            if isinstance(entity, Solid):
                assert (plain, colored) == (entity.shape, f"{entity.color} {entity.shape}")
                assert a_colored == solid_words(entity)
                solids.add(colored)
            else:
                assert (plain, colored) == ("person", f"person in a {entity.identity.shirt} shirt")
                assert a_colored == f"a {colored}"
                people.add(colored)
    assert len(solids) > 5
    assert len(people) > 1


def test_they_are_kept_beside_the_renders(folder):
    before = things(folder, RECIPE, 9)
    path = folder / "00000" / "things.json"
    told = json.loads(path.read_text())
    told[0]["pixels"] = [7]
    path.write_text(json.dumps(told))
    after = things(folder, RECIPE, 9)
    assert after[0].pixels == [7]
    assert after[1:] == before[1:]
    assert torch.tensor(after[8].boxes).shape[1] == 4
