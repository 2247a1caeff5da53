"""The choices of an aggregation as one thing: what is used where nothing is said, and the paper's.

    DEFAULT       for any schedule and any size of latents
    PAPER         as published with the paper's table 1, PAPER_STYLE with its figure 5,
                  PAPER_THREE with its figure 6

Callers name `default` or `paper`, and say what they want otherwise (`manner_of`, `Manner.but`).

Which moves are aggregated is told by their numbers, or by a `Place`: by how much the state already
says of the picture at the beginning of a move,

    signal = numel alpha(t)^2 / sigma(t)^2

of latents of `numel` values. The paper's first aggregated move, of 50 on Stable Diffusion 1.x, has
120; on a schedule that begins at pure noise, or with smaller latents, that is reached later.

Source: AMDM, arXiv:2410.01262.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Mix = Literal["slerp", "released", "lerp"]
"""How states become one; see `mixing`."""
Mean = Literal["posterior", "released"]
"""What each is pulled to; see `manifold`."""
Start = Literal["own", "shared", "joined"]
"""How all but the first begin: from their own noise, from the first one's, or, when the window
begins, from its state."""
MannerName = Literal["default", "paper"]
"""A manner that callers can name; see `manner_of`."""
STEP_SIZES = (45.0, 55.0)
"""Published p of the first model and of every further one."""


@dataclass(frozen=True)
class Place:
    """So many moves from the first one whose state says enough; written `MOVES@SIGNAL`.

    Of the default's, fewer where the plan ends; any other is then refused.

    Args:
        moves: how many, at least 1.
        signal: at the beginning of the first; 0 is the first that can be aggregated.

    Raises:
        ValueError: numbers out of range.
    """

    moves: int
    signal: float = 0.0

    def __post_init__(self) -> None:
        if self.moves < 1 or not self.signal >= 0:
            raise ValueError(f"the window {self} needs at least 1 move, and a signal from 0 on")

    def __str__(self) -> str:
        return f"{self.moves}@{self.signal:g}"


@dataclass(frozen=True)
class Manner:
    """How several models become one; see `aggregation.aggregate.Aggregate`.

    Args:
        mix: how states become one.
        mean: what each is pulled to; None leaves the mixed state to all.
        window: (first, behind the last) of the moves after which states are mixed, or their place.
        start: how all but the first begin; prepared calls bring their seeds, which have to agree.
        weights: one fewer than models; None is `mixing.even_weights`.
        step_sizes: how far each is pulled, for latents of 64 x 64; None is `STEP_SIZES`, and all
            that there is without a mean.
    """

    mix: Mix
    mean: Mean | None
    window: tuple[int, int] | Place
    start: Start
    weights: tuple[float, ...] | None = None
    step_sizes: tuple[float, ...] | None = None

    @property
    def written(self) -> str:
        """The window as the command line takes it."""
        if isinstance(self.window, Place):
            return str(self.window)
        return f"{self.window[0]}-{self.window[1] - 1}"

    def label(self) -> str:
        """All of it in words."""
        return " ".join(f"{name}={value}" for name, value in vars(self).items())

    def scaled(self, factor: float) -> "Manner":
        """The same, pulling a number of times as far."""
        sizes = STEP_SIZES if self.step_sizes is None else self.step_sizes
        return replace(self, step_sizes=tuple(factor * size for size in sizes))

    def lasting(self, moves: int) -> "Manner":
        """The same, from the same move on, for another number of moves."""
        if isinstance(self.window, Place):
            return replace(self, window=replace(self.window, moves=moves))
        return replace(self, window=(self.window[0], self.window[0] + moves))

    def among(self, models: int) -> "Manner":
        """The same for so many models: weights and step sizes of another number are left out."""
        weights, sizes = self.weights, self.step_sizes
        return replace(
            self,
            weights=weights if weights is None or len(weights) == models - 1 else None,
            step_sizes=sizes if sizes is None or len(sizes) == models else None,
        )

    def but(
        self,
        *,
        mix: Mix | None = None,
        mean: Mean | Literal["none"] | None = None,
        window: tuple[int, int] | Place | None = None,
        start: Start | None = None,
        weights: Sequence[float] | None = None,
        step_sizes: Sequence[float] | None = None,
    ) -> "Manner":
        """The same, but for what is said; the mean `"none"` is no mean, and pulls no distance."""
        sizes = None if mean == "none" else self.step_sizes
        return Manner(
            mix=self.mix if mix is None else mix,
            mean=self.mean if mean is None else None if mean == "none" else mean,
            window=self.window if window is None else window,
            start=self.start if start is None else start,
            weights=self.weights if weights is None else tuple(weights),
            step_sizes=sizes if step_sizes is None else tuple(step_sizes),
        )

    def pulling_to(self, mean: Mean | None) -> "Manner":
        """The same with another mean, and starts that it can be used with.

        A model that joins has said nothing before, which the released mean reuses; and its step
        goes nearly where the first one's goes, so that pulling it back to there undoes the mix.
        """
        start = "own" if mean is not None and mean != self.mean else self.start
        return replace(self, mean=mean, start=start)


WEIGHT = 0.2
"""Of the first of two models where no weights are given; published is 0.5 (`PAPER`), which gained
less (`docs/amdm.md`)."""
DEFAULT = Manner(mix="slerp", mean=None, window=Place(4), start="joined")
"""Of the Python API, the command line, the page, and `unicond table amdm`, whose part `sweep` found
that what is where is settled in the very first moves."""
PAPER = Manner(mix="released", mean="released", window=Place(3), start="own", weights=(0.5,))
"""Two models, as published; on Stable Diffusion 1.x the place is the moves 1, 2 and 3."""
PAPER_STYLE = replace(PAPER, weights=(0.45,))
PAPER_THREE = replace(PAPER, weights=(0.47, 0.5), step_sizes=(45.0, 40.0, 35.0))


def check_sizes(sizes: Sequence[float] | None, mean: Mean | None, models: int) -> None:
    """Raise ValueError where step sizes do not fit the models, or nothing is pulled."""
    if sizes is None:
        return
    if mean is None:
        raise ValueError(
            f"step sizes {tuple(sizes)} say how far models are pulled to a mean, but there is "
            "none: give mean posterior or released (--mean), or leave the step sizes out"
        )
    if len(sizes) != models or not all(size >= 0 for size in sizes):
        raise ValueError(
            f"{models} models need as many step sizes of at least 0, not {tuple(sizes)}"
        )


def manner_of(name: str, models: int, pictured: bool) -> Manner:
    """The manner of a name, for so many models.

    Args:
        name: `"default"` or `"paper"`.
        models: how many.
        pictured: whether one of them looks at a picture, for which the paper has another weight.

    Returns:
        The manner; what the paper does not say of so many models is left out.

    Raises:
        ValueError: there is no manner of that name.
    """
    if name not in get_args(MannerName):
        raise ValueError(f"manner is {name!r}; choose one of {', '.join(get_args(MannerName))}")
    if name == "default":
        return DEFAULT.among(models)
    if models == len(PAPER_THREE.step_sizes or ()):
        return PAPER_THREE
    return (PAPER_STYLE if pictured else PAPER).among(models)
