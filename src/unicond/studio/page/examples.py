"""Examples that the embedded model makes in seconds; their photographs are drawn when asked for."""

from collections.abc import Callable, Mapping

from PIL import Image

from unicond.pictures.examples import ExampleDepth, example_depths
from unicond.pictures.reading import to_pil
from unicond.studio.page.told import Told
from unicond.world import World, render

_STEPS = 12
_SIDE = 128
_PROMPT = "a red ball left of a blue box on grass"
_SCENE = World(3, style="photo", people=False, min_objects=2, max_objects=2)[3]
_SHOWN = "a green cone right of a brown box on grass"
_BOXES = [
    {"phrase": "red ball", "box": [0.05, 0.4, 0.45, 0.8]},
    {"phrase": "blue box", "box": [0.55, 0.4, 0.95, 0.8]},
]


def example(number: int) -> dict[str, object]:
    """What stands on the page of an example.

    Args:
        number: of `EXAMPLES`, from 0.

    Returns:
        {field: value}, `task` among them.
    """
    return {"steps": _STEPS, **list(EXAMPLES.values())[number]()}


def _depth_to_image() -> Told:
    ball = _depth("ball_and_box")
    return {"task": "generate", "prompt": ball.prompt, "give": {"depth": _opened(ball)}}


def _coarse() -> Told:
    person = _depth("person")
    return {
        "task": "generate",
        "prompt": person.prompt,
        "give": {"depth": _opened(person)},
        "noise": {"depth": 0.4},
    }


def _edited() -> Told:
    return {
        "task": "edit",
        "picture": _photo(),
        "source_prompt": _SHOWN,
        "prompt": "a yellow cone right of a blue box on snow",
    }


def _restored() -> Told:
    return {
        "task": "restore",
        "picture": _photo(),
        "prompt": _SHOWN,
        "operator": "inpaint-box",
        "noise_std": 0.0,
        "simulate": True,
    }


def _together() -> Told:
    ball = _depth("ball_and_box")
    members = [{"name": "depth", "picture": _opened(ball)}, {"name": "text", "weight": 0.5}]
    return {"task": "aggregate", "prompt": ball.prompt, "model": members}


EXAMPLES: Mapping[str, Callable[[], Told]] = {
    "image and depth from text": lambda: {"task": "generate", "prompt": _PROMPT},
    "depth to image": _depth_to_image,
    "image to depth": lambda: {"task": "generate", "image": _photo(), "only": ["depth"]},
    "a coarse depth": _coarse,
    "the image first": lambda: {"task": "generate", "prompt": _PROMPT, "plan": "image-first"},
    "an edit by words": _edited,
    "a hole that is filled": _restored,
    "things in boxes": lambda: {
        "task": "layout",
        "prompt": "a red ball and a blue box on grass",
        "box": _BOXES,
    },
    "a text in a picture, another kept out": lambda: {
        "task": "compose",
        "prompt": "grass",
        "with": {"a red ball": None},
        "without": {"a blue box": None},
    },
    "depth and text together": _together,
}
"""{what it shows: what stands on the page}."""


def _depth(name: str) -> ExampleDepth:
    return next(one for one in example_depths() if one.path.stem == name)


def _opened(one: ExampleDepth) -> Image.Image:
    with Image.open(one.path) as image:
        image.load()
        return image.copy()


def _photo() -> Image.Image:
    return to_pil(render(_SCENE, size=_SIDE).image[0])
