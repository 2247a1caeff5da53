"""Adapters as folders and as repositories on the Hugging Face Hub.

A folder holds `adapter_config.json` (what the weights do not say), `adapter_model.safetensors` (the
weights) and `README.md` (the card: data, command, scores, licence).
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from unicond.adapters import released, stored
from unicond.adapters.config import JointConfig

CONFIG_FILE = "adapter_config.json"
MODEL_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Card:
    """What a reader must know of an adapter's making.

    Args:
        data: what it was trained on.
        command: the command that trained it.
        scores: {metric: value}, with the command that measured them among `command`'s lines.
        licence: as the Hub writes it, for example "apache-2.0".
        where: the adapter lies, in the commands that use it.
        made: steps, time, machine and seed of the training, in one line.
    """

    data: str = "not stated"
    command: str = "not stated"
    scores: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    licence: str = "unknown"
    where: str = "<this folder or repository>"
    made: str = ""

    def render(self, config: stored.Described) -> str:
        """The text of `README.md`."""
        is_repo = re.fullmatch(r"[\w.-]+/[\w.-]+", config.base)
        base = re.sub(r"@[0-9a-f]{12}$", "", config.base)  # an embedded model has its hash there
        page = config.page(base, self.where)
        scores = [f"| {name} | {value} |" for name, value in self.scores.items()]
        return "\n".join(
            [
                "---",
                "library_name: unicond",
                f"license: {self.licence}",
                *([f"base_model: {config.base}"] if is_repo else []),
                f"tags: [{', '.join(('unicond', *page.tags))}]",
                "---",
                "",
                f"# {page.title}",
                "",
                *page.intro,
                "",
                *(f"- {fact}" for fact in page.facts),
                "",
                "## Data",
                "",
                self.data,
                "",
                "## Command",
                "",
                "```",
                self.command,
                "```",
                "",
                *([self.made, ""] if self.made else []),
                "## Scores",
                "",
                *(["| metric | value |", "|---|---|", *scores] if scores else ["Not measured."]),
                "",
            ]
        )


def write(
    folder: Path,
    config: stored.Described,
    values: Mapping[str, Tensor],
    card: Card | None,
    dtype: torch.dtype | None,
) -> None:
    """Write an adapter's files (see `stored.write`).

    Args:
        folder: created where missing.
        config: what the weights do not say.
        values: {parameter name: weight}.
        card: None keeps a card that is there already.
        dtype: of the file; as the weights are where None.

    Raises:
        OSError: the files cannot be written (a full disk).
        ValueError: a weight is not finite (in `dtype`).
    """
    beside: dict[str, str] = {}
    if card is not None or not (folder / CARD_FILE).exists():
        beside[CARD_FILE] = (card or Card()).render(config)
    stored.write(folder, (MODEL_FILE, values), (CONFIG_FILE, config.to_json()), beside, dtype)


def half_written(folder: Path) -> set[str]:
    """Names of the temporary files that a killed writer has left (see `stored.half_written`)."""
    return stored.half_written(folder, (CONFIG_FILE, MODEL_FILE, CARD_FILE))


def read(
    source: str | Path, subfolder: str | None, revision: str | None, kind: str | None
) -> tuple[JointConfig, Mapping[str, Tensor]]:
    """Read an adapter of either layout from a folder or the Hub.

    Args:
        source: a folder, or the id of a repository.
        subfolder: inside of it.
        revision: of the repository.
        kind: of the condition, for released folders whose name does not tell.

    Returns:
        The configuration and {parameter name: weight}.

    Raises:
        FileNotFoundError: there is nothing of that name, or a file is missing.
        ValueError: a file cannot be read.
    """
    names = (CONFIG_FILE, MODEL_FILE, "model.pth", "*_lora/*.safetensors")
    folder = locate(source, subfolder, revision, names)
    if (folder / CONFIG_FILE).is_file():
        path = folder / CONFIG_FILE
        config = JointConfig.from_json(path.read_text(encoding="utf-8"), str(path))
        return config, released.load_tensors(folder / MODEL_FILE)
    if released.is_released(folder):
        return released.read(folder, kind)
    found = sorted(path.name for path in folder.iterdir())[:8]
    raise FileNotFoundError(
        f"{folder} is no joint adapter: it has neither {CONFIG_FILE} nor model.pth of the released "
        f"layout, but {found}"
    )


def locate(
    source: str | Path, subfolder: str | None, revision: str | None, names: Sequence[str]
) -> Path:
    """The folder of an adapter, downloaded where there is none of that name here.

    Args:
        source: a folder, or the id of a repository.
        subfolder: inside of it.
        revision: of the repository.
        names: the files to be had from a repository, with wildcards.

    Returns:
        A folder that is there.

    Raises:
        FileNotFoundError: there is no such folder or repository.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        prefix = f"{subfolder.strip('/')}/" if subfolder else ""
        root = download(str(source), revision, [prefix + name for name in names])
    folder = root / subfolder if subfolder else root
    if not folder.is_dir():
        raise FileNotFoundError(f"{source} has no folder {subfolder!r}")
    return folder


def find(
    source: str | Path,
    subfolder: str | None,
    revision: str | None,
    names: Sequence[str],
    endings: tuple[str, ...],
) -> Path:
    """A published file, or the folder of an adapter (see `locate`).

    Args:
        source: a file, a folder, or the id of a repository.
        subfolder: inside of it, or a file.
        revision: of the repository.
        names: the files to be had from a repository for a folder, with wildcards.
        endings: of published files.

    Returns:
        A file or a folder that is there.

    Raises:
        FileNotFoundError: there is nothing of that name.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if subfolder is not None and subfolder.endswith(endings):
        root = path if path.is_dir() else download(str(source), revision, [subfolder])
        if not (root / subfolder).is_file():
            raise FileNotFoundError(f"{source} has no file {subfolder!r}")
        return root / subfolder
    if path.suffix in endings:
        raise FileNotFoundError(f"{path} is missing")
    return locate(source, subfolder, revision, names)


def download(repo_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Some files of a repository on the Hub, as a folder; FileNotFoundError says why not."""
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[*patterns]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"{repo_id!r} is not a folder here, and could not be had from the Hugging Face Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def push(
    repo_id: str,
    config: stored.Described,
    values: Mapping[str, Tensor],
    card: Card | None,
    dtype: torch.dtype | None,
    private: bool | None,
) -> str:
    """Upload an adapter to the Hub in one commit.

    Args:
        repo_id: created where missing.
        config: what the weights do not say.
        values: {parameter name: weight}.
        card: what the README says.
        dtype: of the file.
        private: of a new repository; None is the account's default.

    Returns:
        The address of the commit.
    """
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), config, values, card, dtype)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
