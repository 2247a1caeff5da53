"""Files that pictures come from and go to: found with a helpful error, written whole or not at all.

A file is written under a temporary name and renamed, so that a reader (or Ctrl-C) never finds half
of one. Pictures that were given are remembered by their path and a hash of their content, so that a
rerun can tell whether they are still the same.
"""

import contextlib
import difflib
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FilePath = str | os.PathLike[str]


class PictureError(ValueError):
    """A picture, mask or depth map that cannot be used or written; the message says what to do."""


def existing_file(path: FilePath, extensions: Collection[str], what: str = "picture") -> Path:
    """Find a file that can be read, or say what is wrong with its name.

    Args:
        path: of the file; `~` is the home folder.
        extensions: those that are allowed, in lower case with their dot; a file without any passes.
        what: what the file should hold, for messages.

    Returns:
        The path of a file that is there and not empty.

    Raises:
        PictureError: it is missing, a folder, no plain file, empty, or of another kind.
    """
    found = Path(path).expanduser()
    if not os.path.exists(found):
        raise PictureError(f"the {what} {_short(found)} does not exist; {_near_names(found)}")
    if found.is_dir():
        inside = sorted(p.name for p in found.iterdir() if p.suffix.lower() in extensions)
        example = f", for example {inside[0]}" if inside else ""
        raise PictureError(
            f"{found} is a folder; give one {what} file ({len(inside)} are inside{example})"
        )
    if not found.is_file():
        raise PictureError(f"{found} is not a plain file; save the {what} to a file first")
    if found.suffix and found.suffix.lower() not in extensions:
        raise PictureError(
            f"{found} ends in {found.suffix}, which is not read as a {what}; convert it to one of "
            f"{' '.join(extensions)}"
        )
    if found.stat().st_size == 0:
        raise PictureError(f"the {what} {found} is empty (0 bytes); save it again")
    return found


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:80]}... ({len(text)} characters)"


def _near_names(missing: Path) -> str:
    folder = missing.parent
    if not os.path.isdir(folder):
        return f"neither does its folder {_short(folder)}"
    names = [path.name for path in folder.iterdir()]
    near = difflib.get_close_matches(missing.name, names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"nothing in {folder.resolve()} has a name like it"


@contextmanager
def whole_file(path: FilePath) -> Generator[BinaryIO]:
    """Write a file that is there in full only if the block ends well.

    Args:
        path: where it will be; missing folders are made, a file of that name is replaced.

    Yields:
        A binary file to write to.

    Raises:
        PictureError: the file cannot be written.
    """
    target = Path(path)
    unfinished = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            yield file
        os.replace(unfinished, target)
    except OSError as error:
        raise PictureError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def check_output_folder(path: FilePath) -> Path:
    """Try to write in a folder before any work is done, and leave nothing there.

    A file is really written and removed, below what is missing of the path, under another name:
    permission bits say nothing about root, read-only disks or quotas.

    Args:
        path: of the folder, which may be missing.

    Returns:
        The folder; what is missing of it still is.

    Raises:
        PictureError: it cannot be made, or nothing can be written there.
    """
    folder = Path(path).expanduser()
    whole = Path(os.path.realpath(folder))
    there = next(part for part in (whole, *whole.parents) if os.path.exists(part))
    aside = there / f".{secrets.token_hex(6)}.probe"
    try:
        place = aside / whole.relative_to(there)
        place.mkdir(parents=True)
        (place / "probe").touch()
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def make_output_folder(path: FilePath) -> Path:
    """Make a folder that can be written to.

    Args:
        path: of the folder; missing ones are made.

    Returns:
        The folder.

    Raises:
        PictureError: it cannot be made, or nothing can be written there.
    """
    folder = check_output_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(folder: Path, error: OSError) -> PictureError:
    in_way = next((p for p in (folder, *folder.parents) if p.is_file()), None)
    reason = f"{in_way} is a file" if in_way else error.strerror or str(error)
    return PictureError(
        f"cannot write to the output folder {folder}: {reason}; choose another folder"
    )


def fingerprint(path: FilePath) -> dict[str, str]:
    """What is recorded of a picture that was given.

    Args:
        path: of the file.

    Returns:
        {"path": as given, "sha256": of the content}, for the settings of what is made from it.

    Raises:
        PictureError: the file cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror or error}") from error
    return {"path": os.fspath(path), "sha256": digest}


def check_fingerprint(recorded: Mapping[str, str]) -> Path:
    """Find a picture that a result was made from, and make sure that it is the same.

    Args:
        recorded: what `fingerprint` returned.

    Returns:
        The path of the unchanged file.

    Raises:
        PictureError: the record is damaged, or the file is gone or has changed.
    """
    path, digest = recorded.get("path"), recorded.get("sha256")
    if not isinstance(path, str) or not isinstance(digest, str):
        raise PictureError(f"the record of a given picture needs path and sha256, not {recorded}")
    found = Path(path).expanduser()
    if not found.is_file():
        raise PictureError(
            f"the picture {path} that this was made from is not there (looked from {Path.cwd()}); "
            "run the command in the folder where it was made, or put the picture back"
        )
    now = fingerprint(path)["sha256"]
    if now != digest:
        raise PictureError(
            f"the picture {path} has changed since this was made (sha256 {now[:12]}, was "
            f"{digest[:12]}); put the old one back, or generate anew with the new one"
        )
    return found
