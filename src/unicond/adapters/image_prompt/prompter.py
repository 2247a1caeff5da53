"""An image prompt adapter and the encoder that it looks through: what a run needs of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unicond.adapters import hub
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.encoder import FOLDER, ImageEncoder


@dataclass(frozen=True, eq=False)
class Prompter:
    """Pictures as prompts.

    Args:
        adapter: of the network.
        encoder: that it was made for.

    Raises:
        ValueError: the encoder's embeddings are of another width.
    """

    adapter: ImagePromptAdapter
    encoder: ImageEncoder

    def __post_init__(self) -> None:
        if self.encoder.width != self.adapter.config.embedding:
            raise ValueError(
                f"the image encoder's embeddings have width {self.encoder.width}, but this adapter "
                f"takes {self.adapter.config.embedding}: it was made for another encoder"
            )

    @classmethod
    def from_pretrained(cls, source: str | Path, subfolder: str | None = None) -> "Prompter":
        """Load an adapter and the encoder in `image_encoder/` beside it.

        Args:
            source: a folder, a file, or the id of a Hub repository.
            subfolder: inside of it, or a file in a repository.

        Returns:
            Both, on the CPU, for inference.

        Raises:
            FileNotFoundError: there is no such folder, file or repository, or no encoder beside it.
            ValueError: the files are damaged, or do not belong together.
        """
        adapter = ImagePromptAdapter.from_pretrained(source, subfolder)
        return cls(adapter, ImageEncoder.beside(source, subfolder))

    def save_pretrained(
        self, folder: str | Path, card: hub.Card | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Write the adapter's files into a folder, and the encoder's into `image_encoder/` there.

        Args:
            folder: created where missing; each file replaces its older version at once.
            card: what the README says about data, command, scores and licence.
            dtype: of the files, for example `torch.float16`; as they are where None.

        Raises:
            OSError: the files cannot be written (a full disk).
            ValueError: a weight is not finite (in `dtype`).
        """
        self.encoder.save_pretrained(Path(folder) / FOLDER, dtype)
        self.adapter.save_pretrained(folder, card, dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Prompter":
        """The same on a device; the encoder keeps its dtype."""
        self.adapter.to(device, dtype)
        self.encoder.model.to(device)  # pyright: ignore[reportArgumentType] (transformers' own type)
        return self

    def embeds(self, pictures: Sequence[Tensor]) -> Tensor:
        """(1, n, embedding): what all samples look at.

        Args:
            pictures: (3, H, W) each, in [-1, 1], of any sizes.

        Returns:
            Embeddings in the adapter's dtype.
        """
        weight = next(self.adapter.parameters())
        return self.encoder.embed(pictures)[None].to(weight)
