"""Training of a grounding adapter: the base is told where things are, and draws them there.

The base is frozen. It predicts noisy latents under their captions while the adapter tells it of the
boxes of the same scene:

    L = E |v(alpha_t x0 + sigma_t eps, t, caption, boxes) - v|^2,    of the adapter's weights alone

Where the base tells eps or x0, the errors are theirs. MIGC is trained by the same loss.

Captions name nearly all that boxes tell, so many are dropped: with them alone an adapter would have
little to add. What guidance subtracts is the empty prompt with nothing told, which is therefore
drawn as such and not left to chance. What is where is decided early, at times above `EARLY`: most
draws are of these, and all of MIGC, which acts at no others. Scenes are drawn as often as they have
things to tell.

Sources: GLIGEN, arXiv:2301.07093; InteractDiffusion, arXiv:2312.05849; MIGC, arXiv:2402.05408.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from unicond.adapters.grounding.adapter import GroundingAdapter, Inputs
from unicond.adapters.grounding.attach import Attachment
from unicond.adapters.grounding.config import Method
from unicond.adapters.recompute import recomputed
from unicond.training import things
from unicond.training.budget import Budget
from unicond.training.diffusion import SCORED, Noising, frozen, own_precision, squared_error
from unicond.training.grounding_start import begin
from unicond.training.loop import LoopConfig, stream
from unicond.training.norm import quick_norms
from unicond.training.processes import Part, parts_of
from unicond.training.things import Placed

METHODS: tuple[Method, ...] = get_args(Method)
"""All of them ship."""
EARLY = 0.5
"""Time, as a share of the schedule, above which a picture's layout is decided: MIGC acts in the
first two fifths of the moves, officially in up to 26 of 50."""


OF_METHOD: Mapping[Method, Mapping[str, float]] = {
    "gligen": {},
    "interact": {"early": 0.5},
    "migc": {"early": 1.0, "nothing": 0.0, "both": 0.0},
}
"""Shares of `GroundingRecipe` that differ by method: InteractDiffusion acts at all times; MIGC
early alone, and always has something to tell."""


@dataclass(frozen=True, kw_only=True)
class GroundingRecipe:
    """A grounding adapter and how it is trained, whatever on.

    Args:
        method: whose adapter.
        hidden: width inside of the position net; GLIGEN's is 512.
        slots: the most things it takes.
        blocks: where MIGC acts, as beginnings of names; the others act everywhere.
        drop: share of the draws with things told under the empty prompt.
        nothing: share of those that tell nothing under the caption; MIGC leaves those as they are
            and could learn nothing from them.
        both: share of those that tell nothing under the empty prompt; of MIGC likewise.
        early: share of the times that are above `EARLY`, uniformly; the others are uniform.
        some: share of the draws that tell a random number of things, and not all.
        alone: of InteractDiffusion, share of the draws that tell of things that they are there, and
            no relation between different ones.
        colored: share of the draws that tell colours.
        loop: how it is optimised.
    """

    method: Method = "gligen"
    hidden: int = 512
    slots: int = 12
    blocks: tuple[str, ...] = ("mid_block", "up_blocks")
    drop: float = 0.3
    nothing: float = 0.05
    both: float = 0.08
    early: float = 0.7
    some: float = 0.4
    alone: float = 0.4
    colored: float = 0.75
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32,
            lr=1e-3,
            matrix_lr=4e-3,
            budget=Budget(minutes=60),
            weight_decay=0.0,
            average=0.995,
        )
    )

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; choose one of {', '.join(METHODS)}")
        for name in ("drop", "nothing", "both", "early", "some", "alone", "colored"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.drop + self.nothing + self.both > 1:
            raise ValueError(
                f"drop, nothing and both are {self.drop}, {self.nothing} and {self.both}: shares "
                "of all draws, that cannot be more than 1 together"
            )
        if self.method == "migc" and (self.nothing or self.both):
            raise ValueError(
                f"nothing is {self.nothing} and both {self.both}, but MIGC learns from draws with "
                "instances: give 0"
            )
        if self.slots < 1:
            raise ValueError(f"slots must be at least 1, got {self.slots}")

    def adapter(self, unet: nn.Module, base: str) -> GroundingAdapter:
        """An untrained adapter for a network.

        Args:
            unet: the network.
            base: its name.

        Returns:
            The adapter, with the values of `grounding_start`.
        """
        return begin(
            GroundingAdapter.for_network(
                unet,
                self.method,
                base=base,
                hidden=self.hidden,
                slots=self.slots,
                blocks=self.blocks,
                generator=torch.Generator().manual_seed(self.loop.seed),
            )
        )


@dataclass(frozen=True, kw_only=True)
class GroundingTrainingConfig(GroundingRecipe):
    """A grounding adapter that is trained on the embedded world.

    Args:
        scenes: training scenes.
        variants: wordings of each caption.
    """

    scenes: int = 32768
    variants: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")


class GroundingTask:
    """A grounding adapter as a `Task` of the loop.

    Args:
        config: what and how.
        adapter: what is trained.
        base: {"unet", "text_encoder"}, frozen here.
        noising: the base's schedule.
        train: scenes and what is where in them.
        held: held-out ones.
        recompute: blocks of the network are called again in the backward pass: less memory.
        at_once: how many held-out scenes the network can take in one call; None is all.
        draw_sheet: draws pictures with the adapter into a folder, if pictures are wanted.
    """

    def __init__(
        self,
        config: GroundingRecipe,
        adapter: GroundingAdapter,
        base: nn.ModuleDict,
        noising: Noising,
        train: Placed,
        held: Placed,
        recompute: bool = False,
        at_once: int | None = None,
        draw_sheet: Callable[[GroundingAdapter, Path], None] | None = None,
    ) -> None:
        self.config, self.adapter, self.noising = config, adapter, noising
        self.train, self.held = train, held
        self.recompute, self.at_once, self._draw_sheet = recompute, at_once, draw_sheet
        self.device = noising.alpha.device
        self.unet, self.text_encoder = frozen(base)

    def trained(self) -> nn.Module:
        """The adapter."""
        return self.adapter

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Errors of a part of a random batch."""
        count, data, config = part.count, self.train, self.config
        weights = data.weights(config.method)
        rows = torch.multinomial(weights, count, replacement=True, generator=generator)
        fate = torch.rand(count, generator=generator, device=self.device)
        silent = fate < config.nothing + config.both
        wordless = (fate >= config.nothing) & (fate < config.nothing + config.both + config.drop)
        tokens = data.pictures.captions.drawn(rows, wordless, generator)
        index = self.times(count, generator)
        told = things.draw(data, config, rows, silent, generator)
        noise = self._noise(count, generator)
        told = told.of(part)
        inputs = things.inputs_of(data, config.method, told)
        x0 = data.pictures.at(told.rows)
        return self.errors(x0, part.of(tokens), part.of(index), part.of(noise), inputs)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) model indices: `early` of them uniform above `EARLY`, the others everywhere."""
        index, total = self.noising.spread(count, generator), len(self.noising)
        early = torch.rand(count, generator=generator, device=self.device) < self.config.early
        least = int(EARLY * total)
        return torch.where(early, least + index * (total - least) // total, index)

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (count, *self.train.pictures.latents.shape[1:])
        return torch.randn(shape, generator=generator, device=self.device)

    def errors(
        self, x0: Tensor, tokens: Tensor, index: Tensor, noise: Tensor, inputs: Inputs | None
    ) -> Tensor:
        """(B,) squared errors of what the base predicts.

        Args:
            x0: (B, C, h, w), clean latents.
            tokens: (B, 77), of the prompts.
            index: (B,), model indices.
            noise: as `x0`.
            inputs: what the adapter is told; None leaves it out.

        Returns:
            The errors.
        """
        noisy, target = self.noising.noised(x0, index, noise)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        # a network in half precision is told its words in the text encoder's own
        half = self.unet.dtype != torch.float32
        plain = torch.autocast(self.device.type, enabled=False) if half else nullcontext()
        with torch.no_grad(), plain:
            hidden = self.text_encoder(tokens).last_hidden_state
        with ExitStack() as stack:
            stack.enter_context(own_precision(self.unet))
            # blocks that are called again are not to be changed by then
            stack.enter_context((recomputed if self.recompute else quick_norms)(self.unet))
            if inputs is not None:
                stack.enter_context(Attachment(self.unet, self.adapter, inputs).active())
            return squared_error(self.unet(noisy, index, hidden).sample, target)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Held-out errors with and without the adapter, of the same noise.

        What is told is all of each scene, in colour. `gain_at_t` is the share of the error at time
        t that the adapter takes away; MIGC's at times below `EARLY` is of no use of it.
        """
        count = min(96, len(self.held))
        rows, generator = torch.arange(count, device=self.device), stream(0, 0, self.device)
        index, noise = self.noising.scored(rows), self._noise(count, generator)
        everything = replace(self.config, some=0.0, colored=1.0)
        silent = torch.zeros(count, dtype=torch.bool, device=self.device)
        told = things.draw(self.held, everything, rows, silent, generator)
        pictures = self.held.pictures
        tokens = pictures.captions.table[rows, 0].long()
        found: list[list[Tensor]] = [[], []]
        for part in parts_of(count, self.at_once):
            mine = told.of(part)
            inputs = things.inputs_of(self.held, self.config.method, mine)
            drawn = part.of(tokens), part.of(index), part.of(noise)
            for errors, each in zip(found, (inputs, None), strict=True):
                errors.append(self.errors(pictures.at(mine.rows), *drawn, each))
        given, without = (torch.cat(errors) for errors in found)
        kind = self.noising.schedule.prediction_type
        scores = {f"{kind}_error": given.mean(), f"{kind}_error_without": without.mean()}
        for turn, t in enumerate(SCORED[:count]):
            mine = slice(turn, None, len(SCORED))
            scores[f"gain_at_{t}"] = 1 - given[mine].mean() / without[mine].mean()
        return {name: float(value) for name, value in scores.items()}

    def show(self, folder: Path) -> None:
        """Pictures with the adapter as it is, where they are wanted; else the scores tell."""
        if self._draw_sheet is not None:
            self._draw_sheet(self.adapter, folder)
