"""The conditions that ship with the embedded world: what each pairs with an image, and how.

One table for training, evaluation and the commands. *Aligned* conditions are maps of the very same
view: their joint attention ends in one projection of both branches, and as they do not look like
photographs their branch carries a LoRA of its own and trigger words. What the first one learns of
places serves them all, so that the others start from depth's. *Loose* ones are other
pictures of the same person or the same things: each branch is projected apart, and the base alone
draws both. Source: UniCon, arXiv:2410.11439, section 5 and appendix B.
"""

from dataclasses import dataclass, field
from typing import Literal

from unicond.sampling.suits import Suits

Source = Literal[
    "depth",
    "metric_depth",
    "edges",
    "skeleton",
    "segmentation",
    "normals",
    "same_person",
    "other_frame",
]
Scenes = Literal["all", "people", "portraits"]
LOOSE: tuple[Source, ...] = ("same_person", "other_frame")
"""Sources that are other pictures, not maps."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition.

    Attributes:
        name: of the adapter and on the command line.
        source: the map that its pictures show, or which other picture they are.
        scenes: those that it can be learned and measured on: "people" have somebody in them,
            "portraits" exactly one person.
        trigger: in front of the prompts of its branch.
        starts_from: the condition whose adapter its training starts from, or "".
        kind: `JointConfig.kind`, where it is not the branch's name.
        coloured: its colours carry the meaning: a grey picture is none.
        suits: settings that its adapter of the mini model is sampled with.
        note: what a user of the adapter must know, for its card.
    """

    name: str
    source: Source
    scenes: Scenes = "all"
    trigger: str = ""
    starts_from: str = ""
    kind: str = ""
    coloured: bool = False
    suits: Suits = field(default=Suits())
    note: str = ""

    @property
    def branch(self) -> str:
        """The name of its branch, which a keyword argument can have."""
        return self.name.replace("-", "_")

    @property
    def aligned(self) -> bool:
        """Whether it shows the image's own view, pixel by pixel."""
        return self.source not in LOOSE

    @property
    def says_looks(self) -> bool:
        """Whether prompts beside it may say what people look like, which a picture can show."""
        return self.source != "same_person"

    @property
    def shows(self) -> str:
        """What its adapter's configuration says that it shows."""
        return self.kind or self.branch


CONDITIONS: tuple[Condition, ...] = (
    Condition(
        name="depth",
        source="depth",
        trigger="depth_map, ",
        note="Inverse depth, scaled from its least to its greatest value: near is white.",
    ),
    Condition(
        name="depth-metric",
        source="metric_depth",
        trigger="depth_map, ",
        starts_from="depth",
        kind="metric_depth",  # "depth..." would be stretched to its own range when it is read
        suits=Suits(estimation_steps=1, estimation_noise=0.0),
        note="Depth in metres on a logarithmic scale: 1 m is white, 40 m and the sky are black, "
        "value v in [0, 1] is 40 ** (1 - v) metres.",
    ),
    Condition(
        name="softedge",
        source="edges",
        trigger="edges_map, ",
        starts_from="depth",
        suits=Suits(
            guidance_scale=3.0,
            condition_guidance=4.0,
            joint_plan="curve(0.8)",  # edges are read better than drawn: the image goes ahead
            estimation_steps=1,
            estimation_noise=0.0,
        ),
        note="Soft edges in five levels, bright on black.",
    ),
    Condition(
        name="pose",
        source="skeleton",
        scenes="people",
        trigger="skeleton_map, ",
        coloured=True,
        starts_from="depth",
        suits=Suits(
            guidance_scale=5.0,
            condition_guidance=4.0,
            estimation_steps=4,
            estimation_ensemble=1,  # the mean of several skeletons is none
        ),
        note="Skeletons of everybody, in OpenPose's COCO-18 colours on black.",
    ),
    Condition(
        name="appearance",
        source="other_frame",
        suits=Suits(condition_guidance=1.0),
        note="Another frame of the same clip: the same things, seen from elsewhere.",
    ),
    Condition(
        name="identity",
        source="same_person",
        scenes="portraits",
        starts_from="appearance",
        suits=Suits(guidance_scale=5.0, condition_guidance=3.0),
        note="Another picture of the same person: other pose, place and light.",
    ),
    Condition(
        name="segmentation",
        source="segmentation",
        trigger="segmentation_map, ",
        coloured=True,
        starts_from="depth",
        suits=Suits(condition_guidance=2.0),
        note="Classes in the colours of `unicond.world.palette.CLASS_RGB`.",
    ),
    Condition(
        name="normals",
        source="normals",
        trigger="normal map, ",  # the base has seen some under these words
        coloured=True,
        starts_from="depth",
        note="Unit normals in the camera's frame as colours: x right, y up, z towards the camera.",
    ),
)
NAMES: tuple[str, ...] = tuple(condition.name for condition in CONDITIONS)


def named(name: str) -> Condition:
    """A condition by its name.

    Args:
        name: one of `NAMES`.

    Returns:
        The condition.

    Raises:
        ValueError: there is none of this name.
    """
    for condition in CONDITIONS:
        if condition.name == name:
            return condition
    raise ValueError(f"condition {name!r} is not known; choose one of {', '.join(NAMES)}")
