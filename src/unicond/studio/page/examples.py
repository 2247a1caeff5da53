"""Examples that the embedded model makes in seconds."""

from collections.abc import Mapping

from PIL import Image

from unicond.pictures.examples import example_depths

_STEPS = 12
Told = Mapping[str, object]


def examples() -> dict[str, Told]:
    """All of them.

    Returns:
        {what it shows: what stands on the page}.
    """
    depth = {one.path.stem: one for one in example_depths()}
    ball, person = depth["ball_and_box"], depth["person"]
    prompt = "a red ball left of a blue box on grass"
    boxes = [
        {"phrase": "red ball", "box": [0.05, 0.4, 0.45, 0.8]},
        {"phrase": "blue box", "box": [0.55, 0.4, 0.95, 0.8]},
    ]
    usual = {"task": "generate", "steps": _STEPS}
    return {
        "image and depth from text": {**usual, "prompt": prompt},
        "depth to image": {**usual, "prompt": ball.prompt, "give": {"depth": _opened(ball.path)}},
        "a coarse depth": {
            **usual,
            "prompt": person.prompt,
            "give": {"depth": _opened(person.path)},
            "noise": {"depth": 0.4},
        },
        "the image first": {**usual, "prompt": prompt, "plan": "image-first"},
        "things in boxes": {
            "task": "layout",
            "steps": _STEPS,
            "prompt": "a red ball and a blue box on grass",
            "box": boxes,
        },
    }


def _opened(path: object) -> Image.Image:
    with Image.open(str(path)) as image:
        image.load()
        return image.copy()
