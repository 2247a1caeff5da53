"""All operators by name, as a command line writes them: a name, then options after colons.

    sr4    blur:3    motion:9:45    inpaint-box:0.25:0.25:0.75:0.75    hadamard:0.25    jpeg:20

An option that is left out or empty has its default. A mask of one's own is no text: see
`masking.Mask`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unicond.operators.base import Operator, check_shape
from unicond.operators.blurring import gaussian_blur, motion_blur
from unicond.operators.colours import LUMA, Grey
from unicond.operators.denoising import Identity
from unicond.operators.jpeg import JPEG
from unicond.operators.masking import Mask, box, free_form, random_pixels
from unicond.operators.phase import FourierMagnitude
from unicond.operators.quantisation import Quantisation
from unicond.operators.resizing import METHODS, super_resolution
from unicond.operators.sensing import WalshHadamard

Shape = tuple[int, int, int]
Value = float | int | str


@dataclass(frozen=True)
class Option:
    """One option of an operator.

    Args:
        name: in messages.
        default: its value if it is left out; options are read as what their default is.
        choices: what a text can be.
    """

    name: str
    default: Value
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Value:
        """The value that a text stands for.

        Args:
            text: what was typed.

        Returns:
            A number, or one of the choices.

        Raises:
            ValueError: it stands for none.
        """
        if self.choices:
            if text in self.choices:
                return text
            raise ValueError(f"{self.name} is one of {', '.join(self.choices)}, not {text!r}")
        whole = isinstance(self.default, int)
        try:
            return int(text) if whole else float(text)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"{self.name} is {kind}, not {text!r}") from None


@dataclass(frozen=True)
class Entry:
    """One operator of the registry.

    Args:
        make: makes it from (C, H, W) and a value for each option.
        about: what is measured, in a few words.
        linear: whether it has an adjoint, a pseudo-inverse and a decomposition.
        options: in the order in which they are written.
    """

    make: Callable[..., Operator]
    about: str
    linear: bool = True
    options: tuple[Option, ...] = ()

    def usage(self, name: str) -> str:
        """How it is written, with the defaults.

        Args:
            name: its key in the registry.

        Returns:
            For example `motion[:LENGTH=9[:ANGLE=0]]`.
        """
        parts = [f"[:{option.name.upper()}={option.default}" for option in self.options]
        return name + "".join(parts) + "]" * len(parts)


def _inpaint_box(shape: Shape, left: float, top: float, right: float, bottom: float) -> Operator:
    return Mask(shape=shape, known=box(shape, left, top, right, bottom))


def _inpaint_free(shape: Shape, share: float, seed: int) -> Operator:
    return Mask(shape=shape, known=free_form(shape, share, seed))


def _inpaint_random(shape: Shape, share: float, seed: int) -> Operator:
    return Mask(shape=shape, known=random_pixels(shape, share, seed))


def _smaller(factor: int) -> Callable[[Shape, str], Operator]:
    return lambda shape, method: super_resolution(shape, factor, method)


def _grey(shape: Shape, weights: str) -> Operator:
    return Grey(shape=shape, weights=LUMA if weights == "luma" else ())


def _sensing(shape: Shape, ratio: float, seed: int) -> Operator:
    return WalshHadamard(shape=shape, ratio=ratio, seed=seed)


_METHOD = (Option("method", "average", METHODS),)
_SEED = Option("seed", 0)

OPERATORS: dict[str, Entry] = {
    "denoise": Entry(lambda shape: Identity(shape=shape), "the picture itself, but for the noise"),
    "inpaint-box": Entry(
        _inpaint_box,
        "all but a box, in shares of the width and height",
        options=(
            Option("left", 0.25),
            Option("top", 0.25),
            Option("right", 0.75),
            Option("bottom", 0.75),
        ),
    ),
    "inpaint-free": Entry(
        _inpaint_free,
        "all but random brush strokes, which hide a share",
        options=(Option("share", 0.3), _SEED),
    ),
    "inpaint-random": Entry(
        _inpaint_random,
        "all but a share of the pixels, at random",
        options=(Option("share", 0.7), _SEED),
    ),
    "sr2": Entry(_smaller(2), "half the size", options=_METHOD),
    "sr4": Entry(_smaller(4), "a quarter of the size", options=_METHOD),
    "sr8": Entry(_smaller(8), "an eighth of the size", options=_METHOD),
    "blur": Entry(gaussian_blur, "blurred by a Gaussian", options=(Option("std", 3.0),)),
    "motion": Entry(
        motion_blur,
        "blurred along a line, in pixels and degrees",
        options=(Option("length", 9.0), Option("angle", 0.0)),
    ),
    "colorize": Entry(
        _grey, "the picture in grey", options=(Option("weights", "mean", ("mean", "luma")),)
    ),
    "hadamard": Entry(
        _sensing,
        "a share of the Walsh-Hadamard coordinates of the shuffled picture",
        options=(Option("ratio", 0.25), _SEED),
    ),
    "jpeg": Entry(
        lambda shape, quality: JPEG(shape=shape, quality=quality),
        "the picture after JPEG compression",
        linear=False,
        options=(Option("quality", 20),),
    ),
    "quantize": Entry(
        lambda shape, levels: Quantisation(shape=shape, levels=levels),
        "the picture in a few values a channel",
        linear=False,
        options=(Option("levels", 4),),
    ),
    "phase": Entry(
        lambda shape, oversampling: FourierMagnitude(shape=shape, oversampling=oversampling),
        "the magnitude of the Fourier transform, in a frame of zeros",
        linear=False,
        options=(Option("oversampling", 2),),
    ),
}
"""{name: how it is made}; `usage` says how it is written."""


def usages() -> list[str]:
    """How each operator is written, with the defaults of its options."""
    return [entry.usage(name) for name, entry in OPERATORS.items()]


def make_operator(text: str, shape: Shape) -> Operator:
    """Make an operator.

    Args:
        text: a name of `OPERATORS`, then options after colons.
        shape: (C, H, W) of the pictures that it is for.

    Returns:
        The operator.

    Raises:
        ValueError: an unknown name, options that are not understood or out of range, or an operator
            that does not fit such pictures.

    >>> make_operator("sr4:bicubic", (3, 64, 64)).measurement_shape
    (3, 16, 16)
    """
    check_shape(shape)
    name, *given = text.split(":")
    entry = OPERATORS.get(name)
    if entry is None:
        raise ValueError(f"there is no operator {name!r}; choose of {', '.join(usages())}")
    if len(given) > len(entry.options):
        raise ValueError(f"{text!r} has too many options; write {entry.usage(name)}")
    try:
        texts = [*given, *[""] * (len(entry.options) - len(given))]
        values = [
            option.read(text) if text else option.default
            for option, text in zip(entry.options, texts, strict=True)
        ]
        return entry.make(tuple(shape), *values)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error} (written {entry.usage(name)})") from None
