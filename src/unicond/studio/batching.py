"""Jobs that are made in one call of a model, and each job's part of what it returns.

Jobs of a kin ask for the same but for prompts, seeds, counts, and the pictures themselves, whose
sizes are equal. A seed draws the same noise whatever batch it runs in, so that nobody's pictures
depend on their company.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.record import Record
from unicond.calls.request import Given, seeds_of
from unicond.model import Model
from unicond.sampling.state import Report
from unicond.tasks.filled import Filled
from unicond.tasks.form_pictures import named_pictures
from unicond.tasks.form_settings import generated, settings_of
from unicond.tasks.forms import AnyForm, Generate, Picture

OWN = {"prompt", "seed", "count", "image", "depth", "give", "mask"}
"""What jobs of one kin may have of their own."""


class Seen(Protocol):
    """What is known of a picture before it is made anything of."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""
        ...


def kin(form: AnyForm, base: str, seen: Mapping[str, Seen]) -> str | None:
    """What is equal for all jobs that may be made together.

    Args:
        form: whose pictures are all uploads.
        base: the model's name.
        seen: {upload: what is known of the picture}.

    Returns:
        A digest; None for a job that is made alone.
    """
    if not isinstance(form, Generate) or form.image_prompt or form.method == "readout":
        return None

    def of(picture: Picture) -> Seen:
        return seen[str(picture.upload)]

    pictures = named_pictures(form.give, image=form.image, depth=form.depth)
    told = {
        "base": base,
        "settings": form.model_dump(mode="json", exclude=OWN | {"base"}),
        "sizes": {branch: of(picture).size for branch, picture in sorted(pictures.items())},
        "masks": {branch: of(mask).digest for branch, mask in sorted(form.mask.items())},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def run(model: Model, jobs: Sequence[Filled], callback: Callback) -> list[Output]:
    """Make jobs of one kin.

    Args:
        model: that they name.
        jobs: one, or several to generate.
        callback: called after each move; False cancels all.

    Returns:
        What each would return alone.

    Raises:
        ValueError: one of them cannot be made.
        Cancelled: the callback returned False.
    """
    if len(jobs) == 1:
        return [jobs[0].run(model, callback)]
    forms = [job.form for job in jobs if isinstance(job.form, Generate)]
    seeds = [
        seeds_of(form.seed if isinstance(form.seed, int) else list(form.seed), form.count, {})
        for form in forms
    ]
    out = generated(
        model,
        [form.prompt for form, own in zip(forms, seeds, strict=True) for _ in own],
        [seed for own in seeds for seed in own],
        None,
        settings_of(forms[0]),
        _given([job.given() for job in jobs], [len(own) for own in seeds]),
        callback,
    )
    ends = [sum(map(len, seeds[: n + 1])) for n in range(len(seeds))]
    return [_rows(out, end - len(own), end) for own, end in zip(seeds, ends, strict=True)]


def _given(pictures: Sequence[Mapping[str, Given]], counts: Sequence[int]) -> dict[str, Given]:
    """{branch: the picture of every sample}."""
    rows = [given for given, count in zip(pictures, counts, strict=True) for _ in range(count)]
    return {
        branch: replace(one, picture=[row[branch].picture for row in rows])
        for branch, one in pictures[0].items()
    }


def _rows(out: Output, start: int, end: int) -> Output:
    """The samples start, ..., end - 1, as a run of their own returns them."""
    rows = slice(start, end)
    return replace(
        out,
        pictures={branch: pictures[rows] for branch, pictures in out.pictures.items()},
        latents={branch: latents[rows] for branch, latents in out.latents.items()},
        record=_record(out.record, rows),
        reports={name: _report(report, rows) for name, report in out.reports.items()},
    )


def _record(record: Record, rows: slice) -> Record:
    given = {
        branch: replace(source, files=source.files[rows][:1])
        for branch, source in record.given.items()
    }
    return replace(record, prompts=record.prompts[rows], seeds=record.seeds[rows], given=given)


def _report(report: Report, rows: slice) -> Report:
    return replace(report, value=report.value[rows])
