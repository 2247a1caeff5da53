"""The settings inside a PNG, as what stands on the page.

Pictures that were given come back where they lie in the reader's own jobs: nothing else that a file
names is read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from unicond.calls.output import read_record
from unicond.calls.record import Record
from unicond.calls.request import MOVES
from unicond.pictures.metadata import read_settings
from unicond.sampling.window import Window
from unicond.studio.page.kept import Kept
from unicond.studio.page.recorded_tasks import NAMES, told_of_task

Find = Callable[[Kept], bool]
"""Says whether a picture is the reader's, and there."""
GIVEN = re.compile(r"jobs/([0-9a-f]{32})/given/([0-9]+\.png)")


@dataclass(frozen=True)
class Recorded:
    """What a PNG was asked for.

    Args:
        told: {field: value}, `task` among them; pictures are `Kept`, None where they are gone.
        lost: what else cannot come back, in sentences.
    """

    told: Mapping[str, object]
    lost: Sequence[str]


def told_of_png(path: str, find: Find, bases: Mapping[str, str]) -> Recorded:
    """What a PNG was asked for.

    Args:
        path: of a PNG that unicond made.
        find: the pictures that were given.
        bases: {name: what `unicond.load` takes} of the models that are served.

    Returns:
        The form.

    Raises:
        PictureError: it holds no settings, or damaged ones.
        ValueError: it was made by a task that has no tab.
    """
    settings, record = read_settings(path), read_record(path)
    sample = int(cast(int, settings.get("sample", 0)))
    named = {where: name for name, where in reversed(list(bases.items()))}
    lost = list[str]()
    if record.base not in named:
        lost.append(f"it was made by {record.base}, which is not served here")
    told: dict[str, object] = {} if record.base not in named else {"base": named[record.base]}
    if record.task is None:
        return Recorded({**told, **_generated(record, sample, find)}, [*lost, *_lost(record)])
    if record.task.get("name") not in NAMES:
        known = ", ".join(NAMES)
        raise ValueError(f"it was made by a task {record.task.get('name')!r}; there are {known}")
    task = {name: _found(one, find) for name, one in record.task.items() if one is not None}
    return Recorded({**told, **told_of_task(task, named)}, lost)


def _lost(record: Record) -> list[str]:
    """What a form to generate cannot say."""
    own = [*record.mechanisms, *(["moves of its own"] if record.plan == MOVES else [])]
    lost = [f"it was made with {', '.join(own)}, which no form says"] if own else []
    sources = record.given.values()
    kinds = {(one.kind, one.fit, one.invert) for one in sources}
    thresholds = {one.threshold for one in sources if one.mask is not None}
    if len(kinds) > 1 or len(thresholds) > 1:
        lost.append("its pictures were read in several ways; the first one's is shown")
    optimizer = record.reconstruction_optimizer
    if optimizer is not None and optimizer.weight_decay != type(optimizer)().weight_decay:
        lost.append(f"its optimiser had a weight decay of {optimizer.weight_decay}")
    if record.image_prompt is not None and record.image_prompt.window != Window():
        lost.append("its image prompt acted for a while only")
    return lost


def _generated(record: Record, sample: int, find: Find) -> dict[str, object]:
    grounding = None
    if record.grounding:
        grounding = asdict(record.grounding[sample if len(record.grounding) > 1 else 0])
    found: dict[str, object] = {
        "task": "generate",
        **_samples(record, sample),
        "negative_prompt": record.negative_prompt,
        "size": list(record.size),
        "steps": record.num_inference_steps,
        "guidance": record.guidance_scale,
        "boxes": grounding,
        "solver": record.solver,
        "spacing": record.spacing,
        "eta": record.eta,
        "condition_guidance": record.condition_guidance,
        "condition_guidance_against": record.condition_guidance
        and record.condition_guidance_against,
        "perturbed_guidance": record.perturbed_guidance,
        "guidance_window": _ends(record.guidance_window),
        "joint_scale": record.joint_scale,
        "conditioning_scale": dict(record.conditioning_scale),
        "held": record.held,
        "attention": record.attention,
        "cache": record.cache,
        "refresh": record.refresh,
        "ensemble_size": record.ensemble_size,
        "sampling": record.sampling,
        "plan": None if record.plan == MOVES else record.plan,
        "only": list(record.generated),
        "reconstruction_window": _ends(record.reconstruction_window),
        **_given(record, sample, find),
    }
    if record.reconstruction_weight:
        found["reconstruction_weight"] = dict(record.reconstruction_weight)
    if record.reconstruction_optimizer is not None:
        found["reconstruction_iterations"] = record.reconstruction_optimizer.iterations
        found["reconstruction_lr"] = record.reconstruction_optimizer.learning_rate
    if record.image_prompt is not None:
        shown = record.image_prompt
        found["image_prompt"] = [_picture(one, find) for one in shown.files] or [None]
        found["ip_scale"] = shown.scale
    return {name: value for name, value in found.items() if value is not None}


def _samples(record: Record, sample: int) -> dict[str, object]:
    """All samples where a form can ask for them at once, else the one."""
    several = len(record.grounding) > 1 or any(len(s.files) > 1 for s in record.given.values())
    if several or len(set(record.prompts)) > 1:
        return {"prompt": record.prompts[sample], "seed": record.seeds[sample], "count": 1}
    seeds, first = record.seeds, record.seeds[0]
    if seeds == tuple(range(first, first + len(seeds))):
        return {"prompt": record.prompts[0], "seed": first, "count": len(seeds)}
    return {"prompt": record.prompts[0], "seed": list(seeds)}


def _given(record: Record, sample: int, find: Find) -> dict[str, object]:
    """What pictures give, and how they are read."""
    given = record.given
    masks = {branch: one for branch, one in given.items() if one.mask is not None}
    found: dict[str, object] = {
        "give": {branch: _of(one.files, sample, find) for branch, one in given.items()},
        "mask": {branch: _of(one.mask or (), 0, find) for branch, one in masks.items()},
        "noise": {branch: one.noise for branch, one in given.items() if one.noise is not None},
        "hold": [branch for branch, one in given.items() if one.hold],
        "guide": [branch for branch, one in given.items() if one.guide],
    }
    for one in given.values():
        found |= {"depth_kind": one.kind, "fit": one.fit}
        break
    for one in masks.values():
        found |= {"mask_invert": one.invert, "mask_threshold": one.threshold}
        break
    return found


def _found(value: object, find: Find) -> object:
    """Recorded values with their pictures."""
    if value == {}:
        return None
    if not isinstance(value, Mapping):
        return value
    mapped = cast("Mapping[str, object]", value)
    if mapped.keys() == {"path", "sha256"}:
        return _picture(cast("Mapping[str, str]", mapped), find)
    return {key: _found(one, find) for key, one in mapped.items()}


def _of(files: Sequence[Mapping[str, str]], sample: int, find: Find) -> Kept | None:
    if not files:
        return None
    return _picture(files[sample if len(files) > 1 else 0], find)


def _picture(file: Mapping[str, str], find: Find) -> Kept | None:
    match = GIVEN.fullmatch(str(file.get("path")))
    kept = None if match is None else Kept(match[1], match[2])
    return kept if kept is not None and find(kept) else None


def _ends(window: Window) -> list[float]:
    """A window as a form says it: its end is 0."""
    return [window.from_t, max(window.to_t, 0.0)]
