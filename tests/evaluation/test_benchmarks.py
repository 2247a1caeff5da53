"""The benchmark runs from the command line, and its ratios are ratios."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
