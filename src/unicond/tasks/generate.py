"""Making a picture under maps, each followed in one of two ways.

    adapter    every map is held as the condition of an adapter
    readout    one map is followed by a head that reads the network's features, without an adapter

The model's own call makes conditions of pictures as well, and both at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from torch import Tensor
from typing_extensions import override

from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.tasks.conditioned import Conditioned
from unicond.tasks.heads import follow, with_map

Method = Literal["adapter", "readout"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class Generate(Conditioned):
    """Make a picture under conditions.

    Args:
        prompt: what it shows; may be left out.
        masks: {condition: picture, white where its map is known}; elsewhere it is free.
        scale: of `readout`; None is the usual one, 0.0 is off.
        head: of `readout`, as `unicond.loading.load_readout` takes it; "" is the embedded one of
            the condition.
        method: one of `METHODS`.

    Raises:
        ValueError: an unknown method, something that it does not use, a mask of no condition, or a
            readout without the one condition that it reads.
    """

    PICTURES_BY_NAME: ClassVar[frozenset[str]] = Conditioned.PICTURES_BY_NAME | {"masks"}

    prompt: str = ""
    masks: Mapping[str, Picture] = field(default_factory=dict[str, Picture], kw_only=True)
    scale: float | None = field(default=None, kw_only=True)
    head: str = field(default="", kw_only=True)
    method: str = field(default="adapter", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ValueError(f"no method {self.method!r}: choose one of {', '.join(METHODS)}")
        if free := sorted(self.masks.keys() - self.conditions.keys()):
            raise ValueError(
                f"masks names {free[0]!r}, of which no picture is given: give it in conditions, too"
            )
        if self.method == "readout":
            if len(self.conditions) != 1:
                raise ValueError(
                    f"method 'readout' follows one map, and {len(self.conditions)} conditions are "
                    "given: give one that a head was trained for (--depth FILE)"
                )
            return
        for name, said in (("scale", self.scale is not None), ("head", bool(self.head))):
            if said:
                raise ValueError(
                    f"method {self.method!r} takes no {name}: drop it, or choose readout (--method)"
                )

    @property
    @override
    def held(self) -> Mapping[str, Picture]:
        """None of `readout`, whose head reads what an adapter would be given."""
        return {} if self.method == "readout" else self.conditions

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        size, told = self.fitted_size(model), self.conditions.items()
        known = {branch: Given(picture, self.masks.get(branch)) for branch, picture in told}
        if self.method == "adapter":
            return None, self.call(model, callback, self.prompt, size, (), known)
        ((branch, one),) = known.items()
        guide = follow(model, branch, one, size, self.head, self.scale)
        out = self.call(model, callback, self.prompt, size, [guide], {})
        return None, with_map(out, branch, guide)
