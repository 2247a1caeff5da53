"""What the tests of restoration stand on: a dense operator, exact denoisers, and short runs."""

import math

import torch

from unicond.denoisers.exact import PixelGaussian
from unicond.mechanisms.measurement import Measurement
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.solvers import named
from unicond.sampling.state import State

VP = schedules.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
)
FLOW = schedules.FlowSchedule()
SHAPE = (1, 2, 3)
N = math.prod(SHAPE)
MEAN = torch.tensor([0.5, -0.3, 0.2, 0.8, -0.6, 0.1]).double()
TRUTH = torch.tensor([1.0, -1.0, 0.3, 0.4, 0.2, -0.9]).double()
WHITE = torch.eye(N).double()


class Dense:
    """Any matrix as an operator, decomposed by torch."""

    linear = True

    def __init__(self, matrix, shape=SHAPE):
        self.matrix, self.shape = matrix, shape
        self.u, s, self.v = torch.linalg.svd(matrix)
        self.singulars = torch.nn.functional.pad(s, (0, math.prod(shape) - len(s)))

    def forward(self, x):
        return x.flatten(1) @ self.matrix.T

    def check_measurement(self, y):
        if tuple(y.shape[1:]) != (len(self.matrix),):
            raise ValueError(f"measurements of shape {tuple(y.shape)} do not fit")
        return y

    def pinv(self, y):
        return (y @ torch.linalg.pinv(self.matrix).T).view(-1, *self.shape)

    def to_spectral(self, x):
        return x.flatten(1) @ self.v.T

    def from_spectral(self, z):
        return (z @ self.v).view(-1, *self.shape)

    def measurement_to_spectral(self, y):
        spectral = y @ self.u
        return torch.nn.functional.pad(spectral, (0, math.prod(self.shape) - spectral.shape[1]))


class Fixed:
    """The same noise at every draw: with none of it, a linear sampler follows its mean exactly."""

    def __init__(self, value=None):
        self.value, self.draws = value, 0

    def draw(self, branch, like):
        self.draws += 1
        return torch.zeros_like(like) if self.value is None else self.value.to(like)


class Drawn:
    """Fresh noise, one stream for the whole batch."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, branch, like):
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def dense(singulars=(2.0, 1.0, 0.3), seed=0):
    """A (k, 6) operator with these singular values in random directions."""
    u, _, v = torch.linalg.svd(random(len(singulars), N, seed=seed), full_matrices=False)
    return Dense(u @ torch.tensor(singulars).double().diag() @ v)


def measured(operator=None, noise_std=0.0, **options):
    operator = operator or dense()
    values = operator.forward(TRUTH.view(1, *SHAPE))
    return Measurement(operator=operator, values=values, noise_std=noise_std, **options)


def gaussian(covariance=WHITE, mean=MEAN):
    return PixelGaussian(covariance, mean)


def posterior(measurement, covariance=WHITE, mean=MEAN):
    """Mean and covariance of x given y, the textbook way."""
    a, y = measurement.operator.matrix, measurement.values[0]
    noise = measurement.noise_std**2 * torch.eye(len(a)).double()
    gain = torch.linalg.solve(a @ covariance @ a.T + noise, a @ covariance).T
    return mean + gain @ (y - a @ mean), covariance - gain @ a @ covariance


def start(latents=None, t=1.0, noise=None, schedule=VP):
    latents = torch.zeros(1, *SHAPE).double() if latents is None else latents
    return State({"image": latents}, {"image": t}, schedule, noise or Fixed())


def sample(
    mechanisms,
    steps=20,
    solver="ddim",
    latents=None,
    noise=None,
    schedule=VP,
    denoiser=None,
    t=1.0,
    remake=lambda plan: plan,
):
    """Latents (B, n) at the end of a run from t to 0."""
    plan = remake(plans.descend(schedule.times(steps), {"image": t}))
    state = start(latents, plan[0].t["image"], noise, schedule)
    for progress in run(state, denoiser or gaussian(), plan, named(solver), mechanisms):
        state = progress.state
    return state.latents["image"].flatten(1)


class Units:
    """Every draw in rows of its own, one a unit; the first rows are those of the start."""

    def __init__(self, size):
        self.size, self.rows = size, size

    def draw(self, branch, like):
        unit = torch.zeros_like(like)
        mine = slice(self.rows, self.rows + self.size)
        unit[mine] = torch.eye(self.size).to(like).view(-1, *like.shape[1:])
        self.rows += self.size
        return unit


def spread(mechanisms, shape, **options):
    """Covariance (n, n) of what a linear sampler of mean 0 makes of all its noise, exactly."""
    size, count = math.prod(shape), Fixed()
    sample(mechanisms, latents=torch.zeros(1, *shape).double(), noise=count, **options)
    start_ = torch.zeros((1 + count.draws) * size, *shape).double()
    start_[:size] = torch.eye(size).double().view(-1, *shape)
    out = sample(mechanisms, latents=start_, noise=Units(size), **options)
    return out.T @ out


def law(mechanisms, **options):
    """Mean and covariance of what a deterministic linear sampler makes of unit noise, exactly."""
    basis = torch.cat([torch.zeros(1, N), torch.eye(N)]).double().view(-1, *SHAPE)
    out = sample(mechanisms, latents=basis, **options)
    columns = out[1:] - out[0]
    return out[0], columns.T @ columns
