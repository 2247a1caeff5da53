"""Two objects composed with "not" a third.

Every text is an expert of its own, and their product is drawn (composable diffusion): a positive
weight joins, a negative one keeps out. The prompt names all three things, and the seeds are the
same in every line, so that what changes is the work of the weights.

    python -m examples --only compose_not
"""

import unicond
from unicond.pictures import Line

PROMPT = "a red ball and a yellow pill and a blue box on grass"
TWO = {"a red ball": 2.0, "a yellow pill": 2.0}
THIRD = "a blue box"


def draw(model: unicond.Model, steps: int = 20) -> list[Line]:
    usual = {"seed": 1, "count": 4, "guidance_scale": 3.0, "num_inference_steps": steps}
    plain = model(PROMPT, branches=["image"], **usual)
    two = unicond.compose(model, PROMPT, texts=TWO, **usual)
    without = unicond.compose(model, PROMPT, texts={**TWO, THIRD: -3.0}, **usual)
    return [
        Line(PROMPT, list(plain.pictures["image"])),
        Line(f"and {' and '.join(TWO)}", list(two.pictures["image"])),
        Line(f"and {' and '.join(TWO)}, not {THIRD}", list(without.pictures["image"])),
    ]
