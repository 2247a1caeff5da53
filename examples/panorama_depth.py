"""A panorama under a wide depth map: a picture three times as wide as the model has ever drawn.

Overlapping windows are denoised side by side and averaged where they meet (MultiDiffusion). Each
sees its own part of the depth map. Masks say what stands where; the prompt says only the place, as
every window sees all of it.

    python -m examples --only panorama_depth
"""

import unicond
from unicond.pictures import Line
from unicond.world import Camera, Place, Scene, Solid, render

THINGS = (
    ("ball", "red", (0.9, 0.9, 0.9), -2.7, 0.0),
    ("box", "blue", (0.8, 0.8, 0.8), -1.4, 0.6),
    ("cone", "yellow", (0.9, 1.2, 0.9), 0.0, -0.3),
    ("cylinder", "green", (0.7, 1.1, 0.7), 1.4, 0.4),
    ("ball", "orange", (0.8, 0.8, 0.8), 2.7, 0.1),
)
"""Shape, colour, size, and where it stands: to the right, and towards us, in metres."""
PROMPT = "on snow at sunset"


def wide_scene() -> Scene:
    solids = tuple(
        Solid(shape, color, (right, size[1] / 2, near), size, yaw=25.0)
        for shape, color, size, right, near in THINGS
    )
    camera = Camera(position=(0.0, 2.2, 8.0), target=(0.0, 0.45, 0.0), fov=16.0)
    return Scene(0, 0, "photo", camera, Place("snow", "sunset", 60.0, 35.0), solids)


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    drawn = render(wide_scene(), size=(128, 384))
    depth, things = drawn.inverse_depth[0], drawn.instances[0]
    masks = {
        f"a {color} {shape}": (things == number).float()
        for number, (shape, color, *_) in enumerate(THINGS, start=1)
    }
    out = unicond.compose(
        model,
        PROMPT,
        method="panorama",
        conditions={"depth": depth},
        masks=masks,
        seed=3,
        num_inference_steps=steps,
    )
    return [
        Line("a wide depth map", [depth], [", ".join(masks)]),
        Line("-> a panorama", [out.pictures["image"][0]], [PROMPT]),
    ]
