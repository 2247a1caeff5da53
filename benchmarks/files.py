"""Files that benchmarks write: looked at before anything is measured, whole or not at all."""

import argparse
import json
from pathlib import Path

from unicond.evaluation.tables import write_atomically
from unicond.pictures.files import check_output_folder


def json_file(said: str) -> Path:
    """A file of `--json`, which can be written.

    Args:
        said: on the command line.

    Returns:
        Its path.

    Raises:
        argparse.ArgumentTypeError: it is a folder, or its folder cannot be written to.
    """
    path = Path(said)
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give a file, as {path / 'table.json'}")
        check_output_folder(path.parent)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def write_json(path: Path, content: object) -> None:
    """Write what was measured."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")
