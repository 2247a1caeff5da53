"""A manifest made by two actors of Ray, one of which is killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"
FORM = {"task": "generate", "prompt": "a dog", "only": ["image"], "steps": 20, "size": 96}
COUNT = 30
pytestmark = pytest.mark.slow


def told(out):
    """{row: what its folder says}."""
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("rows/*/row.json")}


def test_an_actor_that_is_killed_loses_nothing_and_makes_nothing_twice(tiny_base, tmp_path):
    rows = [{**FORM, "seed": n} for n in range(COUNT)]
    rows.append({**FORM, "give": {"pose": "d.png"}})
    Image.linear_gradient("L").save(tmp_path / "d.png")
    batch = tmp_path / "jobs.jsonl"
    batch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "unicond", "generate", "--batch", str(batch), "--rows", "2"]
    command += ["--base", str(tiny_base), "--adapter", f"depth={DEPTH}", "--device", "cpu"]
    command += ["--out", str(out), "--engine", "ray", "--workers", "2"]
    process = subprocess.Popen(command)
    while len(workers := {one["worker"] for one in told(out).values()}) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    killed = min(workers)
    os.kill(int(killed.split(":")[1]), signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/*")}
    assert len(told(out)) < COUNT
    assert process.wait() == 1, "one row of the manifest cannot be made"
    found = told(out)
    assert len(found) == COUNT
    assert {one["line"] for one in found.values()} == {*range(1, COUNT + 1)}
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert len({one["worker"] for one in found.values()}) <= 3, "a model a worker, one anew"
    (failed,) = [json.loads(line) for line in (out / "failed.jsonl").open()]
    assert failed["line"] == COUNT + 1
    assert "no branch 'pose'" in failed["error"]
    assert [path.name for path in out.iterdir() if path.name == ".unfinished"]
    assert not [path for path in (out / ".unfinished").iterdir() if path.is_dir()]
