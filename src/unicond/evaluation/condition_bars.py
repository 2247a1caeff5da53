"""What is asked of an adapter's table: fidelity, estimation, pairs, and the roles of a held branch.

    range_covered       >= 0.75 under an aligned condition
    error_ratio         <= 1.5 of an estimated map
    agreement           >= 1.8 of pairs, depth and softedge
    ratio_to_two_way    upper end of its interval <= 1.05, one-way and aligned

Depth-metric, pose, identity and appearance have one of their own each.
"""

import math

from unicond.adapters.config import JointConfig
from unicond.conditions import Condition
from unicond.evaluation.bars import Bar, reaches, within
from unicond.evaluation.measures import FIDELITIES, ways

COVERED, ERROR, AGREEMENT, HELD = 0.75, 1.5, 1.8, 1.05
PAIRED = ("depth", "softedge")
"""Conditions whose pairs have a bar."""
_IMAGE, _DRAWING = "condition_to_image", "image_to_condition"
_OWN: dict[str, Bar] = {
    "depth-metric": Bar(
        "metric depth is read off an image without any alignment, AbsRel at most 0.12",
        reaches(_DRAWING, {"abs_rel": (0, 0.12)}),
        "what is left after a fit, and the specialist's error",
        ((_DRAWING, "abs_rel_fitted"), ("probe_real", "abs_rel")),
    ),
    "pose": Bar(
        "people stand as they are drawn, PCK@0.1 at least 0.60",
        reaches(_IMAGE, {"pck": (0.60, 1)}),
        "how many are seen at all",
        ((_IMAGE, "keypoints"),),
    ),
    "identity": Bar(
        "at least 0.70 of a person's attributes are the reference's, while pose and ground are the "
        "same in less than half of the pictures",
        reaches(_IMAGE, {"attributes": (0.70, 1), "same_pose": (0, 0.5), "same_ground": (0, 0.5)}),
        "text alone, and the other picture itself",
        (("text_only", "attributes"), ("probe_reconstruction", "attributes")),
    ),
    "appearance": Bar(
        "at least 0.75 of the colours are the reference's, while the layout's IoU is below 0.5",
        reaches(_IMAGE, {"colors": (0.75, 1), "layout_iou": (0, 0.5)}),
        "text alone, and the other frame itself",
        (("text_only", "colors"), ("probe_reconstruction", "colors")),
    ),
}
"""Bars that one condition alone has."""


def bars_of(condition: Condition, config: JointConfig) -> list[Bar]:
    """What is asked of a condition's table.

    Args:
        condition: what is paired with the image.
        config: of its adapter; held branches count in the roles that it was trained in.

    Returns:
        Its bars.
    """
    depth = condition.name == "depth"
    image, drawing = ("depth_to_image", "image_to_depth") if depth else (_IMAGE, _DRAWING)
    found: list[Bar] = []
    if condition.aligned:
        found += [
            Bar(
                "images under the condition close at least 75 % of the range from text alone to "
                "the autoencoder's reconstructions",
                reaches(image, {"range_covered": (COVERED, math.inf)}),
            ),
            Bar(
                "an estimated map has at most 1.5 times the specialist's error and that of reading "
                "back a reconstructed drawing",
                reaches(drawing, {"error_ratio": (0, ERROR)}),
            ),
        ]
    if condition.name in PAIRED:
        found.append(agreeing("joint"))
    found += [_OWN[condition.name]] if condition.name in _OWN else []
    roles = {image: "condition_held", drawing: "image_held"}
    names = [name for name, role in roles.items() if role in config.roles]
    one_way = [way for way in ways(condition, config) if way != "two_way"]
    metric = FIDELITIES[condition.name].metrics[0]
    return [*found, *(held_bar(name, way, metric) for name in names for way in one_way)]


def agreeing(name: str) -> Bar:
    """That what is made together belongs together.

    Args:
        name: of the row of pairs.

    Returns:
        The bar of its `agreement`.
    """
    return Bar(
        f"{name}: pairs made together agree at least 1.8 times better than shuffled ones",
        reaches(name, {"agreement": (AGREEMENT, math.inf)}),
    )


def held_bar(start: str, way: str, metric: str) -> Bar:
    """That a held branch which looks at nothing costs no fidelity.

    Args:
        start: of the row's name and of its two-way one's, "condition_to_image".
        way: "one_way" or "aligned".
        metric: whose errors are compared.

    Returns:
        The bar: the whole interval of its errors, over two-way's, is at most 1.05.
    """
    name = f"{start}_{way}"
    return Bar(
        f"{name} is as faithful as two-way",
        within(name, "ratio_to_two_way", high=HELD),
        "what is compared",
        ((name, metric), (f"{start}_two_way", metric)),
    )
