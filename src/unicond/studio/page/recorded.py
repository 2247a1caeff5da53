"""The settings inside a PNG, as what stands on the page.

Pictures that were given come back where they lie in the reader's own jobs: nothing else that a file
names is read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from PIL import Image

from unicond.aggregation.mixing import even_weights
from unicond.calls.output import read_record
from unicond.calls.record import Record
from unicond.pictures.metadata import read_settings
from unicond.sampling.window import ALWAYS

Find = Callable[[str, str], Image.Image | None]
"""Finds a picture by its job's id and its name; None where it is not the reader's, or gone."""
GIVEN = re.compile(r"jobs/([0-9a-f]{32})/given/([0-9]+\.png)")
NAMES: Mapping[str, str] = {
    "Edit": "edit",
    "Restore": "restore",
    "Compose": "compose",
    "Layout": "layout",
    "Together": "aggregate",
}
"""{name of a task in a record: of its form}."""
_RENAMED = {"num_inference_steps": "steps", "guidance_scale": "guidance"}


def told_of_png(path: str, find: Find) -> dict[str, object]:
    """What a PNG was asked for.

    Args:
        path: of a PNG that unicond made.
        find: the pictures that were given.

    Returns:
        {field: value}, `task` among them.

    Raises:
        PictureError: it holds no settings, or damaged ones.
        ValueError: it was made by a task that has no tab.
    """
    settings, record = read_settings(path), read_record(path)
    seeds = _counted(record.seeds)
    if seeds is None or len(set(record.prompts)) > 1:
        sample = int(cast(int, settings.get("sample", 0)))
        seeds = (record.seeds[sample], 1)
        prompt = record.prompts[sample]
    else:
        prompt = record.prompts[0]
    if record.task is not None:
        return _task(record.task, find)
    return {**_generated(record, find), "prompt": prompt, "seed": seeds[0], "count": seeds[1]}


def _generated(record: Record, find: Find) -> dict[str, object]:
    found: dict[str, object] = {
        "task": "generate",
        "negative_prompt": record.negative_prompt,
        "size": list(record.size),
        "steps": record.num_inference_steps,
        "guidance": record.guidance_scale,
        "solver": record.solver,
        "condition_guidance": record.condition_guidance or None,
        "perturbed_guidance": record.perturbed_guidance or None,
        "plan": record.plan,
        "only": list(record.generated),
        "hold": [branch for branch, source in record.given.items() if source.hold],
    }
    if record.guidance_window != ALWAYS:
        found["guidance_window"] = [record.guidance_window.from_t, record.guidance_window.to_t]
    give, mask, noise = dict[str, object](), dict[str, object](), dict[str, object]()
    for branch, source in record.given.items():
        give[branch] = _first(source.files, find)
        if source.mask is not None:
            mask[branch] = _first(source.mask, find)
        if source.noise:
            noise[branch] = source.noise
    return {**found, "give": _there(give), "mask": _there(mask), "noise": noise}


def _task(recorded: Mapping[str, object], find: Find) -> dict[str, object]:
    name = str(recorded.get("name"))
    if name not in NAMES:
        raise ValueError(f"it was made by a task {name!r}; there are {', '.join(NAMES)}")
    told = {_RENAMED.get(key, key): one for key, one in recorded.items() if key != "name"}
    found = {key: _found(one, find) for key, one in told.items()}
    found["task"] = NAMES[name]
    if name in ("Compose", "Layout"):
        found["give"] = _there(cast("dict[str, object]", found.pop("conditions", {})))
    if name == "Layout":
        found["box"] = _boxes(found.pop("boxes"))
    if name == "Compose":
        texts = cast("dict[str, float]", found.pop("texts"))
        found["with"] = {text: weight for text, weight in texts.items() if weight >= 0}
        found["without"] = {text: -weight for text, weight in texts.items() if weight < 0}
        found["region"] = _placed(cast("list[object]", found.pop("regions")), "text")
    if name == "Together":
        found["model"] = _members(found)
        found["mean"] = found["mean"] or "none"
    return found


def _members(told: Mapping[str, object]) -> list[object]:
    pictures = cast("Mapping[str, object]", told["pictures"])
    prompts = cast("Mapping[str, object]", told["prompts"])
    names = cast("Sequence[str]", told["models"])
    weights = [None, *cast("Sequence[float]", told["weights"] or even_weights(len(names)))]
    return [
        {
            "name": name,
            "picture": pictures.get(str(number)),
            "prompt": prompts.get(str(number)),
            "weight": weight,
        }
        for number, (name, weight) in enumerate(zip(names, weights, strict=True), start=1)
    ]


def _boxes(recorded: object) -> list[object]:
    """The boxes of a list of rows, or of a grounding."""
    if isinstance(recorded, Mapping):
        boxes = cast("Sequence[Mapping[str, object]]", recorded["boxes"])
        return [{"phrase": one["phrase"], "box": one["box"]} for one in boxes]
    return _placed(cast("Sequence[object]", recorded), "phrase")


def _placed(rows: Sequence[object], text: str) -> list[object]:
    """Boxes as a form has them."""
    found = list[object]()
    for row in rows:
        phrase, *box = cast("Sequence[object]", row)
        found.append({text: phrase, "box": box})
    return found


def _found(value: object, find: Find) -> object:
    """Recorded values, their pictures read."""
    if not isinstance(value, Mapping):
        return value
    mapped = cast("Mapping[str, object]", value)
    if mapped.keys() == {"path", "sha256"}:
        return _first([cast("Mapping[str, str]", mapped)], find)
    return {key: _found(one, find) for key, one in mapped.items()}


def _first(files: Sequence[Mapping[str, str]], find: Find) -> Image.Image | None:
    match = GIVEN.fullmatch(str(files[0].get("path"))) if files else None
    return None if match is None else find(match[1], match[2])


def _there(pictures: Mapping[str, object]) -> dict[str, object]:
    return {name: one for name, one in pictures.items() if one is not None}


def _counted(seeds: Sequence[int]) -> tuple[int, int] | None:
    """(first, count) of seeds that count up; None of others."""
    up = all(seed == seeds[0] + n for n, seed in enumerate(seeds))
    return (seeds[0], len(seeds)) if up else None
