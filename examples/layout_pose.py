"""Things in boxes, and somebody in a pose: boxes say what is where, a skeleton how they stand.

Every box is drawn under its own phrase (MultiDiffusion's regions), all of it under the skeleton of
somebody who stands between two pills.

    python -m examples --only layout_pose
"""

import unicond
from unicond.pictures import Line
from unicond.world import World, draw_skeletons

PROMPT = "a person and two pills on grass"
BOXES = (
    ("a purple pill", 0.14, 0.4, 0.31, 0.65),
    ("a person in a yellow shirt and black trousers", 0.33, 0.1, 0.6, 0.98),
    ("an orange pill", 0.5, 0.45, 0.85, 0.68),
)
"""Left, top, right, bottom as shares of the picture."""


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    scene = World(5, style="photo", people=True, min_objects=1, max_objects=2)[5]
    skeleton = draw_skeletons([scene], (128, 128))[0]
    usual = {"count": 2, "num_inference_steps": steps}
    both = unicond.layout(model, PROMPT, BOXES, conditions={"pose": skeleton}, **usual)
    boxes = unicond.layout(model, PROMPT, BOXES, **usual)
    plain = model(PROMPT, pose=skeleton, branches=["image"], **usual)
    return [
        Line("given: boxes, and a skeleton", [both.before[0], skeleton]),
        Line("under both", list(both.pictures["image"])),
        Line("by the boxes alone", list(boxes.pictures["image"])),
        Line("by the skeleton alone", list(plain.pictures["image"])),
    ]
