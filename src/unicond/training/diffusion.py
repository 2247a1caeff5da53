"""What every diffusion trainer shares: the mini models' noise schedule, noising, loss, weights.

    latents_t = alpha x0 + sigma eps,   v = alpha eps - sigma x0,   loss = w(t) |v_hat - v|^2
    plain v-loss: w = 1;   min-SNR: w = max(min(SNR, gamma) / (SNR + 1), floor)

With zero terminal SNR plain min-SNR would weigh pure noise by 0, and a model never learns to
start: hence the floor. The same weight of x0's error is `min(SNR, gamma) / SNR` on eps, where pure
noise already weighs 1, and `min(SNR, gamma)` on x0; they need no floor.

Source: Salimans and Ho 2022, arXiv:2202.00512 (v); Hang et al. 2023, arXiv:2303.09556 (min-SNR);
Lin et al. 2023, arXiv:2305.08891 (zero terminal SNR).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from unicond.sampling import predictions
from unicond.sampling.schedules import DiscreteSchedule, FlowSchedule, from_config

SCORED = (0.999, 0.7, 0.4)
"""Times, as shares of the schedule, at which held-out errors are taken."""


def mini_scheduler() -> DDIMScheduler:
    """The noise schedule of the mini models: v-prediction, zero terminal SNR, trailing steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,  # what diffusers' pipelines expect; trailing spacing ignores it
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


@dataclass(frozen=True)
class Noising:
    """A schedule's tables on a device.

    Args:
        schedule: discrete and variance preserving.
        alpha: (T,) float32.
        sigma: (T,) float32.
    """

    schedule: DiscreteSchedule
    alpha: Tensor
    sigma: Tensor

    @staticmethod
    def of(scheduler: DDIMScheduler, device: torch.device | str) -> "Noising":
        """The tables of a diffusers scheduler."""
        return Noising.on(from_config(dict(scheduler.config)), device)

    @staticmethod
    def on(schedule: DiscreteSchedule | FlowSchedule, device: torch.device | str) -> "Noising":
        """The tables of a schedule; it is a ValueError if it is of flow matching."""
        if not isinstance(schedule, DiscreteSchedule):
            raise ValueError("the trainers need a variance-preserving schedule of discrete steps")
        powers = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
        alpha, sigma = powers.sqrt(), (1 - powers).sqrt()
        return Noising(schedule, alpha.float().to(device), sigma.float().to(device))

    def __len__(self) -> int:
        return len(self.alpha)

    def noised(
        self, x0: Tensor, index: Tensor, noise: Tensor, clean: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Noisy latents and the network's target.

        Args:
            x0: (B, C, H, W) clean latents.
            index: (B,) int64 model indices.
            noise: (B, C, H, W), unit.
            clean: (B,) bool, rows that stay exactly clean (time 0, though fed index 0).

        Returns:
            Latents and target, both (B, C, H, W).
        """
        alpha, sigma = self.alpha[index], self.sigma[index]
        if clean is not None:
            alpha, sigma = torch.where(clean, 1.0, alpha), torch.where(clean, 0.0, sigma)
        alpha, sigma = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
        kind = self.schedule.prediction_type
        return alpha * x0 + sigma * noise, predictions.target(x0, noise, alpha, sigma, kind)

    def spread(self, count: int, generator: torch.Generator, uniform_share: float = 1.0) -> Tensor:
        """Model indices in random order, one from each of `count` equally probable parts of time.

        Args:
            count: how many.
            generator: on the schedule's device.
            uniform_share: u, of the times that are uniform; the others gather where signal and
                noise weigh alike: `p(t) = u / T + (1 - u) (alpha sigma)^2 / sum (alpha sigma)^2`.

        Returns:
            (count,) int64.
        """
        device = generator.device
        jitter = torch.rand(count, generator=generator, device=device)
        part = torch.arange(count, device=device) + jitter
        order = torch.randperm(count, generator=generator, device=device)
        middle = (self.alpha.double() * self.sigma.double()).square()
        density = uniform_share / len(self) + (1 - uniform_share) * middle / middle.sum()
        index = torch.searchsorted(density.cumsum(0), part.double() / count)
        return index.clamp_max(len(self) - 1)[order]

    def scored(self, rows: Tensor) -> Tensor:
        """(B,) model indices at which held-out rows (B,) are scored: the `SCORED` in turn."""
        share = torch.tensor(SCORED, device=rows.device)
        return (share * len(self)).long()[rows % len(SCORED)]

    def min_snr(self, index: Tensor, gamma: float, floor: float) -> Tensor:
        """(B,) weights of the squared error of what the network tells (see the module)."""
        power = self.alpha[index].square()
        kind = self.schedule.prediction_type
        if kind == "eps":
            return (gamma * (1 - power) / power).clamp_max(1.0)
        if kind == "x0":
            return (power / (1 - power)).clamp_max(gamma)
        return (torch.minimum(power, gamma * (1 - power))).clamp_min(floor)


def frozen(base: nn.ModuleDict) -> tuple[UNet2DConditionModel, nn.Module]:
    """U-Net and text encoder of a base {"unet", "text_encoder"}, which is frozen here."""
    base.requires_grad_(False).eval()
    unet = base["unet"]
    assert isinstance(unet, UNet2DConditionModel)
    return unet, base["text_encoder"]


def own_precision(network: UNet2DConditionModel) -> AbstractContextManager[object]:
    """A network in half precision computes in it; another one as the loop wants."""
    if network.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(network.device.type, network.dtype)


def squared_error(output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(B,) mean over everything but the batch, in float32; by weights (B, 1, H, W), if given."""
    errors = (output.float() - target).square()
    if weight is not None:
        errors = errors * (weight / weight.mean((1, 2, 3), keepdim=True))
    return errors.flatten(1).mean(1)
