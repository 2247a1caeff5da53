"""The most memory that something takes: measured in a process of its own, which does that alone.

A process never gives back what its peak was, and one that has built everything else, too, says
nothing of a part. So a benchmark starts itself again for each row, with `--peak ROW`, and that run
prints what it reached. On a GPU this is its allocator's; on a CPU the whole process counts, with
the interpreter and its libraries.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch


def peak_gib(module: str, options: Sequence[str]) -> float:
    """Run a benchmark again, for one peak.

    Args:
        module: of the benchmark, e.g. "benchmarks.unicon".
        options: of its command line, `--peak ROW` among them.

    Returns:
        GiB, which that run prints as its last line.

    Raises:
        subprocess.CalledProcessError: it failed; its own message stands above.
    """
    line = [sys.executable, "-m", module, *options]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has had, in GiB; on a GPU, of its allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20
