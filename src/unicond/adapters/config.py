"""What is known about a joint adapter beside its weights: `adapter_config.json`."""

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, get_args

from unicond.adapters.stored import Page, StoredConfig
from unicond.sampling.schedules import PredictionType
from unicond.sampling.suits import Suits

PostJoint = Literal["conv", "conv_fuse"]
Attention = Literal["global", "aligned"]
Role = Literal["two_way", "condition_held", "image_held"]


@dataclass(frozen=True, kw_only=True)
class JointConfig(Suits, StoredConfig):
    """Everything about a joint adapter that its weights do not say.

    Args:
        x: name of the image branch.
        y: name of the condition branch.
        kind: what the condition shows: "depth", "edge", "pose", "id", ...
        rank: of the LoRA `xy` and `yx`, at least 1.
        y_rank: of the y-LoRA on the condition's own attention; 0 is none.
        y_conv_rank: of the y-LoRA on convolutions and feed-forward layers (see `maps`); 0 is none.
        post_joint: `"conv_fuse"` mixes image and condition token by token (aligned pairs), `"conv"`
            projects each apart (loosely related pairs).
        roles: what it was trained for: `"two_way"` (both branches move and look at each other),
            `"condition_held"` and `"image_held"` (that branch is fixed and looks at nothing).
        attention: how far a token was trained to see in the other picture: `"global"` everywhere,
            `"aligned"` around its own place; either or both.
        trigger: words put in front of the condition's prompt, with their separator.
        base: the network that it was made for: a Hub id or a name, with a hash where one is known.
        text: width of the prompts that this network hears; None is not known.
        prediction_type: what this network tells ("eps", "v", ...); None is not known.
        guidance_scale: see `Suits`.
        condition_guidance: see `Suits`.
        joint_plan: see `Suits`.
        estimation_steps: see `Suits`.
        estimation_noise: see `Suits`.
        estimation_ensemble: see `Suits`.

    Raises:
        ValueError: a field is outside of what is allowed.
    """

    TYPE: ClassVar[str] = "unicond.joint"
    FORMAT: ClassVar[int] = 1
    KIND: ClassVar[str] = "a joint adapter"
    TUPLES: ClassVar[tuple[str, ...]] = ("roles", "attention")
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "y_conv_rank",
        "text",
        "prediction_type",
        *(one.name for one in fields(Suits)),
    )

    x: str = "image"
    y: str = "depth"
    kind: str = "depth"
    rank: int = 64
    y_rank: int = 64
    y_conv_rank: int = 0
    post_joint: PostJoint = "conv_fuse"
    roles: tuple[Role, ...] = ("two_way",)
    attention: tuple[Attention, ...] = ("global",)
    trigger: str = ""
    base: str = "unknown"
    text: int | None = field(default=None, repr=False)  # tables are told apart by what is shown,
    prediction_type: PredictionType | None = field(default=None, repr=False)  # these change nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, minimum in (("rank", 1), ("y_rank", 0), ("y_conv_rank", 0)):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(
                    f"{name} is {value!r}; it must be an integer of at least {minimum}"
                )
        if self.text is not None and (type(self.text) is not int or self.text < 1):
            raise ValueError(f"text is {self.text!r}; it must be an integer of at least 1")
        if self.prediction_type not in (None, *get_args(PredictionType)):
            raise ValueError(
                f"prediction_type is {self.prediction_type!r}; allowed are "
                f"{get_args(PredictionType)}"
            )
        for name in ("x", "y", "kind", "base", "trigger"):
            value = getattr(self, name)
            if not isinstance(value, str) or (not value and name != "trigger"):
                raise ValueError(f"{name} is {value!r}; it must be a text that is not empty")
        if self.x == self.y:
            raise ValueError(f"x and y are both {self.x!r}; an adapter joins two branches")
        if self.post_joint not in get_args(PostJoint):
            raise ValueError(
                f"post_joint is {self.post_joint!r}; allowed are {get_args(PostJoint)}"
            )
        for name, known in (("roles", get_args(Role)), ("attention", get_args(Attention))):
            given: object = getattr(self, name)
            if not isinstance(given, tuple) or not given or len({*given}) < len(given):
                raise ValueError(
                    f"{name} are {given!r}; give a tuple of some of {known}, each once"
                )
            if {*given} - {*known}:
                raise ValueError(f"{name} are {given!r}; allowed are {known}")

    def page(self, base: str, where: str) -> Page:
        """What the adapter's card says of it (see `stored.Described`)."""
        return Page(
            title=f"Joint adapter: {self.x} and {self.y}",
            tags=("joint-adapter", self.kind),
            intro=(
                f"Made for `{self.base}`. Of `{self.x}` and `{self.y}`, what you give "
                "conditions, what you leave out is generated.",
                "",
                "```python",
                "import unicond",
                "",
                f'model = unicond.load("{base}", adapters=["{where}"])',
                f'out = model("a prompt", {self.y}="picture.png")',
                "```",
                "",
                "```sh",
                f'unicond generate --base "{base}" --adapter "{where}" '
                f'--give {self.y}=picture.png --prompt "a prompt"',
                "```",
            ),
            facts=(
                f"rank {self.rank}, y-LoRA rank {self.y_rank}"
                + (f" ({self.y_conv_rank} beyond attention)" if self.y_conv_rank else "")
                + f", {self.post_joint}",
                f"roles: {', '.join(self.roles)}",
                f"trigger words: `{self.trigger}`",
            ),
        )
