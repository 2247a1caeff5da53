"""What the catalogue says of network calls is what the commands that it names make."""

import re

import pytest
import torch

from unicond.mechanisms.catalogue import CATALOGUE
from unicond.tasks import layout, restorers
from unicond.tasks.filled import Filled
from unicond.tasks.form_parts import Picture
from unicond.tasks.forms import ANY

STEPS = 4
NEW, OLD = "a red ball and a blue box", "a red ball and a red box"
BOXES = (("red ball", [0.0, 0.25, 0.5, 1.0]), ("blue box", [0.5, 0.5, 1.0, 1.0]))
REGIONS = [{"text": text, "box": box} for text, box in BOXES]
WINDOWS = 3  # of a picture twice as wide as the base's, half a window apart
HALF = torch.cat([torch.zeros(1, 64, 32), torch.ones(1, 64, 32)], -1)
SEEN = {
    "image": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1,
    "small": torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1,
    "style": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1,
    "half": HALF,
}


def shown(name):
    return Picture(upload=name)


DEPTH = {"depth": shown("style")}
SPOILT = {
    "sr": {"picture": shown("small"), "operator": "sr4"},
    "mask": {"picture": shown("image"), "operator": "mask", "mask": shown("half")},
}
"""{kind: a measurement}."""
TOLD = {
    "edit": {"picture": shown("image"), "prompt": NEW, "source_prompt": OLD, "strength": 1.0},
    "generate": {"prompt": NEW, "only": ["image"]},
    "compose": {"prompt": NEW},
    "layout": {"prompt": NEW, "box": [{"phrase": text, "box": box} for text, box in BOXES]},
    "restore": {"noise_std": 0.0},
    "generate --guidance": {"guidance": 2.0},
    "generate --condition-guidance": {**DEPTH, "condition_guidance": 2.0, "cache": False},
    "generate --perturbed-guidance": {"perturbed_guidance": 2.0},
    "generate --reconstruction-weight": {
        "image": shown("image"),
        "mask": {"image": shown("half")},
        "reconstruction_weight": 0.5,
    },
    "generate --guide": {**DEPTH, "guide": ["depth"], "only": ["image", "depth"]},
    "generate --mask": {"image": shown("image"), "mask": {"image": shown("half")}},
    "generate --method readout": DEPTH,
    "layout --method readout": DEPTH,
    "edit --method style_injection": {"style": shown("style")},
    "edit --method null_text+*": {"guidance": 2.0, "steps": 2},  # its fit is slow
    "compose --method composable": {"with": {OLD: 2.0}},
    "compose --method semantic": {"with": {OLD: 2.0}},
    "compose --method magic_fusion": {"with": {OLD: 1.0}, "other": "served"},
    "compose --method multidiffusion": {"region": REGIONS},
    "compose --method noise_collage": {"region": REGIONS},
    "compose --method panorama": {"size": (64, 128)},
    "compose --method blended": {"region": REGIONS, "picture": shown("image")},
}
"""{a task, or one way to ask for something: what it is told beside}."""
BRANCHES = {
    "generate --condition-guidance": 2,
    "generate --guide": 2,
    "edit --method null_text+*": 2,
}
"""{a way: rows of one prediction}, of branches or of text guidance."""
APART = STEPS - 1 + 1 + len(BOXES)  # one of the four is the first fifth
COUNTED = {
    "the inversion's": (2 * STEPS, 2),
    "all rows twice, of source and target": (STEPS, 2 * 3),
    "1 a window, with regions those of regions a window": (WINDOWS * STEPS, 1),
    "in the first fifth of the steps 1 + 1 a region": (APART, 3),
    "1 + 1 row a region, 1 where there is one": (STEPS, 3),
    "1 + 1 row an object": (STEPS, 3),
    "1 + 1 row, and 1 of the other model with 2 rows": (2 * STEPS, 2),
    "2 in the middle of the run, else 1, gradient": (STEPS + 2, 1),
    "5 (each fifth of the steps is gone so often)": (5 * (STEPS - 1) + 1, 1),
    "1 in the last 0.6 of the steps (0.4 of smaller pictures)": (2, 1),
    "2 (up and down), and 10 of 2 rows once": (10 + 2 * STEPS, 2),
}
"""{what the catalogue says: (calls, rows of the largest)}; what is not here is plain numbers."""


def counted(words):
    """Calls and rows, of one concept, edit, ..."""
    rows = 1 + sum(int(one) for one in re.findall(r"\+ (\d+) row", words))
    return COUNTED.get(words) or (int(re.findall(r"\d+", words)[0]) * STEPS, rows)


def form_of(way, **more):
    task, option, *name = way.split()
    told = {"task": task, "steps": STEPS, "guidance": 1.0, **TOLD[task], **TOLD.get(way, {})}
    if option == "--method":
        told["method"] = name[0].replace("*+", "direct+").replace("+*", "")
    if task == "restore":
        kinds = restorers.METHODS[name[0]][1]
        told |= SPOILT["sr" if "sr" in kinds else "mask"]
    return ANY.validate_python({**told, **more})


@pytest.fixture
def paid(tiny, tiny_base, monkeypatch):
    """The calls of a form: (rows, whether a gradient runs through), also of other models."""
    monkeypatch.setattr("unicond.tasks.compose.load", lambda *_, **__: tiny)

    def run(form):
        calls = []

        def note(_, args):
            calls.append((len(args[0]), any(value.requires_grad for value in args)))

        hook = tiny.backbone.network.register_forward_pre_hook(note)
        try:
            Filled(form, lambda one: SEEN[one.upload], {"served": str(tiny_base)}).run(tiny)
        finally:
            hook.remove()
        return calls

    return run


SEGMENTED = "layout --method segmented_regions"
"""`regions`, under a condition that the tiny model has no adapter for."""
WAYS = [(entry, way) for entry in CATALOGUE for way in entry.asked if way != SEGMENTED]


@pytest.mark.parametrize(("entry", "way"), WAYS, ids=[f"{one.name}-{way}" for one, way in WAYS])
def test_a_command_makes_the_calls_that_are_said(paid, head_ships, entry, way):
    words, calls = entry.paid(way), paid(form_of(way))
    number, rows = counted(words)
    if words.startswith("up to"):
        assert STEPS < len(calls) <= number, words
    else:
        assert len(calls) == number, words
    assert max(row for row, _ in calls) == BRANCHES.get(way, 1) * rows, words
    assert any(gradient for _, gradient in calls) == (", gradient" in words), words


def test_regions_under_a_segmentation_are_regions():
    assert layout.METHODS["segmented_regions"] is layout.METHODS["regions"]


def test_regions_of_panoramas_and_single_places(paid):
    wide = form_of("compose --method panorama", region=REGIONS)
    assert len(paid(wide)) == WINDOWS * APART
    alone = paid(form_of("compose --method blended", region=REGIONS[:1]))
    assert alone == [(1, False)] * STEPS
