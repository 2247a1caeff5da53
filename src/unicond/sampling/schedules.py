"""Noise schedules: `alpha(t)`, `sigma(t)` of `latents = alpha * x0 + sigma * eps`, t in [0, 1].

Time 0 is exactly clean (`sigma = 0`), time 1 the noisiest. A model that was trained on T discrete
steps sees model index k at `t = (k + 1) / T`; between indices `sigma / alpha` is interpolated
linearly, and below the first index it falls linearly to 0. Everything is float64; nothing here
holds state.

Source: DDPM, arXiv:2006.11239; zero terminal SNR, Lin et al. 2023, arXiv:2305.08891, algorithm 1;
flow matching, arXiv:2210.02747. Parity: diffusers' DDIM, Euler, DPM++ and FlowMatchEuler
schedulers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

PredictionType = Literal["eps", "x0", "v", "flow"]
Spacing = Literal["leading", "linspace", "trailing"]
Array = NDArray[np.float64]

_PREDICTION_NAMES: Mapping[str, PredictionType] = {
    "epsilon": "eps",
    "sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "flow",
}


class NoiseSchedule(Protocol):
    """What solvers, plans and mechanisms need to know about a model's noise."""

    @property
    def prediction_type(self) -> PredictionType:
        """What the network's output means."""
        ...

    def alpha(self, t: float) -> float:
        """Scale of the signal at time t in [0, 1]."""
        ...

    def sigma(self, t: float) -> float:
        """Scale of the noise at time t in [0, 1]; exactly 0 at t = 0."""
        ...

    def index(self, t: float) -> float:
        """The timestep that the network is fed at time t."""
        ...

    def times(self, num_inference_steps: int, spacing: Spacing | None = None) -> tuple[float, ...]:
        """Descending times of the network calls, without the clean end."""
        ...


@dataclass(frozen=True)
class DiscreteSchedule:
    """A variance-preserving schedule of T discrete steps: `alpha^2 + sigma^2 = 1`.

    Args:
        alphas_cumprod: `alpha^2` at model indices 0..T-1, float64, decreasing; the last may be 0.
        prediction_type: what the network's output means.
        spacing: default spacing of `times`.
        steps_offset: what `leading` spacing adds to every index (diffusers' field of that name).
    """

    alphas_cumprod: tuple[float, ...]
    prediction_type: PredictionType = "eps"
    spacing: Spacing = "leading"
    steps_offset: int = 0

    def __post_init__(self) -> None:
        if len(self.alphas_cumprod) < 2:
            raise ValueError(f"a schedule needs at least 2 steps, got {len(self.alphas_cumprod)}")
        if self.alphas_cumprod[-1] == 0 and self.prediction_type == "eps":
            raise ValueError(
                "zero terminal SNR and prediction_type 'eps' contradict each other: pure noise "
                "says nothing "
                "about x0; train with 'v' or 'x0', or keep rescale_betas_zero_snr off"
            )

    def _ratio(self, index: float) -> float:
        """`sigma / alpha` at a fractional model index in [-1, T - 1]; inf at zero terminal SNR."""
        if index <= 0:
            return max(index + 1, 0.0) * self._ratio_at(0)
        low = min(int(index), len(self.alphas_cumprod) - 2)
        share = index - low
        first, second = self._ratio_at(low), self._ratio_at(low + 1)
        if share == 0:
            return first
        if math.isinf(second):  # towards zero SNR the inverse ratio is the finite one
            return math.inf if share == 1 else first / (1 - share)
        return first + share * (second - first)

    def _ratio_at(self, index: int) -> float:
        power = self.alphas_cumprod[index]
        return math.sqrt((1 - power) / power) if power > 0 else math.inf

    def alpha(self, t: float) -> float:
        """Scale of the signal at time t in [0, 1]."""
        ratio = self._ratio(self._position(t))
        return 0.0 if math.isinf(ratio) else 1 / math.sqrt(1 + ratio * ratio)

    def sigma(self, t: float) -> float:
        """Scale of the noise at time t in [0, 1]; exactly 0 at t = 0."""
        ratio = self._ratio(self._position(t))
        return 1.0 if math.isinf(ratio) else ratio / math.sqrt(1 + ratio * ratio)

    def _position(self, t: float) -> float:
        """The model index of time t, unclipped; whole numbers are hit in spite of rounding."""
        _check_time(t)
        position = t * len(self.alphas_cumprod) - 1
        nearest = round(position)
        return float(nearest) if abs(position - nearest) < 1e-9 else position

    def index(self, t: float) -> float:
        """Fractional model index in [0, T - 1]; a clean branch is fed index 0."""
        return max(self._position(t), 0.0)

    def time(self, index: float) -> float:
        """Time of a model index, `t = (index + 1) / T`: the inverse of `index` above 0."""
        return (index + 1) / len(self.alphas_cumprod)

    def times(self, num_inference_steps: int, spacing: Spacing | None = None) -> tuple[float, ...]:
        """Descending times of `num_inference_steps` network calls, without the clean end."""
        count, total = _check_steps(num_inference_steps), len(self.alphas_cumprod)
        spacing = _check_spacing(spacing or self.spacing)
        steps = np.arange(count, dtype=np.float64)
        if count > total:
            raise ValueError(
                f"{count} steps were asked of a model with {total}; use at most {total}"
            )
        if spacing == "leading":
            indices = steps[::-1] * (total // count) + self.steps_offset
        elif spacing == "linspace":
            indices = np.linspace(0, total - 1, count)[::-1]
        else:
            indices = np.round(total - steps * (total / count)) - 1
        return tuple(self.time(float(index)) for index in np.minimum(indices, total - 1))


@dataclass(frozen=True)
class FlowSchedule:
    """Flow matching: `alpha = 1 - t`, `sigma = t`; the network is fed `t * T`.

    Args:
        shift: moves the times of the calls towards noise, `t' = shift t / (1 + (shift - 1) t)`.
        num_train_timesteps: T.
    """

    shift: float = 1.0
    num_train_timesteps: int = 1000
    prediction_type: PredictionType = "flow"

    def alpha(self, t: float) -> float:
        """Scale of the signal at time t in [0, 1]."""
        return 1.0 - _check_time(t)

    def sigma(self, t: float) -> float:
        """Scale of the noise at time t in [0, 1]."""
        return _check_time(t)

    def index(self, t: float) -> float:
        """The timestep that the network is fed at time t, in [0, T]."""
        return _check_time(t) * self.num_train_timesteps

    def times(self, num_inference_steps: int, spacing: Spacing | None = None) -> tuple[float, ...]:
        """Descending shifted times from 1; `trailing` (default) or `linspace` down to 1 / T."""
        count = _check_steps(num_inference_steps)
        if _check_spacing(spacing or "trailing") == "leading":
            raise ValueError(
                "flow models start at pure noise: use spacing 'trailing' or 'linspace', not "
                "'leading'"
            )
        end = 1 / count if spacing in (None, "trailing") else 1 / self.num_train_timesteps
        times = np.linspace(1.0, end, count)
        return tuple(float(t) for t in self.shift * times / (1 + (self.shift - 1) * times))


def from_config(config: Mapping[str, object]) -> DiscreteSchedule | FlowSchedule:
    """The schedule that a diffusers scheduler config describes.

    Args:
        config: the content of `scheduler_config.json`.

    Returns:
        A `FlowSchedule` for flow-matching classes, else a `DiscreteSchedule`.

    Raises:
        ValueError: unknown `beta_schedule` or `prediction_type`.
    """
    total = int(cast(int, config.get("num_train_timesteps", 1000)))
    if "FlowMatch" in str(config.get("_class_name", "")):
        return FlowSchedule(float(cast(float, config.get("shift", 1.0))), total)
    name = str(config.get("prediction_type") or "epsilon")
    if name not in _PREDICTION_NAMES:
        raise ValueError(f"prediction_type {name!r} is not one of {sorted(_PREDICTION_NAMES)}")
    powers: Array = np.cumprod(1 - _betas(config, total), dtype=np.float64)
    if config.get("rescale_betas_zero_snr"):
        powers = _zero_terminal_snr(powers)
    return DiscreteSchedule(
        alphas_cumprod=tuple(float(power) for power in powers),
        prediction_type=_PREDICTION_NAMES[name],
        spacing=_check_spacing(str(config.get("timestep_spacing") or "leading")),
        steps_offset=int(cast(int, config.get("steps_offset") or 0)),
    )


def _betas(config: Mapping[str, object], total: int) -> Array:
    """`beta_k` of a diffusers config, float64 (T,)."""
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], dtype=np.float64)
    start = float(cast(float, config.get("beta_start", 0.0001)))
    end = float(cast(float, config.get("beta_end", 0.02)))
    kind = str(config.get("beta_schedule", "linear"))
    if kind == "linear":
        return np.linspace(start, end, total)
    if kind == "scaled_linear":
        return np.linspace(math.sqrt(start), math.sqrt(end), total) ** 2
    if kind == "squaredcos_cap_v2":
        edges = np.cos((np.linspace(0, 1, total + 1) + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    raise ValueError(
        f"beta_schedule {kind!r} is not known; known: 'linear', 'scaled_linear', "
        f"'squaredcos_cap_v2', or trained_betas"
    )


def _zero_terminal_snr(powers: Array) -> Array:
    """Shift and scale `alpha`: the last is 0, the first stays (arXiv:2305.08891, alg. 1)."""
    alphas = np.sqrt(powers)
    return ((alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])) ** 2


def _check_time(t: float) -> float:
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"time {t} is outside [0, 1]: 0 is clean, 1 is pure noise")
    return t


def _check_steps(count: int) -> int:
    if count < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {count}")
    return count


def _check_spacing(spacing: str) -> Spacing:
    if spacing not in get_args(Spacing):
        raise ValueError(f"spacing {spacing!r} is not one of {get_args(Spacing)}")
    return cast(Spacing, spacing)
