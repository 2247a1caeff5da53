"""The pictures of COCO-MIG as files, named as the official evaluation finds them.

    <image id, filled with zeros to six places>_<key>.png       the first picture of an entry
    <image id ...>-<n>_<key>.png                                its n-th further one

The evaluation reads the key after the last underscore and nothing else of the name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from unicond.evaluation.mig.bench import Bench, Entry
from unicond.pictures.files import PictureError
from unicond.pictures.reading import read_picture
from unicond.progress import progress

TOLD = 10
"""So many pictures are named in a message."""
Pictures = Mapping[str, Sequence[Path]]
"""{key of an entry: its pictures}, in the order of the bench, one or more an entry."""


def file_name(key: str, entry: Entry, sample: int = 0) -> str:
    """The name of a picture's file.

    Args:
        key: of the entry.
        entry: with the image's id.
        sample: which of its pictures, from 0.

    Returns:
        It.

    >>> one = {"bbox": (0, 0, 1, 1), "label": "a red bird"}
    >>> entry = Entry(caption="a photo of a red bird", segment=(one,), image_id="74711")
    >>> file_name("1", entry), file_name("1", entry, 2)
    ('074711_1.png', '074711-2_1.png')
    """
    return f"{entry.image_id:0>6}{f'-{sample}' if sample else ''}_{key}.png"


def found_pictures(folder: Path, bench: Bench, quiet: bool = False) -> Pictures:
    """Find all pictures of a bench and make sure that each can be read.

    Args:
        folder: with the pictures; files that belong to no entry are left alone.
        bench: the entries that are asked for.
        quiet: show no progress.

    Returns:
        The pictures.

    Raises:
        ValueError: it is no folder, an entry has no picture, or one cannot be read; all of them are
            counted, and the first named.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with the pictures of the bench")
    named: dict[str, list[Path]] = {key: [] for key in bench}
    for path in sorted(folder.glob("*.png")):
        named.get(path.stem.rpartition("_")[2], []).append(path)
    missing = [file_name(key, bench[key]) for key, paths in named.items() if not paths]
    every = [path for paths in named.values() for path in paths]
    broken: list[str] = []
    with progress("reading pictures", len(every), quiet=quiet) as tell:
        for number, path in enumerate(every, 1):
            try:
                read_picture(path)
            except PictureError as error:
                broken.append(str(error))
            tell(number)
    faults = [
        *counted(missing, len(bench), "entries have no picture"),
        *counted(broken, len(every), "pictures cannot be read"),
    ]
    if faults:
        raise ValueError(
            f"{folder} does not hold every picture of the bench. {'. '.join(faults)}. Make them, "
            "or score the first entries alone (--entries)"
        )
    return named


def counted(faults: Sequence[str], of: int, what: str) -> list[str]:
    """One sentence about faults, without its full stop; none where there are none.

    Args:
        faults: each in words; the first `TOLD` are told.
        of: how many things there are.
        what: is wrong.

    Returns:
        The sentence, or nothing.
    """
    more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
    told = "; ".join(faults[:TOLD])
    return [f"{len(faults)} of {of} {what}: {told}{more}"] if faults else []


def content_hash(pictures: Pictures) -> str:
    """Twelve hex digits of some pictures' names and content."""
    digest = hashlib.sha256()
    for path in (path for paths in pictures.values() for path in paths):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]
