"""Put an image prompt adapter into a network, with a run's pictures, and take it out again."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from unicond.adapters.around import exchange, listening
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter, cross_layers
from unicond.adapters.image_prompt.processor import ImagePromptProcessor
from unicond.adapters.network import attention_shapes
from unicond.adapters.places import Places
from unicond.sampling.state import Move
from unicond.sampling.window import ALWAYS, Window

NEGATIVE = ("negative",)


class Attachment:
    """An image prompt adapter with a run's pictures, ready to be put into its network.

    It stands around the processors that are there: attach joint adapters first. Several may be
    active one in the other; their attentions add up. No weight is moved, copied or merged. In calls
    made inside of `Rows.active()` it acts on one branch; without rows, row i of a call is sample i.
    In calls made inside of `Move.active()` the window counts. Keys and values are made once, here.

    Args:
        network: a diffusers U-Net whose blocks use `Attention` modules.
        adapter: on the device on which the network runs.
        embeds: (S, n, embedding), of n pictures for each sample of the run, or of one sample for
            all; `ImageEncoder.embed` makes them. Rows look at all n at once.
        branch: whose rows look at them.
        without: names of prompts whose rows look at the embedding 0 instead.
        window: when the adapter acts.
        scale: of the attention to pictures; 0.0 is off.

    Raises:
        ValueError: adapter, network and embeddings do not fit together.
    """

    def __init__(
        self,
        network: nn.Module,
        adapter: ImagePromptAdapter,
        embeds: Tensor,
        *,
        branch: str = "image",
        without: Collection[str] = NEGATIVE,
        window: Window = ALWAYS,
        scale: float = 1.0,
    ) -> None:
        self._layers, self._scale, self._window = cross_layers(network), scale, window
        self._branch = branch
        check_fit(network, adapter)
        tokens = adapter.tokens(embeds)
        self._places = Places([True] * len(embeds), branch, without, window, nothing=True)
        self._seen = [(part.to_k_ip(tokens), part.to_v_ip(tokens)) for part in adapter.layers()]

    def acts(self, move: Move) -> bool:
        """Whether it does anything in a move's calls."""
        return self._scale != 0 and self._window.active(move, self._branch)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The network looks at the pictures, inside the block; all is put back in any case."""
        with ExitStack() as stack:
            if self._scale != 0:
                for (name, layer), (k, v) in zip(self._layers.items(), self._seen, strict=True):
                    inner = listening(name, layer, "an image prompt adapter")
                    processor = ImagePromptProcessor(inner, k, v, self._places, self._scale)
                    exchange(stack, layer, processor)
            yield


def check_fit(network: nn.Module, adapter: ImagePromptAdapter) -> None:
    """Compare the layers of an adapter with those of a network.

    Args:
        network: that shall carry it.
        adapter: to be checked.

    Raises:
        ValueError: the network has another number of cross-attention layers, or others' widths.
    """
    shapes, names = attention_shapes(network), list(cross_layers(network))
    about = f"the image prompt adapter was made for another network ({adapter.config.base})"
    if len(names) != len(adapter.inner):
        raise ValueError(
            f"{about}: it has {len(adapter.inner)} layers, but this {type(network).__name__} has "
            f"{len(names)} cross-attention layers"
        )
    for name, inner in zip(names, adapter.inner, strict=True):
        wanted, shape = (adapter.config.width, inner), shapes[name]
        if (shape.context, shape.inner) != wanted:
            raise ValueError(
                f"{about}: at {name} it needs words of width {wanted[0]} and keys of width "
                f"{wanted[1]}, but this {type(network).__name__} has {shape.context} and "
                f"{shape.inner}"
            )
