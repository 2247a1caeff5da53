"""What a network is told beside latents and time: the words, and what some networks add to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prompt:
    """The text embeddings of one branch, float32.

    Args:
        tokens: (B or 1, N, width), what cross-attention looks at.
        pooled: (B or 1, width), the whole prompt in one vector; None where the network takes none.
        time_ids: (B or 1, K), numbers that are embedded as times are (Stable Diffusion XL: sizes
            and crops in pixels); None where the network takes none.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


Prompts = Mapping[str, Mapping[str, Prompt]]
"""{prompt name: {branch: its prompt}}."""


def gather(prompts: Sequence[Prompt], batch: int) -> Prompt:
    """The prompts of several groups of rows as one.

    Args:
        prompts: one a group.
        batch: rows a group; a prompt of one row is repeated.

    Returns:
        A prompt of `len(prompts) * batch` rows.

    Raises:
        ValueError: some of the prompts have added conditions, and others have none.
    """
    tokens = _rows([prompt.tokens for prompt in prompts], batch)
    assert tokens is not None
    return Prompt(
        tokens,
        _rows([prompt.pooled for prompt in prompts], batch),
        _rows([prompt.time_ids for prompt in prompts], batch),
    )


def _rows(values: Sequence[Tensor | None], batch: int) -> Tensor | None:
    found = [value for value in values if value is not None]
    if not found:
        return None
    if len(found) != len(values):
        raise ValueError("some prompts have pooled embeddings or time ids, and others have none")
    return torch.cat([value.expand(batch, *value.shape[1:]) for value in found])
