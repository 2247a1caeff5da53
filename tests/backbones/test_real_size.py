"""Stable Diffusion 1.5 at its real size, on a CPU."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("real_size.py")


@pytest.mark.slow
def test_two_steps_of_a_pair_in_twelve_gib():
    """Joint image and depth with text guidance, bfloat16, loading and decoding included."""
    with tempfile.TemporaryDirectory() as folder:  # 2.5 GB, not to be kept as tmp_path is
        for task in ("make", "run"):
            done = subprocess.run(
                [sys.executable, SCRIPT, task, folder], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    peak = float(done.stdout)
    print(f"peak memory: {peak:.2f} GiB")
    assert peak < 12
