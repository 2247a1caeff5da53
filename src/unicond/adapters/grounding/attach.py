"""Put a grounding adapter into a network, with what a run gives it, and take it out again."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from diffusers.models.attention import GatedSelfAttentionDense
from torch import Tensor, nn

from unicond.adapters.around import exchange, listening
from unicond.adapters.grounding.adapter import GroundingAdapter, Inputs
from unicond.adapters.grounding.blocks import blocks_of
from unicond.adapters.grounding.fuser import FuserProcessor
from unicond.adapters.grounding.inputs import Instances
from unicond.adapters.grounding.instances import InstanceProcessor, Table
from unicond.adapters.grounding.migc import MIGC
from unicond.adapters.network import attention_layers
from unicond.adapters.places import Places
from unicond.sampling.state import Move
from unicond.sampling.window import ALWAYS, Window

NEGATIVE = ("negative",)
_WHAT = "a grounding adapter"


def until_step(last: int) -> Window:
    """The window of `MIGCsteps` and `NaiveFuserSteps`: the last step counts, -1 is never.

    As of a fuser's `beta`, steps are the image's: a plan that lets it rest counts more moves.
    """
    return Window.steps(0, last + 1)


def until_share(beta: float, num_inference_steps: int) -> Window:
    """The window of a fuser's `beta`: on for the first `int(beta * num_inference_steps)` moves."""
    return Window.steps(0, int(beta * num_inference_steps))


class Attachment:
    """A grounding adapter with what one run gives it, ready to be put into its network.

    It stands around the processors that are there: attach joint adapters first. Several may be
    active one in the other. No weight is moved, copied or merged. In calls made inside of
    `Rows.active()` it acts on one branch; without rows, row i of a call is sample i. In calls made
    inside of `Move.active()` windows count.

    Args:
        network: a diffusers U-Net without fusers of its own (`attention_type="default"`).
        adapter: on the device on which the network runs.
        inputs: of every sample of the run, or of one for all.
        branch: whose rows are grounded.
        without: names of prompts whose rows get nothing.
        window: when the adapter acts.
        naive: when MIGC's layers outside of the window, and all other cross-attention, average
            what is heard of the instances; None is never.
        scale: of a fuser; 0.0 is off.

    Raises:
        ValueError: adapter, network and inputs do not fit together.
        TypeError: the inputs are another method's.
    """

    def __init__(
        self,
        network: nn.Module,
        adapter: GroundingAdapter,
        inputs: Inputs,
        *,
        branch: str = "image",
        without: Collection[str] = NEGATIVE,
        window: Window = ALWAYS,
        naive: Window | None = None,
        scale: float = 1.0,
    ) -> None:
        check_fit(network, adapter)
        adapter.check(inputs)
        if isinstance(inputs, Instances) and scale != 1.0:
            raise ValueError(
                "MIGC takes ca_scale, ea_scale and sac_scale with its instances, not scale"
            )
        if not isinstance(inputs, Instances) and naive is not None:
            raise ValueError(
                f"only MIGC has a naive window; this adapter is {adapter.config.method}"
            )
        inputs = inputs.to(next(adapter.parameters()).device)
        things = (inputs.masks > 0).any(1).tolist()
        is_migc = isinstance(inputs, Instances)
        self._network, self._adapter, self._scale = network, adapter, scale
        self._branch = branch
        self._windows = [window, *([] if naive is None else [naive])]
        self._places = Places(things, branch, without, window, nothing=not is_migc)
        self._naive = naive and Places(things, branch, without, naive, nothing=False)
        self._told = Table(inputs) if isinstance(inputs, Instances) else adapter.tokens(inputs)

    def acts(self, move: Move) -> bool:
        """Whether it does anything in a move's calls."""
        return self._scale != 0 and any(
            window.active(move, self._branch) for window in self._windows
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """The network draws things where the inputs say, inside the block; put back in any case."""
        with ExitStack() as stack:
            if isinstance(self._told, Table):
                self._put_instances(stack, self._told)
            elif self._scale != 0:
                self._put_fusers(stack, self._told)
            yield

    def _put_fusers(self, stack: ExitStack, tokens: Tensor) -> None:
        layers = attention_layers(self._network)
        for name, fuser in self._adapter.parts():
            assert isinstance(fuser, GatedSelfAttentionDense)
            block, layer = self._network.get_submodule(name), layers[f"{name}.attn1"]
            norm = getattr(block, "norm1", None)
            if not isinstance(norm, nn.LayerNorm):
                raise ValueError(f"{name} begins with {type(norm).__name__}, not with a LayerNorm")
            inner = listening(f"{name}.attn1", layer, _WHAT)
            processor = FuserProcessor(inner, norm, fuser, tokens, self._places, self._scale)
            stack.enter_context(processor.hook())
            exchange(stack, layer, processor)

    def _put_instances(self, stack: ExitStack, table: Table) -> None:
        parts = {f"{name}.attn2": part for name, part in self._adapter.parts()}
        numbers = {name: number for number, name in enumerate(parts)}
        for name, layer in attention_layers(self._network).items():
            part = parts.get(name)
            if not name.endswith("attn2") or (part is None and self._naive is None):
                continue
            assert part is None or isinstance(part, MIGC)
            migc = None if part is None else (part, numbers[name])
            inner = listening(name, layer, _WHAT)
            processor = InstanceProcessor(inner, table, migc, self._places, self._naive)
            exchange(stack, layer, processor)


def check_fit(network: nn.Module, adapter: GroundingAdapter) -> None:
    """Compare the blocks of an adapter with those of a network.

    Args:
        network: that shall carry it.
        adapter: to be checked.

    Raises:
        ValueError: the network lacks a block, has other widths or heads or fusers of its own, or
            has a block for which the adapter has no fuser.
    """
    if getattr(network, "position_net", None) is not None:
        raise ValueError(
            f"this {type(network).__name__} has a position net of its own (attention_type "
            "'gated'), into which diffusers loads InteractDiffusion's weights as if they were "
            "GLIGEN's: load the plain base (attention_type 'default'), and this adapter beside it"
        )
    shapes, about = blocks_of(network), f"an adapter of {adapter.config.method}"
    for number, (name, width) in enumerate(adapter.widths.items()):
        wanted, shape = (width, adapter.config.heads_of(number)), shapes.get(name)
        if shape is None or shape[:2] != wanted:
            has = "has no such block" if shape is None else f"has {shape[0]} and {shape[1]}"
            raise ValueError(
                f"{about} was made for another network ({adapter.config.base}): at {name} it needs "
                f"{wanted[0]} features and {wanted[1]} heads, but this {type(network).__name__} "
                f"{has}"
            )
    rest = [name for name in shapes if name not in adapter.widths]
    if rest and adapter.config.method != "migc":
        raise ValueError(f"{about} has no fuser for {rest[0]} of this {type(network).__name__}")
