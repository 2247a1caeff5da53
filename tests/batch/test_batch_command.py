"""`unicond generate --batch`: each row is made once, whatever happens between two runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

import unicond
from unicond.batch import folder
from unicond.batch.maker import Asked, Maker
from unicond.batch.manifest import read_manifest
from unicond.cli import app

RUNNER = CliRunner()
DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"
FORM = {"task": "generate", "prompt": "a dog", "only": ["image"]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def manifest(tmp_path):
    """Four rows: two alike, one with a picture, one of another task."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "d.png")
    edit = {"task": "edit", "picture": "d.png", "prompt": "a cat", "method": "sdedit"}
    rows = [FORM, {**FORM, "seed": 7}, {**FORM, "depth": "d.png", "id": "pictured"}, edit]
    return write(tmp_path / "jobs.jsonl", rows)


@pytest.fixture
def run(tiny_base, tmp_path, manifest):
    def call(*options, out="out", batch=manifest):
        given = ["--base", str(tiny_base), "--adapter", f"depth={DEPTH}", "--device", "cpu"]
        where = ["--batch", str(batch), "--out", str(tmp_path / out)]
        return RUNNER.invoke(app, ["generate", *where, *given, *options])

    return call


def made(out):
    """{row: when each of its files was written}."""
    files = sorted(path for path in (out / "rows").rglob("*") if path.is_file())
    return {str(path.relative_to(out / "rows")): path.stat().st_mtime_ns for path in files}


def test_a_manifest_is_made_as_the_calls_make_it(run, tmp_path, tiny_base):
    done = run()
    assert done.exit_code == 0, done.output
    assert "4 rows, 4 to make" in done.output
    found = made(tmp_path / "out")
    assert {name for name in found if name.endswith(".png")} == {
        *("000001/0_image.png", "000002/7_image.png", "pictured/0_image.png"),
        *("000004/0_image.png", "000004/0_before.png"),
    }
    model = unicond.load(tiny_base, {"depth": DEPTH}, "cpu")
    for row, seed, given in (("000002", 7, {}), ("pictured", 0, {"depth": tmp_path / "d.png"})):
        picture = Image.open(tmp_path / "out" / "rows" / row / f"{seed}_image.png")
        alone = model("a dog", branches=["image"], seed=seed, **given)
        levels = np.abs(np.asarray(picture, int) - np.asarray(alone.image[0], int))
        assert levels.max() <= 1
        assert (levels > 0).mean() <= 1e-3
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    told = json.loads((tmp_path / "out" / "rows" / "pictured" / "row.json").read_text())
    assert told["line"] == 3
    assert told["files"] == ["0_image.png"]


def test_a_second_run_makes_only_what_is_missing(run, tmp_path, manifest):
    run()
    before = made(tmp_path / "out")
    again = run()
    assert "4 rows, 0 to make" in again.output
    assert made(tmp_path / "out") == before
    for path in (tmp_path / "out" / "rows" / "pictured").iterdir():
        path.unlink()
    (tmp_path / "out" / "rows" / "pictured").rmdir()
    write(manifest, [*map(json.loads, manifest.read_text().splitlines()), {**FORM, "seed": 9}])
    third = run()
    assert "5 rows, 2 to make" in third.output
    after = made(tmp_path / "out")
    new = {name for name in after if after[name] != before.get(name)}
    assert {name.split("/")[0] for name in new} == {"pictured", "000005"}


def test_a_changed_row_is_refused_and_made_anew_if_asked(run, tmp_path, manifest):
    run()
    before = made(tmp_path / "out")
    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "d.png")
    refused = run()
    assert isinstance(refused.exception, ValueError)
    assert "2 rows are not what was made" in str(refused.exception)
    assert "(line 3, 4)" in str(refused.exception)
    assert made(tmp_path / "out") == before
    assert run("--redo").exit_code == 0
    after = made(tmp_path / "out")
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {
        "pictured",
        "000004",
    }
    assert after.keys() == before.keys()
    other = run("--dtype", "bfloat16")
    assert "4 rows are not what was made" in str(other.exception)


def test_rows_that_fail_are_listed_and_tried_again(run, tmp_path, manifest):
    """A coloured depth map is found when it is read: what would be made with it is made."""
    Image.new("RGB", (64, 64), (200, 0, 0)).save(tmp_path / "red.png")
    rows = [{**FORM, "depth": name} for name in ("d.png", "red.png", "d.png")]
    write(manifest, [*rows, {**FORM, "give": {"pose": "d.png"}}])
    done = run()
    assert done.exit_code == 1
    failed = [json.loads(one) for one in (tmp_path / "out" / "failed.jsonl").open()]
    assert [(one["line"], one["id"]) for one in failed] == [(2, "000002"), (4, "000004")]
    assert "coloured" in failed[0]["error"]
    assert "no branch 'pose' in this model" in failed[1]["error"]
    assert "line 2 (000002): " in done.output
    assert "2 rows could not be made" in done.output
    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "red.png")
    write(manifest, rows)
    again = run()
    assert again.exit_code == 0, again.output
    assert "3 rows, 1 to make" in again.output
    assert not (tmp_path / "out" / "failed.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a dog"], "--prompt beside --batch: say it in the lines"),
        (["--workers", "2"], "--workers: one device makes all rows here"),
        (["--dtype", "int3"], "--dtype 'int3' is not one of"),
        (["--device", "cuda:99"], "--device 'cuda:99' cannot be used"),
    ],
)
def test_what_does_not_go_with_a_manifest(run, tmp_path, options, message):
    refused = run(*options)
    assert message in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_without_ray_it_says_what_brings_it(run, tmp_path, monkeypatch):
    for part in ("ray.data", "ray.serve"):
        monkeypatch.setitem(sys.modules, part, None)
    for refused in (run("--engine", "ray"), RUNNER.invoke(app, ["serve", "--engine", "ray"])):
        assert "pip install 'unicond[ray]'" in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_a_manifest_s_options_need_one(tmp_path):
    for option in (["--redo"], ["--engine", "ray"], ["--rows", "4"]):
        refused = RUNNER.invoke(app, ["generate", *option, "--out", str(tmp_path / "out")])
        assert f"{option[0]} is of --batch MANIFEST" in str(refused.exception)


def test_a_bad_manifest_is_refused_before_a_model_is_loaded(run, manifest, tmp_path):
    write(manifest, [FORM, {**FORM, "depth": "gone.png"}])
    refused = run("--base", "no-such-model")
    assert "line 2: the picture" in str(refused.exception)
    assert "no-such-model" not in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_write_to_one_folder(run, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        refused = run()
    assert "another run writes to" in str(refused.exception)


def test_what_is_no_row_is_not_taken_for_one(run, tmp_path):
    (tmp_path / "out" / "rows" / "pictured").mkdir(parents=True)
    refused = run()
    assert "was not made by this command, or is damaged" in str(refused.exception)


@pytest.fixture
def maker(tiny, tiny_base, manifest, tmp_path):
    """A maker on an empty folder, and its rows."""
    asked = Asked(
        root=tmp_path,
        out=tmp_path / "out",
        base=str(tiny_base),
        adapters={"depth": str(DEPTH)},
        device="cpu",
        dtype=None,
        loras={},
        offload=False,
    )
    with folder.held(asked.out):
        yield Maker(asked, tiny), read_manifest(manifest, str(tiny_base), {})


def test_what_two_have_made_is_kept_once(maker, tmp_path):
    made_by, rows = maker
    output = made_by._filled(rows[0]).run(made_by.model)
    folder.keep(tmp_path / "out", rows[0], output, "first")
    before = made(tmp_path / "out")
    folder.keep(tmp_path / "out", rows[0], output, "second")
    assert made(tmp_path / "out") == before
    assert not list((tmp_path / "out" / ".unfinished").iterdir())


def test_what_ended_its_worker_is_made_alone_and_given_up(maker, tmp_path):
    """As marks of workers that were killed say: in company once, alone once."""
    made_by, rows = maker
    for row, times in zip(rows, (0, 1, 2, 2), strict=True):
        for _ in range(times):
            folder.begin(tmp_path / "out", row)
    ended = {one.id: one.error for one in made_by.make(rows[:3])}
    assert ended["000001"] == ended["000002"] == ""
    assert "its worker ended 2 times" in ended["pictured"]
    assert {one.split("/")[0] for one in made(tmp_path / "out")} == {"000001", "000002"}
    again = {one.id: one.error for one in made_by.make(rows[:2])}
    assert again == {"000001": "", "000002": ""}


def test_what_a_killed_run_had_begun_is_known_to_the_next(run, tmp_path, manifest):
    """Marked twice by runs that were killed: told as failed, the others made; then tried again."""
    run(batch=write(tmp_path / "first.jsonl", [FORM]))
    for name, times in (("000002", 2), ("pictured", 1)):
        row = SimpleNamespace(id=name)
        for _ in range(times):
            folder.begin(tmp_path / "out", row)
    (tmp_path / "out" / ".unfinished" / "half").mkdir()
    done = run()
    assert done.exit_code == 1
    assert "its worker ended 2 times" in done.output
    assert {one.split("/")[0] for one in made(tmp_path / "out")} == {
        *("000001", "pictured", "000004"),
    }
    assert not list((tmp_path / "out" / ".unfinished").iterdir())
    again = run()
    assert again.exit_code == 0, again.output
    assert "4 rows, 1 to make" in again.output


def test_an_interrupted_row_has_not_ended_its_process(maker, tmp_path, monkeypatch):
    """Ctrl-C in the middle of a row, as often as one likes: no mark of it stays."""
    made_by, rows = maker

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("unicond.studio.batching.run", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            list(made_by.make(rows[:2]))
    assert not folder.begun(tmp_path / "out", rows[0])
    monkeypatch.undo()
    assert [one.error for one in made_by.make(rows[:2])] == ["", ""]


@pytest.mark.slow
def test_killed_in_the_middle_the_next_run_goes_on(tmp_path, tiny_base):
    """SIGKILL after the first rows: whole rows are kept, and no row is made twice."""
    rows = [{**FORM, "seed": n, "steps": 20, "size": 96} for n in range(24)]
    batch = write(tmp_path / "jobs.jsonl", rows)
    command = [sys.executable, "-m", "unicond", "generate", "--batch", str(batch), "--rows", "2"]
    command += ["--base", str(tiny_base), "--device", "cpu", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command)
    while len(list((tmp_path / "out").glob("rows/*"))) < 4:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = made(tmp_path / "out")
    assert 4 <= len(list((tmp_path / "out" / "rows").iterdir())) < 24
    assert subprocess.run(command).returncode == 0
    after = made(tmp_path / "out")
    assert before.items() <= after.items()
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 24
