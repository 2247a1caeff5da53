"""Folders that are whole or not there, and hashes that tell one content from another."""

import hashlib
import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_VARIANT = re.compile(r"\w+\.\w+(-\d+-of-\d+)?\.safetensors|\w+\.safetensors\.index\.\w+\.json")
AT_ONCE = 2**24
"""Bytes of a file that are read at once; bases of full size have gigabytes."""


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """A temporary folder that becomes `folder` only if the block ends well.

    What was there before is replaced by a rename, so that a reader never finds half a folder.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def fingerprint(folder: Path) -> str:
    """A hash of the safetensors and JSON files in a folder and below, 12 hex digits.

    Cards (`card.json`) and sampling settings (`unicond.json`) do not count: they say how a content
    came about and how it is used, not what it is. Variants of weights (`model.fp16.safetensors`)
    do not where the weights themselves are beside them, which alone are read.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.safetensors"), *folder.rglob("*.json")]):
        if path.name not in ("card.json", "unicond.json") and not _is_spare(path):
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while part := file.read(AT_ONCE):
                    digest.update(part)
    return digest.hexdigest()[:12]


def _is_spare(path: Path) -> bool:
    """Whether a file is of a variant of weights that are beside it themselves."""
    beside = (one.name for one in path.parent.glob("*.safetensors"))
    return bool(_VARIANT.fullmatch(path.name)) and not all(map(_VARIANT.fullmatch, beside))
