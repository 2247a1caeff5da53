"""`unicond data check`: every kind of fault is found, and nothing else."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import app
from unicond.data.checks import check, conditions_in
from unicond.data.opening import open_rows
from unicond.data.sources import open_pairs
from unicond.pictures import PictureError
from unicond.world import World
from unicond.world.export import ExportConfig, export

RUNNER = CliRunner()
CONFIG = ExportConfig(World(7), count=4, size=(32, 48))


@pytest.fixture
def world(tmp_path):
    export(CONFIG, tmp_path / "world", lambda _: None)
    return tmp_path / "world"


def spoil_missing(folder):
    (folder / "edges/000000001.png").unlink()


def spoil_row(folder):
    lines = [json.loads(text) for text in (folder / "metadata.jsonl").read_text().splitlines()]
    del lines[1]["edges_file_name"]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


def spoil_unreadable(folder):
    path = folder / "edges/000000001.png"
    path.write_bytes(path.read_bytes()[:90])


def spoil_size(folder):
    Image.new("RGB", (48, 31)).save(folder / "edges/000000001.png")


def spoil_mode(folder):
    with Image.open(folder / "edges/000000001.png") as picture:
        picture.convert("L").save(folder / "edges/000000001.png")


FAULTS = {
    "missing": (spoil_missing, "missing"),
    "no column": (spoil_row, "missing"),
    "unreadable": (spoil_unreadable, "unreadable"),
    "size": (spoil_size, "other size"),
    "mode": (spoil_mode, "not RGB"),
}


def test_a_good_dataset_has_no_problems(world):
    rows = open_rows(world)
    assert set(conditions_in(rows)) == {"depth", "softedge", "pose", "segmentation", "normals"}
    counted = []
    assert check(rows, report=lambda: counted.append(1)) == []
    assert len(counted) == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_where_it_is(world, fault):
    spoil, kind = FAULTS[fault]
    spoil(world)
    [problem] = check(open_rows(world))
    assert (problem.key, problem.kind) == ("image/000000001.png", kind)
    assert check(open_rows(world), ["depth"]) == []
    # what the check finds is what training would stumble over
    pairs = open_pairs(world, "softedge")
    with pytest.raises(PictureError):
        pairs.pair(1)
    assert pairs.pair(0).size == (32, 48)


def test_a_broken_picture_is_found_once(world):
    (world / "image/000000002.png").write_bytes(b"nothing")
    [problem] = check(open_rows(world))
    assert (problem.key, problem.kind) == ("image/000000002.png", "unreadable")
    (world / "image/000000002.png").unlink()
    [problem] = check(open_rows(world))
    assert problem.kind == "missing"


def test_datasets_of_one_picture_and_without_conditions(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}')
    assert [problem.kind for problem in check(open_rows(tmp_path))] == ["too few", "missing"]


def test_loose_pairs_may_differ_in_size(tmp_path):
    lines = []
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        Image.new("RGB", (9, 8)).save(tmp_path / f"{number}_other.png")
        line = {"file_name": f"{number}.png", "identity_file_name": f"{number}_other.png"}
        lines.append(json.dumps(line))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert conditions_in(open_rows(tmp_path)) == ["identity"]
    assert check(open_rows(tmp_path)) == []


def test_columns_of_ones_own_are_checked(tmp_path):
    for name in ("a.png", "b.png", "a_line.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    lines = [{"file_name": f"{n}.png", "line_file_name": f"{n}_line.png"} for n in "ab"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    [problem] = check(open_rows(tmp_path))
    assert (problem.key, problem.kind) == ("b.png", "missing")


def test_columns_of_ones_own_are_checked_beside_those_of_a_known_kind(tmp_path):
    """Loose pairs among them, once it is said that they are."""
    lines = []
    for number in range(2):
        for name, width in (("", 8), ("_depth", 8), ("_mine", 9)):
            Image.new("RGB", (width, 8)).save(tmp_path / f"{number}{name}.png")
        line = {"file_name": f"{number}.png", "inverse_depth_file_name": f"{number}_depth.png"}
        lines.append(line | {"mine_file_name": f"{number}_mine.png"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = open_rows(tmp_path)
    assert conditions_in(rows) == ["depth", "mine"]
    found = check(rows)
    assert [problem.kind for problem in found] == ["other size"] * 2
    assert found[0].detail.endswith("are checked by --condition identity --column mine")
    loose = ["data", "check", str(tmp_path), "--condition", "identity", "--column", "mine"]
    assert RUNNER.invoke(app, loose).exit_code == 0
    (tmp_path / "1_mine.png").write_bytes((tmp_path / "1_mine.png").read_bytes()[:40])
    assert "1 unreadable" in RUNNER.invoke(app, loose).output
    for condition in ([], ["--condition", "identity,depth"]):
        done = RUNNER.invoke(app, ["data", "check", str(tmp_path), "--column", "mine", *condition])
        assert "--column mine is what the dataset calls one condition" in str(done.exception)


def test_a_column_of_captions_that_no_row_has_a_text_in(world):
    lines = [json.loads(text) for text in (world / "metadata.jsonl").read_text().splitlines()]
    told = "\n".join(json.dumps(line | {"words": ""}) for line in lines)
    (world / "metadata.jsonl").write_text(told)
    done = RUNNER.invoke(app, ["data", "check", str(world), "--caption-column", "words"])
    assert done.exit_code == 1
    assert "1 missing" in done.output
    done = RUNNER.invoke(app, ["data", "check", str(world), "--caption-column", "text"])
    assert done.exit_code == 0


def test_the_command_ends_with_1_where_something_is_wrong(world):
    good = RUNNER.invoke(app, ["data", "check", str(world)])
    assert good.exit_code == 0, good.output
    assert (
        "4 rows with depth, softedge, pose, segmentation, normals; nothing is wrong" in good.output
    )
    spoil_mode(world)
    bad = RUNNER.invoke(app, ["data", "check", str(world)])
    assert bad.exit_code == 1


def test_the_command_prints_a_table(world):
    spoil_size(world)
    (world / "inverse_depth/000000003.png").unlink()
    bad = RUNNER.invoke(app, ["data", "check", str(world)], env={"COLUMNS": "200"})
    assert bad.exit_code == 1
    assert "2 problems in" in bad.output
    assert "image/000000001.png" in bad.output
    assert "1 other size, 1 missing" in bad.output
    short = RUNNER.invoke(app, ["data", "check", str(world), "--show", "1"])
    assert "... and 1 more" in short.output
    only = RUNNER.invoke(app, ["data", "check", str(world), "--condition", "pose,normals"])
    assert only.exit_code == 0
    none = RUNNER.invoke(app, ["data", "check", str(world), "--condition", "scribble"])
    assert isinstance(none.exception, ValueError)
    assert "has no pictures of scribble" in str(none.exception)
