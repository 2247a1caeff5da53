"""Adapter files, edited and refused."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from unicond.adapters.joint import JointAdapter

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def edit(path: Path, change) -> None:
    values = load_file(path)
    change(values)
    save_file(values, path)


def refuses(source: Path | str, message: str, error=ValueError, **options) -> None:
    with pytest.raises(error, match=message):
        JointAdapter.from_pretrained(source, **options)
