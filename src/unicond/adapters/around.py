"""Processors that stand around those which an attention layer has, until a block ends."""

from abc import abstractmethod
from contextlib import ExitStack

from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

from unicond.adapters.processor import JointProcessor, Processor
from unicond.adapters.routes import Router
from unicond.sampling.controls import Controllable


class Around(Controllable):
    """A processor that stands around another and changes some rows of what that one returns.

    Args:
        inner: the processor around which it is put.
    """

    def __init__(self, inner: Processor) -> None:
        self._inner = inner

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output before the residual, (rows, tokens, d); arguments as in diffusers."""
        out = self._inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return self.changed(attn, hidden_states, out)

    @abstractmethod
    def changed(self, attn: Attention, picture: Tensor, out: Tensor) -> Tensor:
        """What the layer returns, in the place of what the inner processor does.

        Args:
            attn: the layer.
            picture: (rows, tokens, d), what it was handed.
            out: (rows, tokens, d), of the inner processor.

        Returns:
            As `out`; rows that have no part in it keep their bits.
        """


def listening(name: str, layer: Attention, what: str) -> Processor:
    """A layer's processor, as one that lets controls in.

    Args:
        name: of the layer.
        layer: whose processor.
        what: shall stand around it, for the message.

    Returns:
        The processor that it has, or the plain one with an ear for controls.

    Raises:
        ValueError: the layer has a processor that this package does not know.
    """
    processor = layer.processor
    if isinstance(processor, Controllable):
        return processor  # pyright: ignore[reportReturnType] (all of them are called alike)
    if type(processor) not in (AttnProcessor, AttnProcessor2_0):
        raise ValueError(
            f"{name} has the processor {type(processor).__name__}, around which {what} cannot be "
            "put; restore the plain processors with "
            "network.set_attn_processor(AttnProcessor2_0())"
        )
    return JointProcessor(name, processor, Router(()), {}, joint=False)


def exchange(stack: ExitStack, layer: Attention, processor: Processor) -> None:
    """Give a layer a processor until the stack is unwound."""
    stack.callback(layer.set_processor, layer.processor)
    layer.set_processor(processor)  # pyright: ignore[reportArgumentType] (any callable)
