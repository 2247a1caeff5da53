"""What models are told of a layout of COCO-MIG's kind: boxes with labels, or with classes alone."""

from collections.abc import Sequence

from torch import Tensor

from unicond.evaluation.amdm.models import Wanted
from unicond.evaluation.mig.bench import Entry
from unicond.grounding import Box, Grounding


def of_entry(entry: Entry, plain: bool, look: Tensor | None = None) -> Wanted:
    """A picture of an entry.

    InteractDiffusion is told each thing as subject and as object of "and", as published.

    Args:
        entry: caption and boxes.
        plain: InteractDiffusion is told classes, and colours are in the caption alone; else labels.
        look: for image prompt adapters.

    Returns:
        What is asked.
    """
    labels = [one.label for one in entry.segment]
    things = [f"a {one.thing}" for one in entry.segment]
    colored = _grounding(entry, labels)
    return Wanted(entry.caption, _grounding(entry, things) if plain else colored, colored, look)


def _grounding(entry: Entry, phrases: Sequence[str]) -> Grounding:
    boxes = zip(phrases, entry.segment, strict=True)
    return Grounding(tuple(Box(phrase, one.bbox) for phrase, one in boxes))
