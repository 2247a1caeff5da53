"""Miniature runs of a joint adapter that each lack something: UniCon's ablations.

    full                          as it is trained, but shorter
    no_condition_loss             the condition's errors do not count
    no_condition_noise            nor is it ever noisy: always held, exactly clean
    two_way                       both branches always move and look at each other, as published
    decoder                       joint attention in the decoder (and the middle) only
    steps_1_4, steps_1_2          a share of the training steps
    data_1_16, data_1_4           a share of the scenes
    ..._no_condition_loss         data scale, crossed with the loss of the condition

Without its loss a held image teaches nothing, so that the pairs play the other two roles. Joint
attention is left out of a layer by keeping its output projection at zero, where it starts.

Source: UniCon, arXiv:2410.11439, table 3 and figure 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from typing_extensions import override

from unicond import conditions
from unicond.adapters.config import Role
from unicond.adapters.hub import Card
from unicond.adapters.joint import JointAdapter
from unicond.data.folders import fingerprint
from unicond.training.budget import Budget
from unicond.training.cards import TrainingCard
from unicond.training.joint import JointTask, JointTrainingConfig, Shown
from unicond.training.loop import Task
from unicond.training.roles import Draw
from unicond.training.stages import joint_task
from unicond.training.workshop import Job, Save, Workshop, run

SCENES = 16384
"""Of a whole run."""
LENGTH = 0.25
"""Of an adapter's own minutes or steps, a whole run takes."""
ROLES: tuple[Role, ...] = ("two_way", "condition_held", "image_held")


@dataclass(frozen=True, kw_only=True)
class AblatedConfig(JointTrainingConfig):
    """A recipe from which something can be left out.

    Args:
        condition_loss: whether the condition's errors count.
        joint_layers: where joint attention is: everywhere, or not in the encoder.
    """

    condition_loss: bool = True
    joint_layers: Literal["all", "decoder"] = "all"

    @override
    def adapter(self, unet: UNet2DConditionModel, condition: Shown, base: str) -> JointAdapter:
        """An untrained adapter for a network; its roles are those that it is trained in."""
        made = super().adapter(unet, condition, base)
        shares = zip(ROLES, self.role_shares, strict=True)
        made.config = replace(made.config, roles=tuple(role for role, share in shares if share > 0))
        if self.joint_layers == "decoder":
            for name, value in made.named_parameters():
                if name.startswith("down_blocks.") and ".joint." in name:
                    value.requires_grad_(False)
        return made


class AblatedTask(JointTask):
    """A joint adapter's task, in which the condition's errors may not count."""

    @override
    def weighed(self, errors: tuple[Tensor, Tensor], drawn: Draw) -> Tensor:
        """(B,) losses of both branches' errors, or of the image's alone."""
        assert isinstance(self.config, AblatedConfig)
        if not self.config.condition_loss:
            errors = errors[0], torch.zeros_like(errors[1])
        return super().weighed(errors, drawn)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a run lacks.

    Attributes:
        loss: the condition's errors count.
        noise: the condition is noisy at times.
        held: some pairs hold a branch, which then looks at nothing.
        decoder: joint attention is in the decoder only.
        steps: share of a whole run's length.
        data: share of a whole run's scenes.
    """

    loss: bool = True
    noise: bool = True
    held: bool = True
    decoder: bool = False
    steps: float = 1.0
    data: float = 1.0

    def config(self, recipe: JointTrainingConfig, scenes: int) -> AblatedConfig:
        """The recipe of this run.

        Args:
            recipe: of a whole run, its budget that of a whole run.
            scenes: of a whole run.

        Returns:
            The same, but for what is lacking.
        """
        own = {each.name: getattr(recipe, each.name) for each in fields(JointTrainingConfig)}
        config = AblatedConfig(
            **{**own, "scenes": max(1, round(self.data * scenes))},
            condition_loss=self.loss,
            joint_layers="decoder" if self.decoder else "all",
        )
        if not self.loss:
            both, held, _ = config.role_shares
            config = replace(config, role_shares=(both / (both + held), held / (both + held), 0.0))
        if not self.held:
            config = replace(config, role_shares=(1.0, 0.0, 0.0))
        if not self.noise:
            config = replace(config, role_shares=(0.0, 1.0, 0.0), clean_share=1.0)
        budget = shortened(config.loop.budget, self.steps)
        return replace(config, loop=replace(config.loop, budget=budget))


VARIANTS: Mapping[str, Variant] = {
    "full": Variant(),
    "no_condition_loss": Variant(loss=False),
    "no_condition_noise": Variant(loss=False, noise=False),
    "two_way": Variant(held=False),
    "decoder": Variant(decoder=True),
    "steps_1_4": Variant(steps=1 / 4),
    "steps_1_2": Variant(steps=1 / 2),
    "data_1_16": Variant(data=1 / 16),
    "data_1_4": Variant(data=1 / 4),
    "data_1_16_no_condition_loss": Variant(data=1 / 16, loss=False),
    "data_1_4_no_condition_loss": Variant(data=1 / 4, loss=False),
}


def shortened(budget: Budget, share: float) -> Budget:
    """A share of a budget, at least one step."""
    if budget.steps is not None:
        return replace(budget, steps=max(1, round(share * budget.steps)))
    assert budget.minutes is not None
    return replace(budget, minutes=share * budget.minutes)


def train_ablated(shop: Workshop, name: str, condition: str = "depth") -> Path:
    """Train one run, or go on with it.

    Args:
        shop: where; its minutes, steps and scenes are those of a whole run.
        name: one of `VARIANTS`.
        condition: of the adapter.

    Returns:
        The folder of weights, `runs/ablated/<condition>/<name>`.
    """
    paired, base = conditions.named(condition), shop.parent("mini", "text2image")
    recipe = shop.recipes.joint_of(paired)
    if shop.minutes is None and shop.steps is None:
        budget = shortened(recipe.loop.budget, LENGTH)
        recipe = replace(recipe, loop=replace(recipe.loop, budget=budget))
    config = VARIANTS[name].config(shop.changed(recipe), shop.scenes or SCENES)
    job = Job(
        f"ablated-{condition}-{name}",
        f"Joint {condition} adapter of mini, ablation: {name}",
        "unicond table ablation",
        shop.runs / "ablated" / condition / name,
        config,
        {"mini": fingerprint(base)},
    )

    def build() -> tuple[Task, Save]:
        whole = joint_task(shop, job, config, base, paired, None)
        task = AblatedTask(
            config, whole.adapter, whole.unet, whole.noising, whole.train, whole.held
        )

        def save(folder: Path, card: TrainingCard) -> None:
            told = Card(f"The embedded world. {paired.note}", card.command, card.scores)
            task.adapter.save_pretrained(folder, told, torch.float16)

        return task, save

    return run(shop, job, build)
