"""Exports: whole, readable by other tools, and resumed after a stop."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unicond.cli.world import app
from unicond.world import Scene, World, render
from unicond.world.export import PICTURES, ExportConfig, export

CONFIG = ExportConfig(World(7), start=3, count=10, size=(32, 48), shard_size=4, captions=2)


def ignore(done):
    pass


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_imagefolder_holds_what_was_drawn(tmp_path):
    assert export(CONFIG, tmp_path, ignore) == 10
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for n, line in enumerate(lines):
        scene = CONFIG.world[3 + n]
        assert Scene.from_json(json.dumps(line["scene"])) == scene
        assert len(line["captions"]) == 2
        drawn = render(scene, (32, 48))
        with Image.open(tmp_path / line["depth_file_name"]) as picture:
            depth = np.asarray(picture)
        assert depth.dtype == np.uint16
        # millimetres: half of one is what rounding may take
        assert np.abs(depth / 1000 - drawn.depth[0, 0].numpy()).max() < 6e-4
        with Image.open(tmp_path / line["file_name"]) as picture:
            assert picture.size == (48, 32)
            image = np.asarray(picture) / 127.5 - 1
        assert np.abs(image.transpose(2, 0, 1) - drawn.image[0].numpy()).max() < 0.5 / 127
        with Image.open(tmp_path / line["instances_file_name"]) as picture:
            assert (np.asarray(picture).astype(int) - 1 == drawn.instances[0].numpy()).all()
        assert len(line["boxes"]) == len(scene)
        assert len(line["keypoints"]) == len(scene.people)
    for name in PICTURES:
        assert len(list((tmp_path / name).glob("*.png"))) == 10


def test_a_stopped_export_goes_on(tmp_path):
    export(CONFIG, tmp_path / "whole", ignore)

    class Stopped(Exception):
        pass

    done = []

    def stop_in_the_second_part(count):
        done.append(count)
        if sum(done) > 4:
            raise Stopped

    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        export(CONFIG, folder, stop_in_the_second_part)
    assert not (folder / "metadata.jsonl").exists()
    assert len(list((folder / "parts").glob("*.jsonl"))) == 1
    assert export(CONFIG, folder, ignore) == 6
    assert export(CONFIG, folder, ignore) == 0
    whole, resumed = contents(tmp_path / "whole"), contents(folder)
    resumed = {name: data for name, data in resumed.items() if not name.endswith(".partial")}
    assert resumed == whole


def test_webdataset_shards(tmp_path):
    config = ExportConfig(World(7), 3, 10, (32, 48), "webdataset", 4, 2)
    assert export(config, tmp_path, ignore) == 10
    shards = sorted(tmp_path.glob("world-*.tar"))
    assert len(shards) == 3
    keys = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            keys += [name.split(".")[0] for name in tar.getnames() if name.endswith(".json")]
    assert keys == [f"{n:09d}" for n in range(3, 13)]
    before = shards[1].read_bytes()
    shards[1].unlink()
    assert export(config, tmp_path, ignore) == 4
    assert shards[1].read_bytes() == before


def test_other_settings_are_refused(tmp_path):
    export(CONFIG, tmp_path, ignore)
    other = ExportConfig(World(8), start=3, count=10, size=(32, 48), shard_size=4, captions=2)
    with pytest.raises(ValueError, match="other settings"):
        export(other, tmp_path, ignore)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "zip"}, "choose one of imagefolder, webdataset"),
        ({"count": 0}, "count 0 is too small"),
        ({"start": -1}, "numbered from 0"),
    ],
)
def test_bad_settings_say_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        ExportConfig(World(0), **given)


def test_a_sheet_that_is_cut_off_leaves_what_was_there(tmp_path, monkeypatch):
    """As if the disk were full after some bytes."""
    out = tmp_path / "new" / "sheet.png"
    asked = ["show", "--count", "1", "--size", "32", "--out", str(out)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    before, write = out.read_bytes(), Image.Image.save

    def cut(image, to, *rest):
        write(image, to, *rest)
        raise OSError("no space is left")

    monkeypatch.setattr(Image.Image, "save", cut)
    refused = CliRunner().invoke(app, [*asked, "--seed", "1"])
    assert refused.exit_code == 2
    assert "no space is left" in refused.output
    assert [path.read_bytes() for path in out.parent.iterdir()] == [before]


def test_command_line(tmp_path):
    runner = CliRunner()
    out = tmp_path / "sheets" / "sheet.png"
    shown = runner.invoke(app, ["show", "--count", "2", "--size", "32", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    with Image.open(out) as picture:
        assert picture.width == 9 * 32
    asked = ["export", str(tmp_path / "data"), "--count", "3", "--size", "32x40"]
    written = runner.invoke(app, asked)
    assert written.exit_code == 0, written.output
    assert "3 scenes written" in written.output
    again = runner.invoke(app, asked)
    assert "0 scenes written, 3 were there" in again.output
    for bad in (
        ["show", "--style", "oil", "--out", str(out)],
        [*asked[:-1], "32by40"],
        [*asked[:-1], "4"],
        [*asked, "--seed", "9"],
    ):
        assert runner.invoke(app, bad).exit_code == 2
