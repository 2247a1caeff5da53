"""Names of published tensors, brought to those of diffusers' layout, which are this package's.

The original naming numbers the blocks of the way down, and of the way up, in one row; its files are
of Stable Diffusion 1.x, which has two attention blocks a level on the way down and three on the way
up.
"""

import re

_OURS = re.compile(r"(?:.+\.)?((?:down_blocks|mid_block|up_blocks)\..+?)\.(fuser\..+)")
_OURS_MIGC = re.compile(
    r"(?:.+\.)?((?:down_blocks|mid_block|up_blocks)\..+?)\.attn2\..*?(migc\..+)"
)
_ORIGINAL = re.compile(
    r"(?:.+\.)?(input_blocks|middle_block|output_blocks)\.(\d+)\..*?((?:fuser|migc)\..+)"
)
_NET = re.compile(r"(?:.+\.)?(position_net\..+)")


def ours_of(name: str) -> str | None:
    """This package's name of a tensor of a published file, or None if it is none of grounding.

    >>> ours_of("output_blocks.4.1.transformer_blocks.0.fuser.alpha_attn")
    'up_blocks.1.attentions.1.transformer_blocks.0.fuser.alpha_attn'
    """
    if match := _NET.fullmatch(name):
        return match[1]
    if match := _OURS.fullmatch(name):
        return f"{match[1]}.{match[2]}"
    if match := _OURS_MIGC.fullmatch(name):
        return f"{match[1]}.attn2.{match[2]}"
    if match := _ORIGINAL.fullmatch(name):
        part = match[3] if match[3].startswith("fuser") else f"attn2.{match[3]}"
        return f"{_attention(match[1], int(match[2]))}.transformer_blocks.0.{part}"
    return None


def _attention(part: str, number: int) -> str:
    """The attention block of a number in the original naming of Stable Diffusion 1.x."""
    if part == "middle_block":
        return "mid_block.attentions.0"
    if part == "output_blocks":
        return f"up_blocks.{number // 3}.attentions.{number % 3}"
    return f"down_blocks.{(number - 1) // 3}.attentions.{(number - 1) % 3}"
