"""Held-out pictures that are measured and restored, and what is measured on the results.

What is drawn at random of an operator, a free mask or the coordinates of `hadamard`, is each
scene's own, by its number: such scenes are restored one by one, all others of a chunk together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn import functional

from unicond.evaluation.cases import TABLE_WORLD, Cases, HeldOut
from unicond.evaluation.metrics_pictures import boundary_error, psnr, ssim
from unicond.evaluation.runner import Samples, as_list
from unicond.evaluation.sheet import keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tasks.group import Cost, costs
from unicond.evaluation.tasks.together import Together
from unicond.tasks.measured import Measured

SEEDED = ("inpaint-free", "hadamard")
"""Operators that are drawn at random, by a seed that is their second option."""
NOISES: Mapping[str, float] = {"clean": 0.0, "noisy": 0.05}
READ_AT = 128
"""Pixels a side at which the judge looks at least: what it was trained at."""


@dataclass(frozen=True)
class Way:
    """A case, as measurements are made.

    Attributes:
        operator: as of the registry.
        noise: a key of `NOISES`.
    """

    operator: str
    noise: str

    @property
    def case(self) -> str:
        """In the names of rows."""
        return f"{self.operator.replace(':', '-')}-{self.noise}"

    @property
    def drawn(self) -> bool:
        """Whether the operator is drawn at random, each scene's own."""
        return self.operator in SEEDED

    def parts(self, scenes: "Scenes") -> "Sequence[Scenes]":
        """Scenes that share an operator, in their order."""
        return scenes.each if self.drawn else (scenes,)

    def measured_by(self, scenes: "Scenes") -> str:
        """The operator of a part of `parts`, as of the registry."""
        if not self.drawn:
            return self.operator
        (number,) = scenes.cases.numbers
        return f"{self.operator}::{number}"

    def task(self, scenes: "Scenes", method: str | None = None) -> Together:
        """The restoration of a part of `parts` by a method; None is the operator's own."""
        first, bench = scenes.cases.images[0], scenes.bench
        guidance = bench.generation.guidance
        return Together(
            first,
            self.measured_by(scenes),
            NOISES[self.noise],
            method=method,
            simulate=True,
            seed=scenes.cases.seeds[0],
            count=len(scenes.cases.seeds),
            size=bench.model.backbone.sample_size,
            num_inference_steps=bench.generation.steps,
            guidance_scale=guidance,
            pictures=scenes.cases.images,
            captions=() if guidance is None else scenes.cases.captions,
        )


@dataclass(frozen=True, eq=False)
class Scenes:
    """Some held-out pictures.

    Attributes:
        cases: what they show.
        bench: what is measured and what measures it.
    """

    cases: Cases
    bench: Bench

    @cached_property
    def each(self) -> "tuple[Scenes, ...]":
        """One by one, drawn alone."""
        return tuple(prepared(self.bench, range(n, n + 1)) for n in self.cases.numbers)

    @cached_property
    def features(self) -> Tensor:
        """(B, D), what the judge reads in the clean pictures."""
        return self.read(self.cases.images)

    def read(self, pictures: Tensor) -> Tensor:
        """The judge's features (B, D) of pictures (B, 3, H, W), enlarged if need be."""
        if min(pictures.shape[-2:]) < READ_AT:
            pictures = functional.interpolate(pictures, (READ_AT, READ_AT), mode="bilinear")
        return self.bench.judge(pictures).features

    def scores(
        self, name: str, seen: Measured, left: Tensor, pictures: Tensor, spent: Sequence[Cost]
    ) -> Samples:
        """All that is measured on results, which are kept for the page.

        Args:
            name: of the pictures' folder.
            seen: the measurement.
            left: (B, 3, H, W), as the method leaves them.
            pictures: (B, 3, H, W) in [-1, 1], as they are shown.
            spent: on each.

        Returns:
            One value a picture of every metric.
        """
        cases, pictures = self.cases, pictures.cpu()
        keep_pictures(self.bench.folder / "pictures" / name, cases.numbers, pictures)
        gap = (self.read(pictures) - self.features).norm(dim=1)
        found = {
            "psnr": as_list(psnr(pictures, cases.images)),
            "ssim": as_list(ssim(pictures, cases.images)),
            "feature_distance": as_list(gap / self.features.norm(dim=1).clamp_min(1e-12)),
            "residual": as_list(residual(seen, left)),
            "residual_saved": as_list(residual(seen, eight_bits(pictures))),
            "boundary_error": self._at_edges(seen, pictures),
        }
        return Samples({**found, **costs(spent)})

    def _at_edges(self, seen: Measured, pictures: Tensor) -> list[float | None]:
        """The error at a mask's edge; None of what is no mask."""
        if seen.kind != "mask":
            return [None] * len(pictures)
        return as_list(boundary_error(pictures, self.cases.images, seen.known().cpu()))


def residual(seen: Measured, pictures: Tensor) -> Tensor:
    """Root mean square of what was measured less what pictures would measure.

    Args:
        seen: y and A.
        pictures: x, (B, 3, H, W).

    Returns:
        (B,) float64: `sqrt(mean((y - A x)^2))`.
    """
    found = seen.operator.forward(pictures.double().cpu())
    return (seen.measurement.values.double().cpu() - found).square().flatten(1).mean(1).sqrt()


def eight_bits(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as a file of 8 bits has them."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def prepared(bench: Bench, rows: range) -> Scenes:
    """The pictures of a range of scenes, drawn."""
    return Scenes(held_out(bench).cases(rows), bench)


def held_out(bench: Bench) -> HeldOut:
    """The pictures of a bench, at its base's own size."""
    size = bench.model.backbone.sample_size
    return HeldOut(TABLE_WORLD, bench.run.seed, size, bench.folder / "scenes" / "all-photo")
