"""What is known about an image prompt adapter beside its weights: `adapter_config.json`."""

from dataclasses import dataclass
from typing import ClassVar

from unicond.adapters.stored import Page, StoredConfig


@dataclass(frozen=True, kw_only=True)
class ImagePromptConfig(StoredConfig):
    """Everything about an image prompt adapter that its weights do not say.

    Args:
        embedding: width of a picture's embedding (`projection_dim` of the image encoder).
        width: of the tokens that a picture becomes, and of the network's prompts.
        tokens: that a picture becomes.
        base: the network that it was made for: a Hub id or a name, with a hash where one is known.

    Raises:
        ValueError: a field is outside of what is allowed.
    """

    TYPE: ClassVar[str] = "unicond.image_prompt"
    FORMAT: ClassVar[int] = 1
    KIND: ClassVar[str] = "an image prompt adapter"

    embedding: int = 1024
    width: int = 768
    tokens: int = 4
    base: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("embedding", "width", "tokens"):
            value: object = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1")
        if not isinstance(self.base, str) or not self.base:  # pyright: ignore[reportUnnecessaryIsInstance] (of a file)
            raise ValueError(f"base is {self.base!r}; it must be a text that is not empty")

    def page(self, base: str, where: str) -> Page:
        """What the adapter's card says of it (see `stored.Described`)."""
        return Page(
            title="IP-Adapter: pictures as prompts",
            tags=("image-prompt", "ip-adapter"),
            intro=(
                f"Made for `{self.base}`. A picture says beside the words what is to be drawn, and "
                "in which style.",
                "",
                "```python",
                "import unicond",
                "",
                f'model = unicond.load("{base}", adapters={{"image-prompt": "{where}"}})',
                'out = model("a prompt", image_prompt="reference.png")',
                "```",
                "",
                "```sh",
                f'unicond generate --base "{base}" --adapter image-prompt="{where}" '
                '--image-prompt reference.png --prompt "a prompt"',
                "```",
            ),
            facts=(
                f"a picture becomes {self.tokens} tokens of width {self.width}",
                f"from an embedding of width {self.embedding}",
            ),
        )
