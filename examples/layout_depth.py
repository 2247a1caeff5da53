"""Things in boxes, in the shapes that a depth map gives: boxes say what, the map says how.

Every box is drawn under its own phrase (MultiDiffusion's regions), all of it under the depth of
somebody who stands between two pills. A skeleton goes the same way in a model with an adapter for
poses, which does not ship yet: `conditions={"pose": skeleton}` with `adapters=["pose"]`.

    python -m examples --only layout_depth
"""

import unicond
from unicond.pictures import Line
from unicond.world import World, render

PROMPT = "a person and two pills on grass"
BOXES = (
    ("a purple pill", 0.14, 0.4, 0.31, 0.65),
    ("a person in a yellow shirt and black trousers", 0.33, 0.1, 0.6, 0.98),
    ("an orange pill", 0.5, 0.45, 0.85, 0.68),
)
"""Left, top, right, bottom as shares of the picture."""


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    scene = World(5, style="photo", people=True, min_objects=1, max_objects=2)[5]
    depth = render(scene, size=128).inverse_depth[0]
    usual = {"count": 2, "num_inference_steps": steps}
    both = unicond.layout(model, PROMPT, BOXES, conditions={"depth": depth}, **usual)
    boxes = unicond.layout(model, PROMPT, BOXES, **usual)
    plain = model(PROMPT, depth=depth, branches=["image"], **usual)
    return [
        Line("given: boxes, and a depth map", [both.before[0], depth]),
        Line("under both", list(both.pictures["image"])),
        Line("by the boxes alone", list(boxes.pictures["image"])),
        Line("by the depth map alone", list(plain.pictures["image"])),
    ]
