"""A denoiser on any diffusers network: every branch, variant and sample is a row of one call.

The network is adapted, never rewritten: this class lays out the rows, makes them `current()` for
the attention processors, feeds each row its own timestep and prompt, and reads the output as
predictions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from unicond.denoisers.controlled import controlled
from unicond.denoisers.kept import Keeper, Kept, Words
from unicond.sampling.predictions import Prediction, Predictions, from_output
from unicond.sampling.prompts import Prompt, Prompts, gather, reworded
from unicond.sampling.rows import Memory, Pairs, Rows, Variant
from unicond.sampling.state import State


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
        aligned: whether tokens look only around their own place in the other picture.
    """

    adapter: str
    x: str
    y: str
    weight_x: float = 1.0
    weight_y: float = 1.0
    deaf: frozenset[str] = frozenset()
    aligned: bool = False


def keeper(
    cache: bool | None, refresh: int | None, held: Collection[str], pairings: Sequence[Pairing]
) -> Keeper:
    """Which held branches run once.

    Args:
        cache: True insists that some do, False wants none, None takes what changes nothing.
        refresh: keep those that hear, too, for so many calls.
        held: the branches that do not move.
        pairings: who looks at whom.

    Returns:
        What the denoiser keeps.

    Raises:
        ValueError: nothing is held, or what is held hears the others.
    """

    def hears(branch: str) -> bool:
        return any(
            branch not in pairing.deaf and weight != 0
            for pairing in pairings
            for side, weight in ((pairing.x, pairing.weight_x), (pairing.y, pairing.weight_y))
            if side == branch
        )

    asked = "cache=True" if refresh is None else f"refresh={refresh}"
    if refresh is not None and (refresh < 1 or cache is False):
        raise ValueError(f"{asked} must be at least 1, and needs the cache")
    if (cache or refresh is not None) and not held:
        raise ValueError(f"{asked} keeps held branches, but nothing is held: every branch moves")
    if cache is False:
        return Keeper()
    if refresh is not None:
        return Keeper(frozenset(held), refresh)
    kept = frozenset(branch for branch in held if not hears(branch))
    if cache and not kept:
        raise ValueError(
            f"cache=True, but {', '.join(sorted(held))} hears the others and so changes with them; "
            "use held='one_way', or refresh=k to run it again every k moves only"
        )
    return Keeper(kept)


@dataclass(frozen=True)
class NetworkDenoiser:
    """All branches in, all predictions out, in one call of `network(latents, timesteps, prompts)`.

    Args:
        network: a diffusers denoising network, float32 or half precision.
        prompts: {prompt name: {branch: its prompt}}.
        pairings: which branches look at each other, and through which adapter.
        joint_scale: weight of all joint attention; at 0 it is absent.
        keeper: the held branches whose rows run once, if any.
        slicing: attention is computed a slice at a time.
    """

    network: nn.Module
    prompts: Prompts
    pairings: Sequence[Pairing] = field(default=())
    joint_scale: float = 1.0
    keeper: Keeper = field(default_factory=Keeper)
    slicing: bool = False
    _words: dict[tuple[object, ...], Words] = field(
        init=False, default_factory=dict[tuple[object, ...], Words], repr=False, compare=False
    )

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
        keeper = self.keeper if self._whole(state, distinct) else Keeper()
        recalled = keeper.recall(state, distinct)
        kept = recalled or keeper.begin(state, distinct)
        rows = self._rows(state, distinct, kept, recalled is not None)
        output = self._forward(state, rows)
        read = {
            variant: {
                branch: self._read(output, state, rows, branch, i)
                if recalled is None or branch in rows.branches
                else recalled.predictions[variant][branch]
                for branch in state.latents
            }
            for i, variant in enumerate(distinct)
        }
        if kept is not None and recalled is None:
            kept.predictions = {
                variant: {branch: found[branch].detached() for branch in kept.latents}
                for variant, found in read.items()
            }
        return [read[self._bare(variant)] for variant in variants]

    def fresh(self) -> "NetworkDenoiser":
        """For another run: with `refresh`, what is kept has heard the run that it is of."""
        kept = self.keeper
        return self if kept.refresh is None else replace(self, keeper=kept.fresh())

    def _whole(self, state: State, variants: tuple[Variant, ...]) -> bool:
        """Whether all branches are there that the prompts are for: only then are rows kept."""
        words = (self.prompts.get(variant.prompt, {}) for variant in variants)
        return all(branch in state.latents for branches in words for branch in branches)

    def _bare(self, variant: Variant) -> Variant:
        """The variant as the network knows it: guidance is the mechanisms' matter."""
        if not self.pairings:
            return replace(variant, joint=0.0, weights=(), guided=True)
        return replace(variant, guided=True)

    def _rows(
        self, state: State, variants: tuple[Variant, ...], kept: Kept | None, recalls: bool
    ) -> Rows:
        """The layout of a call; one that recalls has no rows of the kept branches."""
        branches = tuple(
            branch
            for branch in state.latents
            if not (recalls and kept is not None and branch in kept.latents)
        )
        first = next(iter(state.latents.values()))
        alike = {latents.shape[-2:] for latents in state.latents.values()}
        rows = Rows(
            variants,
            branches,
            len(first),
            joint_scale=self.joint_scale,
            size=(first.shape[-2], first.shape[-1]) if len(alike) == 1 else None,
            memory=None if kept is None else kept.memory,
            recalls=recalls,
            slicing=self.slicing,
        )
        names = dict.fromkeys(pairing.adapter for pairing in self.pairings)
        held = frozenset[str]() if kept is None else frozenset(kept.latents)
        pairs = {name: self._pairs(rows, name, held) for name in names}
        return replace(rows, pairs={name: found for name, found in pairs.items() if found})

    def _pairs(self, rows: Rows, adapter: str, held: frozenset[str]) -> Pairs | None:
        """The pairs of one adapter; a kept branch has row -1, an absent one no pair."""
        here = held.union(rows.branches)
        mine = [
            (number, pairing)
            for number, pairing in enumerate(self.pairings, start=1)
            if pairing.adapter == adapter
            and here.issuperset((pairing.x, pairing.y))
            and (pairing.x in rows.branches or pairing.y in rows.branches)
        ]
        if not mine:
            return None
        aligned = {pairing.aligned for _, pairing in mine}
        if len(aligned) > 1:
            raise ValueError(
                f"the pairs of adapter {adapter!r} differ in what is aligned; give them names of "
                "their own"
            )
        kept: dict[int, Literal["x", "y"]] = {}
        for number, pairing in mine:
            side = _kept_side(pairing, held)
            if side is not None:
                kept[number] = side
        columns: list[tuple[int, int, float, float, bool, bool, int]] = []
        for (i, variant), (number, pairing) in product(enumerate(rows.variants), mine):
            # pairs of which nothing is kept are computed together
            slot = number if number in kept else 0
            on = variant.joint != 0 and self.joint_scale != 0
            others = {branch: (w_x, w_y) for branch, w_x, w_y in variant.weights}
            own = others.get(pairing.y, (pairing.weight_x, pairing.weight_y))
            weights = (variant.joint * own[0], variant.joint * own[1])
            hears = (on and pairing.x not in pairing.deaf, on and pairing.y not in pairing.deaf)
            x, y = (_rows_of(rows, branch, i) for branch in (pairing.x, pairing.y))
            columns += [(x[b], y[b], *weights, *hears, slot) for b in range(rows.batch)]
        x, y, weight_x, weight_y, hears_x, hears_y, slots = (
            torch.tensor(column) for column in zip(*columns, strict=True)
        )
        return Pairs(
            x, y, weight_x, weight_y, hears_x, hears_y, aligned.pop(), slot=slots, kept=kept
        )

    def _words_of(self, state: State, rows: Rows) -> Words:
        """The words of a call: the very same ones in all calls of one layout, unless reworded."""
        layout = rows.variants, rows.branches, rows.batch
        table = reworded(self.prompts, state)
        if table is self.prompts and layout in self._words:
            return self._words[layout]
        each = [_prompt(table, v.prompt, b) for v, b in product(rows.variants, rows.branches)]
        prompt = gather(each, rows.batch)
        dtype = next(self.network.parameters()).dtype
        prompt = replace(prompt, tokens=prompt.tokens.to(dtype))
        if table is not self.prompts or prompt.tokens.requires_grad:
            return Words(prompt)
        self._words[layout] = Words(prompt, Memory())
        return self._words[layout]

    def _forward(self, state: State, rows: Rows) -> Tensor:
        """(rows, C, H, W) float32: one call for all variants, branches and samples."""
        weight = next(self.network.parameters())
        order = list(product(rows.variants, rows.branches))
        latents = torch.cat([state.latents[branch] for _, branch in order]).to(weight.dtype)
        indices = [state.schedule.index(state.t[branch]) for _, branch in order]
        timesteps = torch.tensor(indices, device=latents.device).repeat_interleave(rows.batch)
        words = self._words_of(state, rows)
        tokens, more = words.prompt.tokens, added(words.prompt, weight.dtype)
        try:
            with replace(rows, words=words.memory).active(), controlled(self.network):
                output: Tensor = self.network(latents, timesteps, tokens, **more).sample
        except Exception as error:
            error.add_note(
                f"in a network call of {len(rows)} rows at t={dict(state.t)}: latents "
                f"{tuple(latents.shape)}, prompts {tuple(tokens.shape)}, {weight.dtype}"
            )
            raise
        return output.float()

    @staticmethod
    def _read(output: Tensor, state: State, rows: Rows, branch: str, variant: int) -> Prediction:
        alpha, sigma = state.scales(branch)
        kind = state.schedule.prediction_type
        latents = state.latents[branch].float()
        return from_output(output[rows.of(branch, variant)], latents, alpha, sigma, kind)


def _prompt(table: Prompts, name: str, branch: str) -> Prompt:
    if branch not in table.get(name, {}):
        known = {prompt: sorted(branches) for prompt, branches in table.items()}
        raise ValueError(f"no prompt {name!r} for branch {branch!r}; there are {known}")
    return table[name][branch]


def _rows_of(rows: Rows, branch: str, variant: int) -> Sequence[int]:
    """The rows of a branch, or -1 for each sample of one that has none."""
    if branch not in rows.branches:
        return [-1] * rows.batch
    found = rows.of(branch, variant)
    return range(found.start, found.stop)


def _kept_side(pairing: Pairing, held: frozenset[str]) -> Literal["x", "y"] | None:
    if pairing.y in held:
        return "y"
    return "x" if pairing.x in held else None


def added(prompt: Prompt, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """The added conditions as diffusers' networks take them; nothing where there are none."""
    if prompt.pooled is None or prompt.time_ids is None:
        return {}
    # time ids stay float32: half precision has no 1023
    added = {"text_embeds": prompt.pooled.to(dtype), "time_ids": prompt.time_ids.float()}
    return {"added_cond_kwargs": added}
