"""What is known of a picture that is looked for: a measurement, and how noisy it is.

    y = A x + n,    n ~ N(0, noise_std^2)

Restoration methods are defined on pictures. Where latents are pictures (`Pixels`) they are exact;
on a latent model (`Decoded`) A acts on decoded pictures, so that what follows is approximate: a
gradient runs through the decoder, and a picture that was changed is encoded again,

    x0' = x0 + E(x') - E(D(x0))

which keeps x0 where x' = D(x0), however lossy the autoencoder is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, TypeGuard, cast

from torch import Tensor, nn
from typing_extensions import override

from unicond.sampling.predictions import Predictions
from unicond.sampling.state import State

Shape = tuple[int, int, int]


class Operator(Protocol):
    """What mechanisms need of any measurement: those of `unicond.operators` have it.

    `linear` says whether it is a `LinearOperator`.
    """

    linear: ClassVar[bool]

    @property
    def shape(self) -> Shape:
        """(C, H, W) of the pictures that it takes."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Measurements (B, ...) of pictures (B, C, H, W); differentiable."""
        ...

    def check_measurement(self, y: Tensor) -> Tensor:
        """The same (B, ...), or ValueError where no such operator made them."""
        ...


class LinearOperator(Operator, Protocol):
    """What mechanisms need of `A = U S V^T`; coordinates are n = C * H * W."""

    @property
    def singulars(self) -> Tensor:
        """(n,), the diagonal of S, zeros included."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """`A^+ y`, (B, C, H, W)."""
        ...

    def to_spectral(self, x: Tensor) -> Tensor:
        """`V^T x`, (B, n)."""
        ...

    def from_spectral(self, z: Tensor) -> Tensor:
        """`V z`, (B, C, H, W)."""
        ...

    def measurement_to_spectral(self, y: Tensor) -> Tensor:
        """`U^T y`, (B, n), 0 where the singular value is."""
        ...


class Autoencoding(Protocol):
    """What is needed of a latent model; every backbone has it."""

    @property
    def vae(self) -> nn.Module | None:
        """A diffusers autoencoder, frozen; None of a pixel model."""
        ...

    @property
    def factor(self) -> int:
        """Pixels a latent, along one side."""
        ...

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, C, h, w) of pictures (B, 3, H, W)."""
        ...


class Space(Protocol):
    """How latents and the pictures that were measured belong together."""

    def shape(self, latents: Tensor) -> Shape:
        """(C, H, W) of the pictures of latents (B, C, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, C, H, W) of clean latents (B, C, h, w); differentiable, not clipped."""
        ...

    def changed(self, latents: Tensor, picture: Tensor, wanted: Tensor) -> Tensor:
        """Clean latents of the picture `wanted`, where `picture` is that of `latents`."""
        ...


@dataclass(frozen=True)
class Pixels(Space):
    """Latents are pictures: pixel models."""

    @override
    def shape(self, latents: Tensor) -> Shape:
        _, channels, height, width = latents.shape
        return channels, height, width

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return latents

    @override
    def changed(self, latents: Tensor, picture: Tensor, wanted: Tensor) -> Tensor:
        return wanted


@dataclass(frozen=True, eq=False)
class Decoded(Space):
    """Latents of an autoencoder: one decoding, and two encodings for a changed picture.

    Args:
        backbone: whose autoencoder it is; `model.backbone`.

    Raises:
        ValueError: it has none.
    """

    backbone: Autoencoding

    def __post_init__(self) -> None:
        if self.backbone.vae is None:
            raise ValueError("a pixel model has no latents to decode: use Pixels(), or space_of()")

    @override
    def shape(self, latents: Tensor) -> Shape:
        _, _, height, width = latents.shape
        return 3, height * self.backbone.factor, width * self.backbone.factor

    @override
    def decode(self, latents: Tensor) -> Tensor:
        # Backbone.decode clips and takes no gradient: both are for pictures that are shown
        vae = self.backbone.vae
        assert vae is not None
        config = cast(Mapping[str, float | None], vae.config)
        raw = latents.to(next(vae.parameters()).dtype) / cast(float, config["scaling_factor"])
        decoded = cast(_Decoding, vae).decode(raw + (config.get("shift_factor") or 0.0))
        return decoded.sample.to(latents.dtype)

    @override
    def changed(self, latents: Tensor, picture: Tensor, wanted: Tensor) -> Tensor:
        encode = self.backbone.encode
        return latents + (encode(wanted) - encode(picture)).to(latents)


def space_of(backbone: Autoencoding) -> Space:
    """The space that a base's measurements are taken in: `Pixels` or `Decoded`."""
    return Pixels() if backbone.vae is None else Decoded(backbone)


class _Decoded(Protocol):
    sample: Tensor


class _Decoding(Protocol):
    def decode(self, z: Tensor) -> _Decoded: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """What was measured of one branch.

    Args:
        operator: A, one of `unicond.operators`.
        values: y, (B or 1, ...), what the operator made.
        noise_std: standard deviation of the noise in y, in the units of y; 0.0 is exact. It is
            never guessed.
        space: `Pixels()`, or `Decoded(backbone)` for a latent model.

    Raises:
        ValueError: no noise level, or values that are none of this operator's.
    """

    operator: Operator
    values: Tensor
    noise_std: float
    space: Space = field(default_factory=Pixels)

    def __post_init__(self) -> None:
        given = cast(float | None, self.noise_std)
        if given is None or not 0 <= given < math.inf:
            raise ValueError(
                f"noise_std is {given}: say how noisy the measurement is, as the standard "
                "deviation of its noise on pictures in [-1, 1]; 0.0 where it is exact"
            )
        self.operator.check_measurement(self.values)

    def linear(self, method: str) -> LinearOperator:
        """The operator, for a method that needs its decomposition.

        Args:
            method: its name, for the message.

        Returns:
            The same operator.

        Raises:
            ValueError: it is not linear.
        """
        operator = self.operator
        if not _is_linear(operator):
            raise ValueError(
                f"{method} needs the singular values of a linear operator, and "
                f"{type(operator).__name__} is not linear; DPS takes it (any operator with a "
                "gradient); DDNM, DDRM, PiGDM, MCG and CCDF do not"
            )
        return operator

    def check(self, state: State, branch: str) -> State:
        """Raise unless the measurement fits a branch of a run.

        Args:
            state: at its beginning.
            branch: what was measured.

        Returns:
            The same state.

        Raises:
            ValueError: no such branch, or pictures of another size or number.
        """
        if branch not in state.latents:
            raise ValueError(
                f"{branch!r} was measured, but the branches of this run are "
                f"{', '.join(state.latents)}"
            )
        latents = state.latents[branch]
        shape = self.space.shape(latents)
        if shape != self.operator.shape:
            raise ValueError(
                f"the operator {type(self.operator).__name__} is for pictures of "
                f"{self.operator.shape}, but those of {branch!r} are {shape} "
                f"({type(self.space).__name__}); make the operator for this size (a latent model "
                "needs space=Decoded(backbone))"
            )
        if len(self.values) not in (1, len(latents)):
            raise ValueError(
                f"{len(self.values)} measurements were given for {len(latents)} samples of "
                f"{branch!r}; give one, or one a sample"
            )
        return state

    def of(self, like: Tensor) -> Tensor:
        """y, one a sample: (B, ...) of the dtype and device of `like` (B, C, H, W)."""
        return self.values.to(like).expand(len(like), *self.values.shape[1:])

    def gap(self, picture: Tensor) -> Tensor:
        """`y - A picture`, (B, ...), of pictures (B, C, H, W)."""
        return self.of(picture) - self.operator.forward(picture)

    def projected(self, state: State, predictions: Predictions, branch: str) -> State:
        """Put the measured part in place, at the noise level of the state.

            x' = (I - A^+ A) x + A^+ (alpha y + sigma A z)

        Noisy latents cannot be decoded: on a latent model the change of the predicted clean picture
        is taken instead, `x' = x + alpha (x0' - x0)` with `x0' = (I - A^+ A) x0 + A^+ y`.

        Args:
            state: after the step.
            predictions: of the step; without any, noisy latents of a latent model are left alone.
            branch: what was measured.

        Returns:
            The state with that branch changed.
        """
        operator, (alpha, sigma) = self.linear("a projection"), state.scales(branch)
        latents = state.latents[branch]
        if isinstance(self.space, Pixels):
            wanted = alpha * self.of(latents)
            if sigma > 0:
                wanted = wanted + sigma * operator.forward(state.noise.draw(branch, latents))
            mended = latents + operator.pinv(wanted - operator.forward(latents))
        elif branch in predictions:
            x0 = predictions[branch].x0
            picture = self.space.decode(x0)
            closer = picture + operator.pinv(self.gap(picture))
            mended = latents + alpha * (self.space.changed(x0, picture, closer) - x0)
        else:
            return state
        return replace(state, latents={**state.latents, branch: mended})


def _is_linear(operator: Operator) -> TypeGuard[LinearOperator]:
    return operator.linear
