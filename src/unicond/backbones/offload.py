"""One part on the accelerator at a time; the others wait on the CPU.

A part moves when it is called, and sends back the one before it. A run calls the text encoders, the
network many times, the autoencoder: each moves once.
"""

from collections.abc import Sequence

import torch
from accelerate import cpu_offload_with_hook
from torch import nn


def offload(parts: Sequence[nn.Module], device: torch.device) -> None:
    """Keep parts on the CPU until they are called.

    Args:
        parts: in the order of their calls; the first sends the last one back.
        device: where they run.
    """
    hook = None
    hooks = []
    for part in parts:
        _, hook = cpu_offload_with_hook(part, device, hook)
        hooks.append(hook)
    hooks[0].hook.prev_module_hook = hooks[-1]
