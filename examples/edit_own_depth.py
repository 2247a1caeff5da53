"""An edit under the picture's own depth: other colours, another ground, the same shapes.

The words of both prompts are aligned (prompt-to-prompt), so that only what they change is drawn
anew. With `keep=("depth",)` the model first reads the depth from the picture, then holds it as a
condition of the result: things keep their shapes and places.

    python -m examples --only edit_own_depth
"""

import unicond
from unicond.pictures import Line
from unicond.world import World, render

SCENES = World(3, style="photo", people=False, min_objects=2, max_objects=2)
EDITS = (
    (
        8,
        "a black pill in front of a brown box on sand",
        "a black pill in front of a purple box on sand",
    ),
    (
        3,
        "a green cone right of a brown box on grass",
        "a yellow cone right of a blue box on snow",
    ),
)
"""Number of the scene, what it shows, what it is to show."""


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    lines: list[Line] = []
    for number, shown, wanted in EDITS:
        photo = render(SCENES[number], size=128).image[0]
        usual = {"source_prompt": shown, "num_inference_steps": steps}
        words = unicond.edit(model, photo, wanted, **usual)
        kept = unicond.edit(model, photo, wanted, keep=("depth",), **usual)
        pictures = {
            shown: photo,
            "edited by words alone": words.pictures["image"][0],
            "its depth, as the model reads it": kept.pictures["depth"][0],
            "edited under that depth": kept.pictures["image"][0],
        }
        lines.append(Line(f"-> {wanted}", list(pictures.values()), list(pictures)))
    return lines
