"""What a network is told beside latents and time: the words, and what some networks add to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from unicond.sampling.state import State


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

Rewording = Callable[[Prompts], Prompts]
"""A denoiser's table of prompts in, another one out."""

_KEY = "prompts"


def reword(state: State, rewording: Rewording) -> State:
    """The same state, at which denoisers find other words, after earlier rewordings.

    Args:
        state: of a run.
        rewording: from the table that a denoiser has to the one that it uses; gradients lead
            through.

    Returns:
        The state; the rewording travels in its memory.
    """

    def again(prompts: Prompts) -> Prompts:
        return rewording(reworded(prompts, state))

    return state.remember(_KEY, again)


def reworded(prompts: Prompts, state: State) -> Prompts:
    """A denoiser's table of prompts as the state wants it: the very same without a rewording."""
    rewording = cast(Rewording | None, state.memory.get(_KEY))
    return prompts if rewording is None else rewording(prompts)


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
