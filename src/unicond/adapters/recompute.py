"""Gradient checkpoints: blocks that are called again in the backward pass, and not kept till then.

A block that is called again must compute what it did before. But the backward pass comes after
`attached` and `Rows.active()` have ended, on a GPU in another thread, where no rows are current: so
a block takes the rows, the processors of its attention layers and the hooks of its other layers
along.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType

from diffusers.models.attention_processor import Attention
from torch import nn
from torch.utils.checkpoint import checkpoint

from unicond.adapters.maps import MapHook, hooked, hooks_in
from unicond.sampling.rows import Rows, current

_FLAG, _CALL = "gradient_checkpointing", "_gradient_checkpointing_func"
"""What diffusers' blocks ask whether, and by what, they are to call their parts."""


class Hooked(ABC):
    """Marks attention processors that need hooks on their block."""

    @abstractmethod
    def hooked(self) -> AbstractContextManager[None]:
        """Put the hooks of this processor, and of those in it, on the block for a while."""


@contextmanager
def recomputed(network: nn.Module) -> Iterator[None]:
    """Inside the block, the network keeps the inputs of its blocks' parts only.

    Gradients of calls made inside are those of calls without it, wherever the backward pass runs.

    Args:
        network: any diffusers network that supports gradient checkpointing.

    Raises:
        ValueError: it does not.
    """
    blocks = [block for block in network.modules() if hasattr(block, _FLAG)]
    if not blocks:
        raise ValueError(f"{type(network).__name__} does not support gradient checkpointing")
    before = [(getattr(block, _FLAG), getattr(block, _CALL, None)) for block in blocks]
    try:
        for block in blocks:
            setattr(block, _FLAG, True)
            setattr(block, _CALL, _call)
        yield
    finally:
        for block, (flag, call) in zip(blocks, before, strict=True):
            setattr(block, _FLAG, flag)
            setattr(block, _CALL, call)


def _call(part: nn.Module, *inputs: object) -> object:
    """Call a part of a block so that it is called again in the backward pass."""
    again = _AsBefore(
        current(),
        {layer: layer.processor for layer in part.modules() if type(layer) is Attention},
        hooks_in(part),
    )
    # rows are current and processors in place now: only the second call needs a context
    return checkpoint(part, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again))


class _AsBefore(AbstractContextManager[None]):
    """Some rows are current, and attention layers have some processors; may be entered again.

    Args:
        rows: those of the first call, if there were any.
        processors: {layer: its processor in the first call}.
        hooks: {layer: its hook in the first call}.
    """

    def __init__(
        self,
        rows: Rows | None,
        processors: Mapping[Attention, object],
        hooks: Mapping[nn.Module, MapHook],
    ) -> None:
        self._rows, self._processors, self._hooks = rows, processors, hooks
        self._exits: list[ExitStack] = []

    def __enter__(self) -> None:
        stack = ExitStack()
        for layer, processor in self._processors.items():
            stack.callback(layer.set_processor, layer.processor)
            layer.set_processor(processor)  # pyright: ignore[reportArgumentType] (any callable)
            if isinstance(processor, Hooked):
                stack.enter_context(processor.hooked())
        stack.enter_context(hooked(self._hooks))
        if self._rows is not None:
            stack.enter_context(self._rows.active())
        self._exits.append(stack)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.pop().__exit__(kind, error, trace)
