"""Closed-form denoisers: what a perfect network would say about Gaussian data.

For branches that are jointly Gaussian in each pixel, `x0 ~ N(m, C)` with one row and column a
branch, and noisy latents `z = A x0 + S eps` (A, S diagonal: every branch has its own time),

    E[x0 | z] = m + C A (A C A + S^2)^-1 (z - A m),    eps = (z - A E[x0 | z]) / S.

They make every mode of a joint model a statement with a known answer, which tests use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import State


@dataclass(frozen=True)
class JointGaussian:
    """`E[x0 | noisy branches]` of jointly Gaussian branches, each at its own time.

    Args:
        branches: names, in the order of the covariance's rows.
        covariance: (n, n), symmetric, positive definite.
        means: {prompt: (n,)}, the mean of x0 under each prompt.
    """

    branches: tuple[str, ...]
    covariance: Tensor
    means: Mapping[str, Tensor]

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """One prediction set a variant; with `joint=0.0` the branches are independent."""
        return [self._predict(state, variant) for variant in variants]

    def _predict(self, state: State, variant: Variant) -> Predictions:
        scales = [state.scales(branch) for branch in self.branches]
        alpha = torch.tensor([a for a, _ in scales], dtype=self.covariance.dtype)
        sigma = torch.tensor([s for _, s in scales], dtype=self.covariance.dtype)
        mean = self.means[variant.prompt]
        covariance = self.covariance if variant.joint else self.covariance.diag().diag()
        noisy = alpha[:, None] * covariance * alpha + (sigma**2).diag()
        gain = torch.linalg.solve(noisy, alpha[:, None] * covariance, left=True).T
        latents = torch.stack([state.latents[branch].to(mean) for branch in self.branches], -1)
        x0 = mean + (latents - alpha * mean) @ gain.T
        eps = torch.where(sigma > 0, (latents - alpha * x0) / sigma.clamp_min(1e-300), 0.0)
        return {
            branch: Prediction(x0[..., i], eps[..., i]) for i, branch in enumerate(self.branches)
        }


@dataclass(frozen=True)
class PixelGaussian:
    """`E[x0 | latents]` of one branch whose pixels, channels included, are jointly Gaussian.

    Args:
        covariance: (n, n) of the n = C * H * W values of a picture, in reading order; symmetric,
            may be singular.
        mean: (n,).
        branch: its name.
    """

    covariance: Tensor
    mean: Tensor
    branch: str = "image"

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """The same prediction for every variant; differentiable."""
        alpha, sigma = state.scales(self.branch)
        latents = state.latents[self.branch]
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean)).to(self.mean)
        gain = alpha * self.covariance @ torch.linalg.pinv(noisy, hermitian=True)
        x0 = self.mean + (latents.flatten(1).to(self.mean) - alpha * self.mean) @ gain.T
        x0 = x0.view_as(latents)
        eps = (latents - alpha * x0) / sigma if sigma > 0 else torch.zeros_like(x0)
        return [{self.branch: Prediction(x0, eps)} for _ in variants]
