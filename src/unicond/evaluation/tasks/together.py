"""Several pictures restored in one run of the model, each as it would be alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from unicond.backbones.base import Backbone
from unicond.tasks.measured import Measured
from unicond.tasks.restore import Restore


@dataclass(frozen=True, eq=False)
class Together(Restore):
    """The same restoration of several pictures in one run, picture n with the seed of sample n.

    Args:
        pictures: (B, 3, H, W) in [-1, 1], clean; `picture` is the first, `count` is B.
        captions: a prompt each; none are all without.
    """

    PICTURES: ClassVar[frozenset[str]] = Restore.PICTURES | {"pictures"}

    pictures: Tensor = field(kw_only=True)
    captions: tuple[str, ...] = field(default=(), kw_only=True)

    @override
    def words(self) -> str | Sequence[str]:
        return self.captions or self.prompt

    @override
    def seen(self, backbone: Backbone) -> Measured:
        """All measurements as one; each is as it would be alone."""
        each = [
            replace(self, picture=picture, count=1, seed=self.seed + n)._alone(backbone)
            for n, picture in enumerate(self.pictures)
        ]
        values = torch.cat([one.measurement.values for one in each])
        return replace(each[0], measurement=replace(each[0].measurement, values=values))

    def _alone(self, backbone: Backbone) -> Measured:
        return super().seen(backbone)
