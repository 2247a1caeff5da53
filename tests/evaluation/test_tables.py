"""How rows are kept and shown, and how an interrupted run goes on."""

import io
import json
import math
import shutil

import pytest
import torch
from filelock import FileLock
from rich.console import Console

from unicond.evaluation.estimates import COSTS, FOUND
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.report import heading, save_plot
from unicond.evaluation.runner import Measure, Samples, as_list, collect, settings_hash
from unicond.evaluation.sheet import draw_sheet, keep_pictures
from unicond.evaluation.tables import LESS_IS_BETTER, MORE_IS_BETTER, Row, Table, save_table
from unicond.evaluation.tasks.registry import GROUPS

ROWS = (Row("depth_to_image", {"abs_rel": 0.1, "delta1": 0.9}), Row("text", {"found": 0.8}))
TABLE = Table("unicond evaluate depth --scenes 2", 7, 1.26, 2, ROWS, {"base": "mini"}, "here")


def test_json_has_the_agreed_form(tmp_path):
    save_table(TABLE, tmp_path / "new", tmp_path / "wanted" / "t.json")
    data = json.loads((tmp_path / "wanted" / "t.json").read_text())
    assert list(data)[:4] == ["command", "seed", "seconds", "rows"]
    assert data["rows"][0] == {"row": "depth_to_image", "metrics": {"abs_rel": 0.1, "delta1": 0.9}}
    assert (data["seed"], data["seconds"], data["scenes"]) == (7, 1.3, 2)
    assert json.loads((tmp_path / "new" / "table.json").read_text()) == data
    lines = (tmp_path / "new" / "table.csv").read_text().splitlines()
    assert lines == ["row,abs_rel,delta1,found", "depth_to_image,0.1,0.9,", "text,,,0.8"]
    assert not list(tmp_path.rglob("*.part"))


def test_rows_are_found_by_name():
    assert TABLE.row("text").metrics["found"] == 0.8
    with pytest.raises(ValueError, match="there are depth_to_image, text"):
        TABLE.row("joint")


def test_a_narrow_terminal_shows_all_numbers():
    rows = [
        Row(f"a_row_of_some_length_{n}", {f"metric{m}": m + n / 10 for m in range(5)})
        for n in range(3)
    ]
    rows.append(Row("other", {"rare": 0.125}))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Table("c", 0, 1.0, 1, tuple(rows)).to_rich())
    text = console.export_text()
    assert "a_row_of_some_length_2" in text
    assert "4.200" in text
    assert "other: rare 0.125" in text


def test_what_has_no_room_stands_below():
    names = [f"a_long_metric_{m}" for m in range(9)]
    ends = dict.fromkeys(names, (1.0, 3.0))
    rows = [Row(f"row{n}", dict.fromkeys(names, 2.0 + n), ends) for n in range(3)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Table("c", 0, 1.0, 1, tuple(rows)).to_rich())
    text = console.export_text()
    assert all(name in text for name in names)
    assert "row2: a_long_metric_8 4.000 ±1.000" in text


def test_plot_is_a_picture(tmp_path):
    path = save_plot(TABLE, tmp_path / "plots" / "p.png", ("abs_rel", "found"), "title")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no row has"):
        save_plot(TABLE, path, ("fid",), "title")


def test_every_metric_has_one_direction():
    measured = {metric for each in FIDELITIES.values() for metric in each.metrics} | {*FOUND}
    measured |= {metric for group in GROUPS for metric in group.metrics}
    measured |= {"range_covered", "error_ratio", "ratio_to_two_way", "agreement", "fid"}
    assert measured | {*COSTS} <= MORE_IS_BETTER | LESS_IS_BETTER
    assert not MORE_IS_BETTER & LESS_IS_BETTER
    assert heading("objects") == "objects (more is better)"
    assert heading("layout_iou") == "layout iou (less is better)"
    with pytest.raises(ValueError, match="which way 'weight' is better is not known"):
        heading("weight")


def counting(name, calls, fail_at=None):
    """A measure of the scene's number and its square; it notes every chunk, and may fail at one."""

    def run(rows):
        calls.append((name, rows.start))
        if rows.start == fail_at:
            raise KeyboardInterrupt
        return Samples(
            {"number": list(rows), "odd": [float(n) if n % 2 else None for n in rows]},
            {"vector": [[n, n * n] for n in rows]},
        )

    return Measure(name, run)


def test_an_interrupted_run_goes_on(tmp_path):
    calls, prepared = [], []

    def prepare(rows):
        prepared.append(rows.start)
        return rows

    def measure(scenes, fail_at=None):
        jobs = [counting("a", calls), counting("b", calls, fail_at)]
        return collect(jobs, prepare, scenes, 3, tmp_path, quiet=True)

    with pytest.raises(KeyboardInterrupt):
        measure(7, fail_at=3)
    assert calls == [("a", 0), ("b", 0), ("a", 3), ("b", 3)]
    calls.clear(), prepared.clear()
    found = measure(7)
    assert calls == [("b", 3), ("a", 6), ("b", 6)]
    assert prepared == [3, 6]
    assert list(found["b"].values["number"]) == list(range(7))
    assert found["a"].mean("odd") == 3
    assert found["a"].vectors["vector"][6] == [6, 49 - 13]
    calls.clear(), prepared.clear()
    assert measure(7) == found
    assert (calls, prepared) == ([], [])
    (tmp_path / "a-00003-003.json").write_text('{"values": {"numb')  # a damaged file is redone
    assert measure(6)["a"].values["number"] == list(range(6))
    assert calls == [("a", 3)]


def test_processes_share_the_chunks_of_a_run(tmp_path):
    """What another process is at is passed by, and read when that one is done."""
    calls = []
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    jobs = [counting("a", calls)]
    collect(jobs, lambda rows: rows, 7, 3, elsewhere, quiet=True)
    calls.clear()
    here.mkdir()
    other = FileLock(here / "00000-003.lock")
    other.acquire()

    def prepare(rows):
        if rows.start == 6:
            shutil.copy(elsewhere / "a-00000-003.json", here)
            other.release()
        return rows

    found = collect(jobs, prepare, 7, 3, here, quiet=True)
    assert calls == [("a", 3), ("a", 6)]
    assert found["a"].values["number"] == list(range(7))


def test_progress_is_told_where_there_is_no_terminal(tmp_path, capsys):
    """Parts that were measured before count, too."""
    jobs = [counting("a", []), counting("b", [])]
    for _ in range(2):
        collect(jobs, lambda rows: rows, 5, 3, tmp_path, every=0)
        told = [line.rpartition(",")[0] for line in capsys.readouterr().err.splitlines()]
        assert told == [
            "measuring: a 0-2, 0 of 4 (0%)",
            "measuring: b 0-2, 1 of 4 (25%)",
            "measuring, 2 of 4 (50%)",
            "measuring: a 3-4, 2 of 4 (50%)",
            "measuring: b 3-4, 3 of 4 (75%)",
            "measuring, 4 of 4 (100%)",
        ]


def test_a_measure_must_answer_for_every_scene(tmp_path):
    short = Measure("short", lambda _: Samples({"x": [1.0]}))
    with pytest.raises(ValueError, match=r"one value a scene \(2\)"):
        collect([short], lambda rows: rows, 2, 2, tmp_path, quiet=True)
    with pytest.raises(ValueError, match="one name"):
        collect([short, short], lambda rows: rows, 2, 2, tmp_path, quiet=True)
    with pytest.raises(ValueError, match="1 or more"):
        collect([short], lambda rows: rows, 0, 2, tmp_path, quiet=True)
    with pytest.raises(ValueError, match="there are x"):
        Samples({"x": [1.0]}).mean("y")


def test_what_does_not_apply_is_left_out_of_means():
    samples = Samples({"x": as_list(torch.tensor([1.0, math.nan, 3.0, math.inf])), "y": [None]})
    assert samples.values["x"] == [1.0, None, 3.0, None]
    assert samples.mean("x") == 2
    assert math.isnan(samples.mean("y"))


def test_every_setting_changes_the_hash():
    base = {"seed": "0", "network": "abc"}
    hashes = {settings_hash(s) for s in (base, base | {"seed": "1"}, {**base, "solver": "ddim"})}
    assert len(hashes) == 3
    assert settings_hash(dict(reversed(base.items()))) in hashes


def test_sheets_show_what_was_kept(tmp_path):
    numbers = range(62, 66)
    keep_pictures(tmp_path / "a", numbers, torch.zeros(4, 3, 16, 16))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["062.png", "063.png"]
    for kind in ("a", "b"):
        keep_pictures(
            tmp_path / kind, range(3), torch.full((3, 3, 64, 64), 1 if kind == "a" else -1)
        )
    sheet = draw_sheet(tmp_path, ("a", "b"), ["a red ball"] * 3, columns=2)
    assert sheet.size[0] == 2 * (128 + 6)
    assert sheet.getpixel((10, 10)) == (255, 255, 255)
    assert sheet.getpixel((74, 10)) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"lacks pictures of \['c'\]"):
        draw_sheet(tmp_path, ("a", "c"), ["a red ball"] * 3)
