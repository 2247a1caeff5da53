"""What is known about a grounding adapter beside its weights: `adapter_config.json`."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from unicond.adapters.stored import Page, StoredConfig

Method = Literal["gligen", "interact", "migc"]

_WHAT = {
    "gligen": ("GLIGEN: phrases in boxes", "It puts things where boxes say."),
    "interact": (
        "InteractDiffusion: who does what to whom, and where",
        "It puts things where boxes say, and they do what interactions say.",
    ),
    "migc": (
        "MIGC: instances with attributes in boxes",
        "It puts things where boxes say, as their phrases say.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class GroundingConfig(StoredConfig):
    """Everything about a grounding adapter that its weights do not say.

    Args:
        method: `"gligen"` (text boxes), `"interact"` (subject, action, object) or `"migc"`
            (instances).
        text: width of a phrase's embedding.
        tokens: width of the tokens that the position net makes; of `"migc"`, `text`.
        hidden: width inside of the position net.
        slots: the most things it takes; GLIGEN's and InteractDiffusion's are filled up with
            nothings to this number.
        heads: of its attention, one number for all layers or one for each in the order of their
            names.
        base: the network that it was made for: a Hub id or a name, with a hash where one is known.

    Raises:
        ValueError: a field is outside of what is allowed.
    """

    TYPE: ClassVar[str] = "unicond.grounding"
    FORMAT: ClassVar[int] = 1
    KIND: ClassVar[str] = "a grounding adapter"
    TUPLES: ClassVar[tuple[str, ...]] = ("heads",)

    method: Method
    text: int = 768
    tokens: int = 768
    hidden: int = 512
    slots: int = 30
    heads: tuple[int, ...] = (8,)
    base: str = "unknown"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; allowed are {get_args(Method)}")
        numbers = {name: (getattr(self, name),) for name in ("text", "tokens", "hidden", "slots")}
        for name, values in {**numbers, "heads": self.heads}.items():
            if not values or not all(type(value) is int and value >= 1 for value in values):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give integers of at least 1")
        if not isinstance(self.base, str) or not self.base:  # pyright: ignore[reportUnnecessaryIsInstance] (of a file)
            raise ValueError(f"base is {self.base!r}; it must be a text that is not empty")
        if self.method == "gligen" and self.hidden != 512:
            raise ValueError(f"hidden is {self.hidden}; GLIGEN's position net has 512")
        if self.method == "migc" and self.tokens != self.text:
            raise ValueError(
                f"tokens is {self.tokens} and text {self.text}; MIGC's box tokens stand beside "
                "phrases, so that both must be the same"
            )

    def heads_of(self, number: int) -> int:
        """The heads of the layer of this number among its layers' names."""
        return self.heads[0] if len(self.heads) == 1 else self.heads[number]

    def page(self, base: str, where: str) -> Page:
        """What the adapter's card says of it (see `stored.Described`)."""
        title, does = _WHAT[self.method]
        return Page(
            title=title,
            tags=("grounding", self.method),
            intro=(
                f"Made for `{self.base}`. {does}",
                "",
                "```python",
                "import unicond",
                "",
                f'model = unicond.load("{base}", adapters={{"{self.method}": "{where}"}})',
                'boxes = [("a red ball", 0.1, 0.4, 0.4, 0.9)]  # left, top, right, bottom',
                f'out = unicond.layout(model, "a prompt", boxes, method="{self.method}")',
                "```",
                "",
                "```sh",
                f'unicond layout "a prompt" --base "{base}" --adapter {self.method}="{where}" '
                f"--method {self.method} --boxes boxes.json",
                "```",
            ),
            facts=(
                f"method: {self.method}, at most {self.slots} things",
                f"phrases of width {self.text}, tokens of width {self.tokens}",
            ),
        )
