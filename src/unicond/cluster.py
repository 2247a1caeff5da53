"""Ray, where it is installed: joined for as long as a block runs."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Literal

STORE = 256 * 2**20
"""Bytes of a local Ray's object store: what goes through it is small."""


def check_installed(part: Literal["data", "serve"]) -> None:
    """Raise if there is no Ray.

    Args:
        part: that is needed.

    Raises:
        ValueError: it is not there.
    """
    try:
        import_module(f"ray.{part}")
    except ImportError:
        told = f"--engine ray needs Ray with ray[{part}]: pip install 'unicond[ray]' brings it"
        raise ValueError(told) from None


@contextmanager
def joined(workers: int, device: str | None) -> Generator[float]:
    """Join the cluster that `RAY_ADDRESS` names, or start one of this machine alone.

    Args:
        workers: that are to be there at the same time.
        device: of each; None is an accelerator where the cluster has any.

    Yields:
        Accelerators of each worker: 1 or 0.

    Raises:
        ValueError: the cluster has no room for the workers.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": True, "logging_level": "WARNING"}
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, **quiet)
    else:
        cores = max(workers, os.cpu_count() or 1)
        ray.init(
            "local", num_cpus=cores, object_store_memory=STORE, include_dashboard=False, **quiet
        )
    try:
        there = ray.cluster_resources()
        accelerators = device != "cpu" and there.get("GPU", 0) > 0
        kind = "GPU" if accelerators else "CPU"
        if there.get(kind, 0) < workers:
            raise ValueError(
                f"--workers {workers}: Ray has {there.get(kind, 0):g} {kind}s, and each worker "
                "takes one: give fewer, or --device cpu"
            )
        yield float(accelerators)
    finally:
        ray.shutdown()
