"""The tasks inside PNGs as forms."""

from collections.abc import Mapping, Sequence
from typing import cast

from unicond.aggregation.mixing import even_weights
from unicond.studio.page.told import Told

NAMES: Mapping[str, str] = {
    "Generate": "generate",
    "Edit": "edit",
    "Restore": "restore",
    "Compose": "compose",
    "Layout": "layout",
    "Together": "aggregate",
}
"""{name of a task in a record: of its form}."""
RENAMED = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "conditions": "give",
    "step_sizes": "step_size",
}
"""{field of a task: of its form} where they differ."""
Bases = Mapping[str, str]


def told_of_task(recorded: Told, bases: Bases) -> dict[str, object]:
    """What a task was asked for.

    Args:
        recorded: what is said in `Record.task`, its pictures read.
        bases: {what `unicond.load` takes: the name that it is served under}.

    Returns:
        {field: value} of the form.
    """
    name = str(recorded["name"])
    found = {RENAMED.get(key, key): one for key, one in recorded.items() if key != "name"}
    if found.get("give", "") is None:
        found["give"] = {}
    if name == "Generate":
        found |= {"mask": found.pop("masks") or {}, "only": ["image"]}
    if name == "Layout":
        found |= _boxes(found.pop("boxes"))
    found.pop("head", None)  # a folder of the command line's user
    if name == "Compose":
        found |= _texts(found, bases)
    if name == "Together":
        found = _together(found, bases)
    return {**found, "task": NAMES[name]}


def _boxes(recorded: object) -> dict[str, object]:
    """Boxes in a list of rows, or a grounding."""
    if isinstance(recorded, Mapping):
        return {"boxes": dict(cast("Told", recorded)), "box": []}
    return {"box": _placed(cast("Sequence[object]", recorded), "phrase")}


def _texts(found: dict[str, object], bases: Bases) -> dict[str, object]:
    """Texts with their weights and in their places."""
    weights = cast("Mapping[str, float]", found.pop("texts") or {})
    masks = cast("Told", found.pop("masks") or {})
    places = _placed(cast("Sequence[object]", found.pop("regions")), "text")
    other = str(found["other"])
    return {
        "with": {text: weight for text, weight in weights.items() if weight >= 0},
        "without": {text: -weight for text, weight in weights.items() if weight < 0},
        "region": [*places, *({"text": text, "mask": mask} for text, mask in masks.items())],
        "other": bases.get(other, other),
    }


def _together(told: dict[str, object], bases: Bases) -> dict[str, object]:
    """Several models, each with what is its own."""
    own = {name: _numbered(told.pop(name)) for name in ("pictures", "prompts", "groundings")}
    names = cast("Sequence[str]", told.pop("models"))
    weights = list(cast("Sequence[float]", told.pop("weights", None) or even_weights(len(names))))
    first = cast("int", told.get("first", 1))
    members = list[object]()
    for number, name in enumerate(names):
        key = str(number + 1)
        member: dict[str, object] = {"name": name}
        if key in own["pictures"]:
            member["picture"] = own["pictures"][key]
        else:
            member["name"] = bases.get(name, name)
        if number + 1 != first:
            member["weight"] = weights.pop(0)
        for field, group in (("prompt", "prompts"), ("boxes", "groundings")):
            if key in own[group]:
                member[field] = own[group][key]
        members.append(member)
    found = {**told, "model": members, "mean": told.get("mean", "none")}
    if not isinstance(found["window"], Mapping):  # not a place
        first, stop = cast("Sequence[int]", found["window"])
        found["window"] = [first, stop - 1]
    if "grounding" in found:
        found["boxes"] = found.pop("grounding")
    return found


def _placed(rows: Sequence[object], text: str) -> list[object]:
    """Boxes as a form has them."""
    found = list[object]()
    for row in rows:
        phrase, *box = cast("Sequence[object]", row)
        found.append({text: phrase, "box": box})
    return found


def _numbered(recorded: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", recorded or {})
