"""What a run returns: every branch, its seeds and its settings."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from unicond.calls.inputs import is_depth
from unicond.calls.record import Record
from unicond.pictures.depth import write_depth
from unicond.pictures.files import PictureError, make_output_folder
from unicond.pictures.metadata import read_settings, write_png
from unicond.pictures.metric_depth import METRIC, write_metres
from unicond.pictures.reading import to_pil
from unicond.sampling.state import Report


@dataclass(frozen=True, eq=False)
class Output:
    """The branches of a run; `out.image`, `out.depth`, ... are lists of PIL images, one a sample.

    Args:
        pictures: {branch: (B, 3, H, W) in [-1, 1]}.
        latents: {branch: (B, C, h, w)}.
        record: what was asked for.
        kinds: {branch: what it shows}; depth is saved as 16-bit PNG and `.npy`, too.
        before: (B or 1, 3, H, W) in [-1, 1], what a task began with; None without one.
        reports: {mechanism: what it says of the run}, such as the residual of an inversion.
        given: {branch: (B or 1, 3, H, W) in [-1, 1]}, what the caller gave of it.
    """

    pictures: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    record: Record
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])
    before: Tensor | None = None
    reports: Mapping[str, Report] = field(default_factory=dict[str, Report])
    given: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __getattr__(self, branch: str) -> list[Image.Image]:
        """The pictures of a branch by its name."""
        pictures: Mapping[str, Tensor] = object.__getattribute__(self, "pictures")
        if branch not in pictures:
            raise AttributeError(f"no branch {branch!r} in this result; it has {sorted(pictures)}")
        return [to_pil(picture) for picture in pictures[branch]]

    def __len__(self) -> int:
        return len(self.record.seeds)

    def _repr_png_(self) -> bytes:
        """All branches side by side, a row a sample: how a notebook shows it."""
        rows = torch.cat([torch.cat(list(rows), -2) for rows in self.pictures.values()], -1)
        buffer = io.BytesIO()
        to_pil(rows).save(buffer, "PNG")
        return buffer.getvalue()

    def save(self, folder: str | Path, given: bool = False) -> list[Path]:
        """Write every generated branch of every sample, with the settings inside each PNG.

        Files are called `<seed>_<branch>.png`, or `<seed>-<n>_<branch>.png` of the n-th sample of a
        seed that there is more than once. Depth is also written as `..._16bit.png` and `.npy`:
        inverse depth in [0, 1], or metric depth in millimetres and in metres. What a task began
        with is `<seed>_before.png`, what was given of a branch `<seed>_before_<branch>.png`, unless
        it is the same picture.

        Returns:
            The paths of all files.

        Args:
            folder: made if missing.
            given: write what the caller gave, too.
        """
        target = make_output_folder(folder)
        paths: list[Path] = []
        seeds = self.record.seeds
        names = [
            str(seed) if seeds.count(seed) == 1 else f"{seed}-{seeds[:sample].count(seed)}"
            for sample, seed in enumerate(seeds)
        ]
        for branch in self.record.generated:
            for sample, (name, picture) in enumerate(
                zip(names, self.pictures[branch], strict=True)
            ):
                settings = self.settings(branch, sample)
                paths.append(write_png(picture, target / f"{name}_{branch}.png", settings))
                exact = target / f"{name}_{branch}_16bit.png"
                if is_depth(self.kinds.get(branch)):
                    paths += write_depth((picture.mean(0) + 1) / 2, exact, settings)
                elif self.kinds.get(branch) == METRIC:
                    paths += write_metres(picture, exact, settings)
        shown = {} if self.before is None else {"before": self.before}
        if given:
            shown |= {
                f"before_{branch}": pictures
                for branch, pictures in self.given.items()
                if self.before is None or not torch.equal(pictures, self.before)
            }
        for what, pictures in shown.items():
            rows = pictures.expand(len(seeds), -1, -1, -1)
            for sample, (name, picture) in enumerate(zip(names, rows, strict=True)):
                settings = self.settings(what, sample)
                paths.append(write_png(picture, target / f"{name}_{what}.png", settings))
        return paths

    def shortfalls(self) -> list[str]:
        """A sentence for each mechanism that did not reach what it promises in some sample.

        Returns:
            None where all is as promised.
        """
        found: list[str] = []
        for name, report in self.reports.items():
            missed = report.missed()
            if missed:
                largest = report.value.max().item()
                seeds = ", ".join(str(self.record.seeds[sample]) for sample in missed)
                found.append(
                    f"{name}: {report.what} {largest:.1e} is above the tolerance "
                    f"{report.tolerance:.1e} (seed {seeds}); {report.advice}"
                )
        return found

    def settings(self, branch: str, sample: int) -> Mapping[str, object]:
        """What goes into the PNG of one picture: its own prompt and seed, and the whole record."""
        record = self.record
        return {
            **self._reported(sample),
            "prompt": record.prompts[sample],
            "negative_prompt": record.negative_prompt,
            "num_inference_steps": record.num_inference_steps,
            "solver": record.solver,
            "guidance_scale": record.guidance_scale,
            "seed": record.seeds[sample],
            "branch": branch,
            "sample": sample,
            "record": asdict(record),
        }

    def _reported(self, sample: int) -> Mapping[str, object]:
        """What mechanisms say of a sample, as JSON holds it: None for what is no finite number."""
        said: dict[str, Mapping[str, float | None]] = {}
        for name, report in self.reports.items():
            both = {report.what: float(report.value[sample]), "tolerance": report.tolerance}
            said[name] = {key: one if math.isfinite(one) else None for key, one in both.items()}
        return {"reports": said} if said else {}


def read_record(path: str | Path) -> Record:
    """The record inside a PNG that unicond made.

    Args:
        path: of the PNG.

    Returns:
        The record of the run that made it.

    Raises:
        PictureError: the PNG has none, or it is damaged or of another version.
    """
    settings = read_settings(path)
    try:
        return TypeAdapter(Record).validate_python(settings.get("record"))
    except ValidationError as error:
        raise PictureError(
            f"the settings in {path} are not complete ({error.error_count()} fields): it was made "
            "by another version of unicond, or changed"
        ) from error
