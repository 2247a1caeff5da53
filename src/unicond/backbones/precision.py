"""Which number format a network computes in: the fastest that is safe on its device.

float16 is for accelerators: CPUs have no units for it, and it overflows in some autoencoders, which
therefore stay in float32. bfloat16 on a CPU is several times faster where the CPU has units for it
and slower where it has none, so that it is timed. Small networks stay in float32 everywhere: they
are fast enough, and their numbers do not depend on the machine.
"""

import time
from functools import cache

import torch
from torch.nn import functional

SMALL = 2**28
"""Parameters up to which a network stays in float32: one GiB."""


def dtype_for(device: torch.device, parameters: int) -> torch.dtype:
    """The format of a network where the caller names none.

    Args:
        device: where it will run.
        parameters: how many it has.

    Returns:
        float32 for small networks; else float16 on CUDA, and on the CPU bfloat16 where it is
        faster.
    """
    if parameters <= SMALL:
        return torch.float32
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_prefers_bfloat16() else torch.float32


def check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a format that is none, or that the device is not made for.

    Args:
        dtype: what the caller asks for.
        device: where the network will run.

    Raises:
        ValueError: no floating `torch.dtype`, or float16 on a CPU.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"dtype is {dtype!r}; it is torch.float32, torch.bfloat16 or, on a GPU, torch.float16; "
            "leave it out for what suits the device"
        )
    if dtype == torch.float16 and device.type == "cpu":
        raise ValueError(
            "float16 is not for the CPU, which is slower with it than with float32: take bfloat16 "
            "or float32, or leave dtype out for the faster of the two"
        )


def cpu_prefers_bfloat16() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 at least 1.5 times as fast."""
    return bfloat16_speed() > 1.5


def slow_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 slower than in float32: some CPUs do.

    Args:
        device: where a network runs.

    Returns:
        The answer; a CPU without units for it may take 25 times as long.
    """
    return device.type == "cpu" and bfloat16_speed() < 1


@cache
def bfloat16_speed() -> float:
    """How many times as fast this CPU multiplies matrices in bfloat16 as in float32; timed once."""
    with torch.no_grad():
        return _seconds(torch.float32) / _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    """Of one linear layer at a size of Stable Diffusion's; the best of several."""
    x, weight = torch.ones(1024, 640, dtype=dtype), torch.ones(640, 640, dtype=dtype)
    found: list[float] = []
    for _ in range(6):
        begin = time.perf_counter()
        functional.linear(x, weight)
        found.append(time.perf_counter() - begin)
    return min(found)


def autoencoder_dtype(network: torch.dtype, force_upcast: bool) -> torch.dtype:
    """float32 where the autoencoder's config says that it overflows; else the network's format."""
    return torch.float32 if force_upcast else network


def text_dtype(network: torch.dtype) -> torch.dtype:
    """float32, or float16 beside a float16 network: bfloat16's 8 bits are too few for prompts."""
    return torch.float16 if network == torch.float16 else torch.float32
