"""The benchmark runs from the command line, and its ratios are ratios."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.files import json_file, write_json

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_benchmarks_print_ratios(tiny_base):
    adapter = ROOT / "tests" / "golden" / "unicon" / "weights" / "depth"
    line = [sys.executable, "-m", "benchmarks", "--base", str(tiny_base), "--adapter", str(adapter)]
    done = subprocess.run(
        [*line, "--only", "network", "--batch", "1", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found = re.findall(r"^(.+ / .+?) +(\d+\.\d+)  \(", done.stdout, re.MULTILINE)
    assert len(found) == 4
    assert all(0.2 < float(value) < 10 for _, value in found)


@pytest.mark.slow
def test_benchmarks_print_what_an_adapter_adds():
    line = [sys.executable, "-m", "benchmarks", "--only", "size"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    aligned, loose, *bars = done.stdout.splitlines()
    assert "75,096,064 trained parameters, 8.7% of 859,520,964; 1.087 times the bytes" in aligned
    assert "25,169,920 trained parameters, 2.9%" in loose
    assert len(bars) == 2
    assert all(re.fullmatch(r"bar .+ <= 1.1: 1.0\d+, pass", line) for line in bars)


@pytest.mark.slow
def test_what_is_kept_costs_less_than_what_is_recomputed(tmp_path):
    """On a tiny network: operations are exact, times only plausible."""
    ways = ["plain", "two_way", "one_way", "one_way_aligned", "call20"]
    line = [sys.executable, "-m", "benchmarks.unicon", "--size", "tiny", "--rounds", "1"]
    subprocess.run(
        [*line, "--json", str(tmp_path / "table.json"), "--only", *ways],
        cwd=ROOT,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["bars"] == []  # they are of the real size
    rows = {row["row"]: row["metrics"] for row in table["rows"]}
    assert list(rows) == ways
    counted = [
        rows[way]["macs_ratio"] for way in ("plain", "one_way_aligned", "one_way", "two_way")
    ]
    assert counted[0] == 1.0
    assert counted == sorted(counted)
    assert rows["one_way_aligned"]["macs_ratio"] < rows["call20"]["macs_ratio"]
    assert all(0.2 < row["ratio"] < 20 for row in rows.values())
    # the interpreter and its libraries are some tenths of a GiB already
    assert all(0.1 < row["peak_gib"] < 4 for row in rows.values())


@pytest.mark.slow
def test_a_training_step_is_set_against_plain_lora_training(tmp_path):
    ways = ["lora", "pair", "pair_aligned", "pair_checkpointing"]
    line = [sys.executable, "-m", "benchmarks.training_step", "--size", "tiny", "--rounds", "1"]
    subprocess.run(
        [*line, "--json", str(tmp_path / "table.json"), "--only", *ways],
        cwd=ROOT,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["command"].startswith("python -m benchmarks.training_step --size tiny")
    rows = {row["row"]: row["metrics"] for row in table["rows"]}
    assert list(rows) == ways
    counted = ("ratio", "macs_ratio", "turn_ratio", "all_ratio", "peak_ratio")
    assert [rows["lora"][name] for name in counted] == [1.0] * 5
    assert 1 < rows["pair_aligned"]["macs_ratio"] < rows["pair"]["macs_ratio"]
    assert rows["pair_checkpointing"]["turn_gib"] < 0.6 * rows["pair"]["turn_gib"]
    assert all(0.2 < row["ratio"] < 20 for row in rows.values())
    assert all(0.1 < row["peak_gib"] < 4 for row in rows.values())


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder; give a file, as"):
        json_file(str(tmp_path))
    with pytest.raises(argparse.ArgumentTypeError, match=r"cannot write to .* is a file"):
        json_file(str(tmp_path / "file" / "table.json"))
    path = json_file(str(tmp_path / "new" / "table.json"))
    assert not path.parent.exists()
    write_json(path, {"rows": [1]})
    assert json.loads(path.read_text()) == {"rows": [1]}
