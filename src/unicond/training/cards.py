"""Cards: what made a folder of weights, beside it as `card.json` and, to be read, `README.md`.

A card's key is a hash of the recipe and of the parents' contents. Weights whose card has the key
that would be made now are up to date and are not trained again.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import torch

from unicond.conditions import NAMES
from unicond.training import processes

FILE = "card.json"


@dataclass(frozen=True, kw_only=True)
class TrainingCard:
    """What made some weights.

    Args:
        title: what they are, in a few words.
        command: that makes them again.
        key: see the module.
        seed: of the training.
        seconds: of training steps.
        steps: of the optimiser.
        hardware: where it ran.
        scores: on held-out scenes.
        earlier: the runs before this one, whose weights it started from, the first one first.
        parents: {name: fingerprint} of what they, and the runs before, were trained on and started
            from; "" where it is not known any more.
        recipe: the whole configuration.
        precision: of the training's last sitting: `"bf16"`, `"fp16"`, or `"no"`, float32; "" where
            it is not known.
    """

    title: str
    command: str
    key: str
    seed: int
    seconds: float
    steps: int
    hardware: str
    scores: Mapping[str, float]
    earlier: Sequence[str] = ()
    parents: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    precision: str = ""

    @property
    def took(self) -> str:
        """Steps, time, machine and seed in one line."""
        minutes = self.seconds / 60
        return f"{self.steps} steps, {minutes:.0f} minutes, {self.hardware}, seed {self.seed}."

    @property
    def made(self) -> str:
        """What it took, the runs before it, and the adapter that the first of them started from."""
        before = [f"- {run}" for run in self.earlier]
        lines = [self.took, *(["", "Before it:", "", *before] if before else [])]
        for name in NAMES:
            if name in self.parents:
                adapter = "@".join(filter(None, (name, self.parents[name])))
                first = "The first run" if before else "It"
                lines += ["", f"{first} started from the adapter {adapter}."]
        return "\n".join(lines)

    @property
    def run(self) -> str:
        """The command, and what it took."""
        return f"`{self.command}`: {self.took}"

    def write(self, folder: Path) -> None:
        """Write `card.json` and `README.md`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")
        lines = [f"# {self.title}", "", "Trained on the embedded world by"]
        lines += ["", f"    {self.command}", ""]
        lines += [self.made]
        lines += ["", "| held-out score | |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4g} |" for name, value in self.scores.items()]
        lines += ["", "Licence: Apache-2.0.", ""]
        if not (folder / "README.md").exists():  # an adapter has written one of its own
            (folder / "README.md").write_text("\n".join(lines))


def key(recipe: object, parents: Mapping[str, str]) -> str:
    """A hash of a configuration (a dataclass) and the parents' fingerprints, 16 hex digits."""
    assert is_dataclass(recipe)
    assert not isinstance(recipe, type)
    text = json.dumps({"recipe": asdict(recipe), "parents": dict(parents)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(recipe: object) -> dict[str, object]:
    """A configuration as JSON holds it."""
    assert is_dataclass(recipe)
    assert not isinstance(recipe, type)
    return json.loads(json.dumps(asdict(recipe)))


def read(folder: Path) -> TrainingCard | None:
    """The card of a folder of weights; None where there is none."""
    if not (folder / FILE).exists():
        return None
    return TrainingCard(**json.loads((folder / FILE).read_text()))


def up_to_date(folder: Path, wanted: str) -> bool:
    """Whether a folder holds weights of this key."""
    try:
        return json.loads((folder / FILE).read_text()).get("key") == wanted
    except (OSError, ValueError):
        return False


def hardware(device: torch.device) -> str:
    """What a device is called, and how many processes share the work."""
    count = processes.this_process().num_processes
    many = f"{count} processes, each " if count > 1 else ""
    if device.type == "cuda":
        return many + torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    return f"{many}{torch.get_num_threads()} threads of {name}"
