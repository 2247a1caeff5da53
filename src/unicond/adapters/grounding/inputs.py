"""What a run gives a grounding adapter: boxes and phrases of every sample, as tensors.

Sample i of a run is entry i of every tensor. Entries whose mask is 0 are nothings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.adapters.grounding.boxes import check_boxes


@dataclass(frozen=True, kw_only=True)
class Things(ABC):
    """What all inputs share.

    Args:
        masks: (B, N), 1 where there is a thing, 0 where there is none.

    Raises:
        ValueError: tensors do not fit together, or a box is none.
    """

    masks: Tensor

    def __post_init__(self) -> None:
        if self.masks.ndim != 2 or not bool(((self.masks == 0) | (self.masks == 1)).all()):
            raise ValueError(
                f"masks of shape {tuple(self.masks.shape)} must be (B, N), of ones and zeros"
            )
        for name, value in self.tensors().items():
            if value.shape[:2] != self.masks.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, but masks "
                    f"{tuple(self.masks.shape)}: samples, and things of a sample, must be as many"
                )
            if name.endswith("boxes"):
                if value.shape[2:] != (4,):
                    raise ValueError(f"{name} has shape {tuple(value.shape)}, not (B, N, 4)")
                check_boxes(name, value, self.masks)

    def __len__(self) -> int:
        return len(self.masks)

    def tensors(self) -> dict[str, Tensor]:
        """{field: its tensor}, of those that are tensors."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @abstractmethod
    def widths(self) -> dict[str, int]:
        """{field: width of the embedding in it}."""

    def filled(self, slots: int) -> Self:
        """The same with nothings up to this number."""
        missing = slots - self.masks.shape[1]
        return self._each(lambda value: F.pad(value, (0, 0) * (value.ndim - 2) + (0, missing)))

    def and_nothing(self) -> Self:
        """The same samples, and behind them one of nothings."""
        return self._each(lambda value: torch.cat([value, torch.zeros_like(value[:1])]))

    def of_each(self, samples: int) -> Self:
        """The same of every sample, where they are of one for all."""
        return self._each(lambda value: value.expand(samples, *value.shape[1:]))

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(value) for name, value in self.tensors().items()})


@dataclass(frozen=True, kw_only=True)
class Boxes(Things):
    """Phrases in boxes, for GLIGEN.

    Args:
        boxes: (B, N, 4), (x1, y1, x2, y2) in [0, 1].
        phrases: (B, N, text), pooled output of the text encoder, not normalised.
    """

    boxes: Tensor
    phrases: Tensor

    @override
    def widths(self) -> dict[str, int]:
        return {"phrases": self.phrases.shape[-1]}


@dataclass(frozen=True, kw_only=True)
class Interactions(Things):
    """Who does what to whom, and where, for InteractDiffusion.

    Args:
        subject_boxes: (B, N, 4), (x1, y1, x2, y2) in [0, 1].
        object_boxes: likewise.
        subjects: (B, N, text), pooled output of the text encoder, not normalised.
        actions: likewise.
        objects: likewise.
    """

    subject_boxes: Tensor
    object_boxes: Tensor
    subjects: Tensor
    actions: Tensor
    objects: Tensor

    @override
    def widths(self) -> dict[str, int]:
        return {name: getattr(self, name).shape[-1] for name in ("subjects", "actions", "objects")}


class Shuffle(Protocol):
    """The order in which MIGC's last gate sees the instances of a sample."""

    def __call__(self, sample: int, step: int, layer: int, slots: int) -> Tensor:
        """A permutation of `range(slots)`.

        Args:
            sample: of the run.
            step: number of the move, 0 where there is none.
            layer: number among the layers that carry MIGC, mid block first, then upwards.
            slots: how many places there are.

        Returns:
            (slots,), on the CPU.
        """
        ...


@dataclass(frozen=True)
class Seeded:
    """The same shuffle wherever a sample runs: drawn from its seed, the step and the layer.

    Args:
        seeds: one a sample; the same for all where there is one.
    """

    seeds: tuple[int, ...] = (0,)

    def __call__(self, sample: int, step: int, layer: int, slots: int) -> Tensor:
        """A permutation (see `Shuffle`)."""
        seed = self.seeds[sample if len(self.seeds) > 1 else 0]
        # 1000 steps of 100 layers before two seeds share a draw
        drawn = torch.Generator().manual_seed(((seed * 1000 + step) * 100 + layer) % 2**63)
        return torch.randperm(slots, generator=drawn)


@dataclass(frozen=True, kw_only=True)
class Instances(Things):
    """Instances with attributes in boxes, for MIGC.

    Args:
        boxes: (B, N, 4), (x1, y1, x2, y2) in [0, 1].
        phrases: (B, N, text), pooled output of the text encoder, not normalised.
        words: (B, N, words, width), the text encoder's output for each phrase, as the network takes
            prompts.
        size: (height, width) of the picture in pixels.
        latents: (height, width) of the latents.
        ca_scale: (B, N), weights of what the picture hears of the phrase; None is 1.
        ea_scale: (B, N), weights of what it hears of phrase and box.
        sac_scale: (B, N), of each instance's map before all are balanced.
        shuffle: the order of the last gate; it changes the picture a little.
    """

    boxes: Tensor
    phrases: Tensor
    words: Tensor
    size: tuple[int, int]
    latents: tuple[int, int]
    ca_scale: Tensor | None = None
    ea_scale: Tensor | None = None
    sac_scale: Tensor | None = None
    shuffle: Shuffle = Seeded()

    @override
    def widths(self) -> dict[str, int]:
        return {"phrases": self.phrases.shape[-1]}
