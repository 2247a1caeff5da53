"""A style taken from another picture: the same things, drawn as that one is.

Picture and style are inverted to noise; on the way back the result asks the picture's questions
and finds the style's answers (style injection). Its prompt says nothing of the style. Text guidance
is off, since it would pull colours back to those of photographs.

    python -m examples --only style_of_picture
"""

import unicond
from unicond.pictures import Line
from unicond.world import World, render

SHOWN = "a yellow pill left of a red ball"
SCENES = World(3, style="photo", people=False, min_objects=2, max_objects=2)
STYLES = (
    (11, "blueprint", "a blueprint of a black cylinder and a purple box"),
    (11, "pastel", "a pastel drawing of a black cylinder and a purple box"),
    (5, "sketch", "a pencil sketch of a yellow cylinder and a blue pill"),
)
"""Number of the scene, how it is drawn, and what that picture shows."""


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    photo = render(SCENES[10], size=128).image[0]
    styles = [render(SCENES[row], size=128, style=style).image[0] for row, style, _ in STYLES]
    drawn = [
        unicond.edit(
            model,
            photo,
            SHOWN,
            source_prompt=SHOWN,
            method="style_injection",
            style=style,
            style_prompt=words,
            num_inference_steps=steps,
        )
        for style, (_, _, words) in zip(styles, STYLES, strict=True)
    ]
    return [
        Line("a picture, and three that show a style", [photo, *styles]),
        Line("the picture in each of the styles", [out.pictures["image"][0] for out in drawn]),
    ]
