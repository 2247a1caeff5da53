"""The stage of grounding adapters: `adapters/gligen/`, `adapters/interact/`, `adapters/migc/`."""

from pathlib import Path

import torch

from unicond.adapters.grounding.config import Method
from unicond.adapters.hub import Card
from unicond.data.folders import fingerprint
from unicond.training import supplies
from unicond.training.cards import TrainingCard
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.grounding import GroundingTask
from unicond.training.loop import Task
from unicond.training.starting import go_on
from unicond.training.supplies import HELD, TRAIN
from unicond.training.workshop import Job, Save, Workshop, run

NOTES: dict[Method, str] = {
    "gligen": "Boxes are of what is seen of things; phrases are like `red ball`, `a red ball`, "
    "`ball`, `person`, `person in a red shirt`.",
    "interact": "Interactions are the scenes' relations (holding, pushing, sitting on, pointing "
    "at, on top of, left of, right of, in front of, behind) between things called like `red ball`, "
    "`a red ball`, `ball`, `person`, `person in a red shirt`.",
    "migc": "Boxes are of what is seen of things; phrases are like `red ball`, `a red ball`, "
    "`ball`, `person`, `person in a red shirt`.",
}
"""What a user of each adapter must know, for its card."""
SAME = ("method", "text", "tokens", "hidden", "slots", "heads")
"""Fields of the configuration that an adapter shares with the one that it starts from."""


def train_grounding(shop: Workshop, method: Method) -> Path:
    """Train a grounding adapter of the base: `adapters/<method>/`.

    Args:
        shop: where.
        method: whose adapter.

    Returns:
        The folder of weights.

    Raises:
        ValueError: the base is missing, or what it starts from is another adapter, or none.
    """
    config, base = (
        shop.changed(shop.recipes.grounding_of(method)),
        shop.parent("mini", "text2image"),
    )
    folder, parents = shop.weights / "adapters" / method, {"mini": fingerprint(base)}
    title = f"Grounding adapter of mini: {method}"
    job = Job(method, title, shop.command(method), folder, config, parents)

    def build() -> tuple[Task, Save]:
        loaded = supplies.Base.load(base, shop.device)
        adapter = config.adapter(loaded.parts["unet"], f"mini@{parents['mini']}")
        if shop.init is not None:
            go_on(adapter, shop.init, SAME)
        train, held = (
            supplies.placed(shop, loaded, seed, count, config.variants)
            for seed, count in ((TRAIN, config.scenes), (HELD, shop.recipes.held_scenes))
        )
        noising = Noising.of(mini_scheduler(), shop.device)
        task = GroundingTask(config, adapter, loaded.parts, noising, train, held)

        def save(folder: Path, card: TrainingCard) -> None:
            data = f"The embedded world. {NOTES[method]}"
            told = Card(data, card.command, card.scores, "apache-2.0", made=card.made)
            adapter.save_pretrained(folder, told, torch.float16)

        return task, save

    return run(shop, job, build)
