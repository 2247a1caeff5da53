"""A small picture made large, then edited: what a task returns is a picture like any other.

Restoring looks for a picture that, made four times smaller, is the small one (DDNM). How noisy the
small one is must be said: 0.0023 is the rounding of files of 8 bits. `simulate=True` makes the
small one of a large one first, so that both can be compared; leave it out for your own files.

    python -m examples --only restore_then_edit
"""

import unicond
from unicond.pictures import Line
from unicond.world import World, render

SHOWN = "a yellow pill left of a red ball on a checker floor"
WANTED = "a yellow pill left of a purple ball on a checker floor"


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    scene = World(3, style="photo", people=False, min_objects=2, max_objects=2)[10]
    photo = render(scene, size=128).image[0]
    restored = unicond.restore(
        model, photo, "sr4", 0.0023, prompt=SHOWN, simulate=True, num_inference_steps=steps
    )
    edited = unicond.edit(
        model,
        restored.pictures["image"][0],
        WANTED,
        source_prompt=SHOWN,
        method="edit_friendly+p2p",
        keep=("depth",),
        num_inference_steps=steps,
    )
    pictures = {
        "given: 32 x 32": restored.before[0],
        f"restored: {SHOWN}": restored.pictures["image"][0],
        f"edited: {WANTED}": edited.pictures["image"][0],
        "what the small one was made of": photo,
    }
    return [Line("a small picture, restored, then edited", list(pictures.values()), list(pictures))]
