"""UNIfied CONditional Diffusion: what you give conditions, what you leave out is generated.

The public names load their modules when they are first used, so that `unicond --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unicond.aggregation.together import aggregate
    from unicond.annotators.calling import annotate
    from unicond.calls.image_prompts import ImagePrompt
    from unicond.calls.output import Output
    from unicond.calls.prepared import Cancelled
    from unicond.calls.request import Given, Reference
    from unicond.grounding import Box, Grounding, Interaction
    from unicond.loading import load
    from unicond.mechanisms.guidance.gradients import AdamW
    from unicond.model import Model, given
    from unicond.sampling.solvers import SOLVERS
    from unicond.sampling.window import Window
    from unicond.tasks.registry import compose, edit, generate, layout, restore

__all__ = [
    "SOLVERS",
    "AdamW",
    "Box",
    "Cancelled",
    "Given",
    "Grounding",
    "ImagePrompt",
    "Interaction",
    "Model",
    "Output",
    "Reference",
    "Window",
    "aggregate",
    "annotate",
    "compose",
    "edit",
    "generate",
    "given",
    "layout",
    "load",
    "restore",
]

_HOMES = {
    "Box": "unicond.grounding",
    "Grounding": "unicond.grounding",
    "Interaction": "unicond.grounding",
    "ImagePrompt": "unicond.calls.image_prompts",
    "AdamW": "unicond.mechanisms.guidance.gradients",
    "Window": "unicond.sampling.window",
    "aggregate": "unicond.aggregation.together",
    "annotate": "unicond.annotators.calling",
    "compose": "unicond.tasks.registry",
    "edit": "unicond.tasks.registry",
    "generate": "unicond.tasks.registry",
    "layout": "unicond.tasks.registry",
    "restore": "unicond.tasks.registry",
    "load": "unicond.loading",
    "Cancelled": "unicond.calls.prepared",
    "Model": "unicond.model",
    "given": "unicond.model",
    "Output": "unicond.calls.output",
    "Given": "unicond.calls.request",
    "Reference": "unicond.calls.request",
    "SOLVERS": "unicond.sampling.solvers",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unicond' has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(_HOMES[name]), name)
