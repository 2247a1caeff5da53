"""Captions as token numbers: what the text-conditioned trainers draw from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from unicond.training.tokenizer import MAX_TOKENS, words_of
from unicond.world import World, describe

NORMAL_MAP = "normal map, "
"""In front of the caption of a picture of normals."""
TRIGGERS = "depth_map, normals_map, edges_map, skeleton_map, segmentation_map, edge pose mask id"
"""Words that later adapters put in front of their conditions' prompts."""
WORD_SCENES = 4000


def world_words() -> tuple[str, ...]:
    """Every word that captions can hold, and the trigger words."""
    scenes = World(seed=77).scenes(0, WORD_SCENES)
    texts = (describe(scene, variant).text for scene in scenes for variant in range(2))
    return words_of([*texts, NORMAL_MAP, TRIGGERS, "one two three four five six seven eight nine"])


def tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """(N, 77) int64; what is longer is cut."""
    return tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    ).input_ids


@dataclass(frozen=True)
class CaptionTable:
    """Token numbers of several wordings of every scene's caption.

    Args:
        table: (N, variants, 77) int16, or int32 where words have higher numbers.
        empty: (77,) int64, the empty prompt.
    """

    table: Tensor
    empty: Tensor

    @staticmethod
    def of(
        tokenizer: CLIPTokenizer,
        captions: Sequence[Sequence[str]],
        prefix: str = "",
        device: torch.device | str = "cpu",
    ) -> "CaptionTable":
        """The same number of wordings for each scene; `prefix` goes in front of every one."""
        texts = [prefix + text for wordings in captions for text in wordings]
        kind = torch.int16 if len(tokenizer) <= 2**15 else torch.int32
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        each = tokens(tokenizer, list(place)).to(kind)  # the slow part: none is read twice
        table = each[[place[text] for text in texts]].view(len(captions), -1, MAX_TOKENS)
        return CaptionTable(table.to(device), tokens(tokenizer, [""])[0].to(device))

    def drawn(self, rows: Tensor, dropped: Tensor, generator: torch.Generator) -> Tensor:
        """A random wording of each scene, or the empty prompt.

        Args:
            rows: (B,) scenes.
            dropped: (B,) bool, which become the empty prompt.
            generator: of the choice.

        Returns:
            (B, 77) int64.
        """
        which = torch.randint(
            self.table.shape[1], rows.shape, generator=generator, device=rows.device
        )
        return torch.where(dropped[:, None], self.empty, self.table[rows, which].long())
