"""Scenes as data: JSON there and back, and what is refused."""

import dataclasses
import json

import pytest

from unicond.world import Camera, Identity, Person, Place, Relation, Scene, Solid
from unicond.world.poses import free_pose, walking


def test_json_round_trip(scenes):
    for scene in scenes:
        text = scene.to_json()
        assert "\n" not in text
        assert Scene.from_json(text) == scene
        assert Scene.from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("style"), "scene must have exactly the fields"),
        (lambda d: d.update(colour="red"), "scene must have exactly the fields"),
        (lambda d: d.update(seed="zero"), "scene.seed must be int, not 'zero'"),
        (lambda d: d.update(seed=True), "scene.seed must be int, not True"),
        (lambda d: d["camera"].update(position=[1.0, 2.0]), "scene.camera.position must have 3"),
        (lambda d: d.update(solids="none"), "scene.solids must be a list, not str"),
        (lambda d: d["place"].update(ground="lava"), "ground 'lava' is not known; choose one of"),
        (lambda d: d["camera"].update(fov=400), "fov 400.0 is out of range"),
    ],
)
def test_broken_json_says_where(scenes, change, message):
    data = json.loads(scenes[0].to_json())
    change(data)
    with pytest.raises(ValueError, match=message):
        Scene.from_json(json.dumps(data))


def test_not_json():
    with pytest.raises(ValueError, match="not a scene in JSON"):
        Scene.from_json("{")


def test_bad_parts_are_refused(scenes):
    with pytest.raises(ValueError, match="shape 'cube' is not known; choose one of ball, box"):
        Solid("cube", "red", (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="must be positive"):
        Solid("box", "red", (0, 0, 0), (1, 0, 1))
    with pytest.raises(ValueError, match="use a ball"):
        Solid("pill", "red", (0, 0, 0), (1, 0.5, 1))
    with pytest.raises(ValueError, match="straight up or down"):
        Camera((0, 5, 0), (0, 0, 0), 45)
    with pytest.raises(ValueError, match="10 to 90 degrees"):
        Place("sand", "day", 0.0, 3.0)
    with pytest.raises(ValueError, match="relation 'under' is not known"):
        Relation(0, "under", 1)
    with pytest.raises(ValueError, match="names an entity that is not there"):
        dataclasses.replace(scenes[0], relations=(Relation(0, "behind", 99),))
    with pytest.raises(ValueError, match="hair 'green' is not known"):
        Identity("light", "green", "red", "blue")
    with pytest.raises(ValueError, match=r"0\.3 to 2\.0"):
        Person(Identity("light", "black", "red", "blue"), walking(0), (0, 0, 0), 0.0, 9.0)
    with pytest.raises(ValueError, match="needs an object"):
        free_pose("pushing", None)


def test_scenes_are_frozen(scenes):
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenes[0].style = "toon"
