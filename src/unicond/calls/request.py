"""What a caller gives, made into tensors and settings: the whole of input checking before a run.

What is given conditions; what is left out is generated.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Literal

from unicond.mechanisms.guidance.gradients import AdamW
from unicond.mechanisms.known import check_scale
from unicond.pictures.checks import check_prompt, check_seed, is_one_prompt
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.depth import DepthKind
from unicond.pictures.fitting import Policy

Held = Literal["one_way", "two_way"]
Attention = Literal["global", "aligned"]
Sampling = Literal["unicond", "released"]
MOVES = "moves"
Weights = tuple[float, float]
Scale = float | Weights
Against = float | Mapping[str, Scale]


@dataclass(frozen=True, eq=False)
class Given:
    """A picture that conditions a run, wholly or in part.

    Args:
        picture: path, PIL image, array, or tensor (3, H, W) in [-1, 1]; or a list (or a tensor
            (B, 3, H, W)) of one a sample.
        mask: where it is known: 1 (white) known, 0 (black) free, soft values blend; a latent is
            known where at least half of its pixels are. Several pictures have one mask, and then
            the same proportions, unless they are stretched. None is everywhere.
        noise: time in [0, 1] up to which it is coarse. The branch starts there and is lowered; with
            a mask, the known part is replaced only while the branch is at `t >= noise`. None is
            exact, but for the little noise that the base's defaults put on an image to estimate
            from.
        hold: keep the branch at `noise` instead of lowering it.
        kind: how a depth file is to be read: `"near-white"`, `"near-black"` or `"metric"`.
        fit: how a picture of another aspect is brought to size: `"crop"`, `"pad"`,
            `"stretch"`, or `"keep"` (refuse). The image and maps of its view that are cropped or
            padded must have the same proportions.
        invert: the mask is white where to generate (other tools' inpainting files).
        threshold: makes the mask binary: known where it is at least this, after inverting; None
            keeps soft values.
        guide: the branch is generated, and guided towards the picture instead of conditioned on it
            (with a mask: towards its known part).

    Raises:
        ValueError: noise outside [0, 1], a mask or a guide on a branch that is held, a threshold
            outside (0, 1] or without a mask.
    """

    picture: Picture | Sequence[Picture]
    mask: Picture | None = None
    noise: float | None = None
    hold: bool = False
    kind: DepthKind = "near-white"
    fit: Policy = "crop"
    invert: bool = False
    threshold: float | None = None
    guide: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.level <= 1.0:
            raise ValueError(
                f"noise {self.noise} is outside [0, 1]: 0 gives the picture exactly, 1 nothing of "
                f"it"
            )
        if self.mask is not None and self.hold:
            raise ValueError(
                "a held branch does not move, so that a mask on it frees nothing: drop hold or mask"
            )
        if self.guide and (self.hold or self.noise is not None):
            raise ValueError(
                "a branch that is guided to a picture is generated from pure noise: drop guide, or "
                "drop noise and hold"
            )
        if self.threshold is not None and not (self.mask is not None and 0 < self.threshold <= 1):
            raise ValueError(
                f"threshold {self.threshold} makes a mask binary: give it in (0, 1], with a mask"
            )

    @property
    def fixed(self) -> bool:
        """Whether the branch does not move at all."""
        return self.mask is None and not self.guide and (self.level == 0 or self.hold)

    @property
    def in_part(self) -> bool:
        """Whether the branch is generated where a mask leaves it free."""
        return self.mask is not None and not self.guide

    @property
    def start(self) -> float:
        """The time at which the branch starts."""
        return 1.0 if self.mask is not None or self.guide else self.level

    @property
    def level(self) -> float:
        """`noise`, as a number."""
        return 0.0 if self.noise is None else self.noise

    def at(self, noise: float) -> "Given":
        """The same, kept at a noise level."""
        return replace(self, noise=noise, hold=noise > 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """A picture that walks beside the image, as a branch of its own: an edit's source, a style.

    Args:
        prompt: what it shows, or one a sample.
        picture: as `Given.picture`; None is a picture that is generated, too.
        fit: as `Given.fit`.
    """

    prompt: str | Sequence[str] = ""
    picture: Picture | Sequence[Picture] | None = None
    fit: Policy = "crop"


def conditions_of(
    pictures: Mapping[str, Picture | Sequence[Picture] | Given],
    references: Mapping[str, Reference],
) -> dict[str, Given]:
    """Every picture of a call, and how it is given.

    Args:
        pictures: {branch: picture}.
        references: {branch: picture beside the image}; some may be generated.

    Returns:
        {branch: how it is given}.
    """
    given = {b: p if isinstance(p, Given) else Given(p) for b, p in pictures.items()}
    beside = {
        b: Given(one.picture, fit=one.fit)
        for b, one in references.items()
        if one.picture is not None
    }
    return given | beside


def makes(branch: str, conditions: Mapping[str, Given]) -> bool:
    """Whether a run that follows from what is given generates a branch."""
    return branch not in conditions or not conditions[branch].fixed


def one_a_sample(prompt: str | Sequence[str], count: int) -> tuple[str, ...]:
    """The prompt of every sample.

    Args:
        prompt: one, or one a sample.
        count: of samples.

    Returns:
        `count` prompts.

    Raises:
        ValueError: a list of another length than the batch, or a prompt that is no text or too
            long.
    """
    prompts = (prompt,) * count if is_one_prompt(prompt) else tuple(prompt)
    if len(prompts) != count:
        raise ValueError(
            f"{len(prompts)} prompts were given for {count} samples; give one, or {count}"
        )
    return tuple(check_prompt(text) for text in prompts)


def finite(name: str, value: float | None, default: float) -> float:
    """A scale, or its default.

    Args:
        name: of the argument, for the message.
        value: what the caller gives, or None.
        default: in its place.

    Returns:
        A number.

    Raises:
        ValueError: it is infinite, or no number.
    """
    found = default if value is None else float(value)
    if not math.isfinite(found):
        raise ValueError(f"{name} is {value}; give a finite number")
    return found


def scales_of(
    scales: Mapping[str, Scale], branches: Sequence[str], name: str = "conditioning_scale"
) -> dict[str, Scale]:
    """The weights of formula (8) that a caller gives, checked.

    Args:
        scales: {branch: one number for both, or (w_x, w_y)}.
        branches: the condition branches of the run.
        name: of the argument, for messages.

    Returns:
        The same, as floats.

    Raises:
        ValueError: a branch that is not a condition of this run.
    """
    for branch in scales:
        if branch not in branches:
            raise ValueError(
                f"{name} names {branch!r}; the conditions of this run are "
                f"{', '.join(branches) or 'none'}"
            )
    found = {b: float(s) if isinstance(s, int | float) else _pair(s) for b, s in scales.items()}
    for branch, scale in found.items():
        for weight in weights_of(scale):
            finite(f"{name} of {branch!r}", weight, 1.0)
    return found


def against_of(against: Against, branches: Sequence[str]) -> Against:
    """What condition guidance moves away from, checked (see `scales_of`).

    Args:
        against: a share of all weights, or {branch: its weights}.
        branches: the condition branches of the run.

    Returns:
        The same, as floats.
    """
    name = "condition_guidance_against"
    if isinstance(against, Mapping):
        return scales_of(against, branches, name)
    return finite(name, against, 0.0)


def weights_of(scale: Scale) -> Weights:
    """`(w_x, w_y)` of a scale: one number is both."""
    return (scale, scale) if isinstance(scale, int | float) else scale


def _pair(weights: Weights) -> Weights:
    x, y = weights
    return float(x), float(y)


def guidance_weights(
    weight: float | Mapping[str, float] | None,
    optimizer: AdamW | None,
    conditions: Mapping[str, Given],
) -> dict[str, float]:
    """The weight of reconstruction guidance for every branch that something is known of.

    Args:
        weight: one for all, or {branch: its own}; what is left out is 1.0 for a branch that is only
            guided or with an optimiser, else 0.0 (replacement alone).
        optimizer: in the place of a fixed weight.
        conditions: {branch: how it is given}.

    Returns:
        {branch with a mask or a guide: its weight, 0.0 is off}.

    Raises:
        ValueError: guidance where nothing is known, or a weight below 0.
    """
    known = {b: g for b, g in conditions.items() if g.guide or g.mask is not None}
    wanted = weight if isinstance(weight, Mapping) else dict.fromkeys(known, weight)
    for branch in wanted.keys() - known.keys():
        how = "is given whole and held" if branch in conditions else "is not given"
        raise ValueError(
            f"reconstruction_weight names {branch!r}, which {how}: there is no part to guide from. "
            f"Give {branch}=given(picture, mask=...), or guide=True to guide to all of it"
        )
    asked = optimizer is not None or (not isinstance(weight, Mapping) and weight not in (None, 0))
    if asked and not known:
        raise ValueError(
            "reconstruction guidance is asked for, but nothing is known in part: give a picture "
            "with a mask, or with guide=True"
        )
    found: dict[str, float] = {}
    for branch, one in known.items():
        number, usual = wanted.get(branch), 1.0 if one.guide or optimizer is not None else 0.0
        found[branch] = usual if number is None else float(number)
        check_scale(found[branch], f"reconstruction_weight of {branch!r}")
    return found


def seeds_of(
    seed: int | Sequence[int], count: int | None, lists: Mapping[str, int]
) -> tuple[int, ...]:
    """The seeds of a run, one a sample.

    Args:
        seed: one, or one a sample.
        count: how many samples; None follows the other arguments.
        lists: {argument: its length} of the arguments that may be given one a sample.

    Returns:
        One seed a sample; a single seed counts up.

    Raises:
        ValueError: the arguments ask for different numbers of samples.
    """
    asked = {name: length for name, length in lists.items() if length != 1}
    if not isinstance(seed, Sized) or isinstance(seed, str):
        seed = check_seed(seed)  # pyright: ignore[reportArgumentType] (whoever gives a text is told)
    else:
        asked["seed"] = len(seed)
    if count is not None:
        asked["count"] = count
    if len(set(asked.values())) > 1:
        raise ValueError(f"the arguments ask for different numbers of samples: {asked}")
    number = next(iter(asked.values()), 1)
    if number < 1:
        raise ValueError(f"{next(iter(asked))} asks for {number} samples; it must be at least 1")
    seeds = range(seed, seed + number) if isinstance(seed, int) else seed
    return tuple(check_seed(each) for each in seeds)
