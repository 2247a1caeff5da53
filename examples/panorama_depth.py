"""A panorama under a wide depth map: a picture four times as wide as the model has ever drawn.

Overlapping windows are denoised side by side and averaged where they meet (MultiDiffusion). Each
sees its own part of the depth map, but all of the prompt: let that say the place, not the things.

    python -m examples --only panorama_depth
"""

import unicond
from unicond.pictures import Line
from unicond.world import Camera, Place, Scene, Solid, render

THINGS = (
    ("ball", (0.9, 0.9, 0.9), -3.9, 0.0),
    ("box", (0.8, 0.8, 0.8), -2.6, 0.6),
    ("cone", (0.9, 1.2, 0.9), -1.2, -0.3),
    ("cylinder", (0.7, 1.1, 0.7), 0.1, 0.4),
    ("pill", (0.5, 1.1, 0.5), 1.4, -0.4),
    ("ball", (0.7, 0.7, 0.7), 2.7, 0.5),
    ("box", (0.9, 0.6, 0.7), 3.9, 0.0),
)
"""Shape, size, and where it stands: to the right, and towards us, in metres."""
PROMPT = "a photo on snow at sunset"


def wide_scene() -> Scene:
    solids = tuple(
        Solid(shape, "white", (right, size[1] / 2, near), size, yaw=25.0 * number)
        for number, (shape, size, right, near) in enumerate(THINGS)
    )
    camera = Camera(position=(0.0, 2.2, 8.0), target=(0.0, 0.45, 0.0), fov=16.0)
    return Scene(0, 0, "photo", camera, Place("snow", "sunset", 60.0, 35.0), solids)


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    wide = render(wide_scene(), size=(128, 512)).inverse_depth[0]
    out = unicond.compose(
        model,
        PROMPT,
        method="panorama",
        conditions={"depth": wide},
        seed=3,
        num_inference_steps=steps,
    )
    return [
        Line("a wide depth map", [wide]),
        Line("-> a panorama", [out.pictures["image"][0]], [PROMPT]),
    ]
