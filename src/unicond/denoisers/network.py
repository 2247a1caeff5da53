"""A denoiser on any diffusers network: every branch, variant and sample is a row of one call.

The network is adapted, never rewritten: this class lays out the rows, makes them `current()` for
the attention processors, feeds each row its own timestep and prompt, and reads the output as
predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

from unicond.sampling.predictions import Prediction, Predictions, from_output
from unicond.sampling.rows import Pairs, Rows, Variant
from unicond.sampling.state import State

Prompts = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Pairing:
    """Two branches that look at each other through an adapter.

    Args:
        adapter: its name.
        x: the image branch.
        y: the condition branch.
        weight_x: `w_x` of formula (8).
        weight_y: `w_y` of formula (8).
        deaf: the branches that look at nothing: held ones, of adapters trained for it.
    """

    adapter: str
    x: str
    y: str
    weight_x: float = 1.0
    weight_y: float = 1.0
    deaf: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NetworkDenoiser:
    """All branches in, all predictions out, in one call of `network(latents, timesteps, prompts)`.

    Args:
        network: a diffusers denoising network, float32 or half precision.
        prompts: {prompt name: {branch: (B or 1, tokens, width)}}.
        pairings: which branches look at each other, and through which adapter.
        joint_scale: weight of all joint attention; at 0 it is absent.
    """

    network: nn.Module
    prompts: Prompts
    pairings: Sequence[Pairing] = field(default=())
    joint_scale: float = 1.0

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """One prediction set a variant; equal ones are computed once.

        Args:
            state: latents, times and schedule.
            variants: ways to evaluate the network.

        Returns:
            Predictions in the order of the variants.

        Raises:
            ValueError: a variant's prompt, or a branch's part of it, is not in the table.
        """
        distinct = tuple(dict.fromkeys(self._bare(variant) for variant in variants))
        rows = self._rows(state, distinct)
        output = self._forward(state, rows)
        read = {
            variant: {
                branch: self._read(output, state, rows, branch, i) for branch in rows.branches
            }
            for i, variant in enumerate(distinct)
        }
        return [read[self._bare(variant)] for variant in variants]

    def _bare(self, variant: Variant) -> Variant:
        """The variant as the network knows it: guidance is the mechanisms' matter."""
        return Variant(variant.prompt, variant.joint and bool(self.pairings))

    def _rows(self, state: State, variants: tuple[Variant, ...]) -> Rows:
        branches = tuple(state.latents)
        batch = len(next(iter(state.latents.values())))
        rows = Rows(variants, branches, batch, joint_scale=self.joint_scale)
        names = dict.fromkeys(pairing.adapter for pairing in self.pairings)
        pairs = {name: self._pairs(rows, name) for name in names}
        return Rows(variants, branches, batch, pairs, self.joint_scale)

    def _pairs(self, rows: Rows, adapter: str) -> Pairs:
        columns: list[tuple[int, int, float, float, bool, bool]] = []
        mine = [pairing for pairing in self.pairings if pairing.adapter == adapter]
        for (i, variant), pairing in product(enumerate(rows.variants), mine):
            on = variant.joint and self.joint_scale != 0
            hears = (on and pairing.x not in pairing.deaf, on and pairing.y not in pairing.deaf)
            x, y = rows.of(pairing.x, i), rows.of(pairing.y, i)
            columns += [
                (x.start + b, y.start + b, pairing.weight_x, pairing.weight_y, *hears)
                for b in range(rows.batch)
            ]
        x, y, weight_x, weight_y, hears_x, hears_y = (
            torch.tensor(column) for column in zip(*columns, strict=True)
        )
        return Pairs(x, y, weight_x, weight_y, hears_x, hears_y)

    def _forward(self, state: State, rows: Rows) -> Tensor:
        """(rows, C, H, W) float32: one call for all variants, branches and samples."""
        weight = next(self.network.parameters())
        order = list(product(rows.variants, rows.branches))
        latents = torch.cat([state.latents[branch] for _, branch in order]).to(weight.dtype)
        indices = [state.schedule.index(state.t[branch]) for _, branch in order]
        timesteps = torch.tensor(indices, device=latents.device).repeat_interleave(rows.batch)
        prompts = torch.cat(
            [self._prompt(v.prompt, b).expand(rows.batch, -1, -1) for v, b in order]
        )
        try:
            with rows.active():
                output: Tensor = self.network(latents, timesteps, prompts.to(weight.dtype)).sample
        except Exception as error:
            error.add_note(
                f"in a network call of {len(rows)} rows at t={dict(state.t)}: latents "
                f"{tuple(latents.shape)}, prompts {tuple(prompts.shape)}, {weight.dtype}"
            )
            raise
        return output.float()

    def _prompt(self, name: str, branch: str) -> Tensor:
        if branch not in self.prompts.get(name, {}):
            known = {prompt: sorted(branches) for prompt, branches in self.prompts.items()}
            raise ValueError(f"no prompt {name!r} for branch {branch!r}; there are {known}")
        return self.prompts[name][branch]

    @staticmethod
    def _read(output: Tensor, state: State, rows: Rows, branch: str, variant: int) -> Prediction:
        alpha, sigma = state.scales(branch)
        kind = state.schedule.prediction_type
        latents = state.latents[branch].float()
        return from_output(output[rows.of(branch, variant)], latents, alpha, sigma, kind)
