"""The settings that a call takes where its caller names none: the base's, or its conditions' own.

Of several conditions that are given, the one that asks for least condition guidance decides, as
guidance moves the image by all of them at once, and what they all say needs less of it; of all that
are given or generated beside the image, the one that asks for least text guidance, which moves both
branches; of several that are read off an image, the one that asks for most steps, for most noise,
and for the smallest ensemble. The way through the times of image and conditions that are
drawn from text together is the one that all of these ask for; a condition that is known in part is
completed before the image is drawn under it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unicond.backbones.base import Settings
from unicond.calls.request import MOVES, Given
from unicond.sampling.plans import Plan
from unicond.sampling.suits import Suits

COMPLETION = "condition-first"
"""The way to a condition that is known in part and an image under it."""


@dataclass(frozen=True)
class Task:
    """The settings that a task takes where the caller names none.

    Args:
        estimates: whether conditions are read off a fixed image.
        num_inference_steps: moves that call the network, of each line of the plan.
        guidance_scale: of text.
        noise: of the image that is estimated from.
        follow: condition guidance.
        shapes: perturbed-attention guidance.
        ensemble_size: noises whose pictures are averaged.
        plan: the way through the times of image and condition, by name; None follows from what is
            given.
        lines: of that plan.
    """

    estimates: bool
    num_inference_steps: int
    guidance_scale: float
    noise: float = 0.0
    follow: float = 0.0
    shapes: float = 0.0
    ensemble_size: int = 1
    plan: str | None = None
    lines: int = 1

    def noised(self, conditions: Mapping[str, Given]) -> dict[str, Given]:
        """The conditions, with the task's noise on an image to estimate from that has none said."""
        found = dict(conditions)
        if self.estimates and found["image"].noise is None:
            found["image"] = found["image"].at(self.noise)
        return found

    def way(self, plan: str | Plan | None, moves: int | None, usual: bool = True) -> str | None:
        """What the record calls the way through the times of image and condition.

        Args:
            plan: what the caller asks for; None is the task's own, of an unusual walk none.
            moves: how many the caller asks for; one has no way but the straight one.
            usual: as in `ensemble`.

        Returns:
            The name of a plan, `MOVES` for the caller's own, or None.
        """
        if plan is None:
            return self.plan if usual and moves != 1 else None
        return plan if isinstance(plan, str) else MOVES

    def moves(self, way: str | None) -> int:
        """How many moves there are where the caller names no number.

        Args:
            way: of the call; the task's own may have several lines.

        Returns:
            The number.
        """
        return self.num_inference_steps * (self.lines if way == self.plan else 1)

    def ensemble(self, size: int | None, usual: bool = True) -> int:
        """How many noises a call's pictures are the mean of.

        Args:
            size: what the caller asks for; None is the task's own, of an unusual walk 1.
            usual: whether the walk follows from what is given; the caller's own moves and the
                published walk do not.

        Returns:
            The number.

        Raises:
            ValueError: it is below 1, or an ensemble of what is no estimate.
        """
        if size is None:
            return self.ensemble_size if usual else 1
        if size < 1:
            raise ValueError(f"ensemble_size is {size}; give 1 (one noise) or more, usually 4")
        if size > 1 and not self.estimates:
            raise ValueError(
                f"ensemble_size {size} averages conditions that are read off an image, but this "
                "call draws: give the whole image and generate aligned conditions alone, or drop it"
            )
        return size


@dataclass(frozen=True)
class Asked:
    """What a call is to make, of what.

    Attributes:
        made: branches that are generated, or moved by the caller's plan, in their order.
        given: {branch: what is known of it}.
        suits: {condition: what suits its adapter} of the call's conditions.
        aligned: those conditions that are maps of the image's own view, place by place.
        image: whether the image is a branch of the call.
        plain: whether there are no mechanisms, whose windows count all moves.
    """

    made: Sequence[str]
    given: Mapping[str, Given]
    suits: Mapping[str, Suits]
    aligned: Sequence[str]
    image: bool
    plain: bool

    @property
    def estimates(self) -> bool:
        """Whether maps are read off a fixed image, with a little noise on it.

        Another picture of the same things is no map: it is drawn, in as many steps as any.
        """
        return bool(self.made) and "image" in self.given and {*self.made} <= {*self.aligned}

    @property
    def completes(self) -> bool:
        """Whether maps that are known in part are all that is made beside an unknown image."""
        maps = [b for b in self.made if b != "image"]
        if not self.plain or len(maps) == len(self.made) or "image" in self.given:
            return False
        return bool(maps) and all(b in self.aligned and self._in_part(b) for b in maps)

    def _in_part(self, branch: str) -> bool:
        return branch in self.given and self.given[branch].in_part

    def suit(self, branches: Sequence[str]) -> list[Suits]:
        """What suits some branches; one without an adapter has no wishes."""
        return [self.suits.get(branch, Suits()) for branch in branches]


def task_of(base: Settings, asked: Asked) -> Task:
    """The measured settings for what is asked.

    Args:
        base: the base's.
        asked: what a call is to make.

    Returns:
        The task.
    """
    if asked.estimates:
        return estimation(base, asked.suit(asked.made))
    shown = [b for b, known in asked.given.items() if not known.guide]
    beside = [b for b in asked.made if b in asked.suits and "image" in asked.made]
    task = generation(base, asked.suit(shown), asked.suit(beside), not asked.given, asked.completes)
    # without both there is no joint attention to strengthen
    return task if asked.image and asked.suits else replace(task, follow=0.0)


def estimation(base: Settings, read: Sequence[Suits]) -> Task:
    """The settings of estimation.

    Args:
        base: the base's.
        read: what suits the conditions that are read off the image, one or more.

    Returns:
        The task.
    """
    steps = max(
        base.estimation_steps if s.estimation_steps is None else s.estimation_steps for s in read
    )
    noise = max(
        base.estimation_noise if s.estimation_noise is None else s.estimation_noise for s in read
    )
    size = min(
        base.estimation_ensemble if s.estimation_ensemble is None else s.estimation_ensemble
        for s in read
    )
    return Task(True, steps, base.estimation_guidance, noise, ensemble_size=size)


def generation(
    base: Settings,
    given: Sequence[Suits],
    beside: Sequence[Suits] = (),
    alone: bool = False,
    completes: bool = False,
) -> Task:
    """The settings of generation.

    Args:
        base: the base's.
        given: what suits the pictures that are given, other than as a guide; an image that is
            given in part has no wishes of its own.
        beside: what suits the conditions that are generated beside the image; of it text guidance
            counts, and the plan if they are drawn `alone`, while condition guidance is of what
            is given.
        alone: whether nothing is given, not even a guide.
        completes: whether all conditions that are made are known in part, and nothing of the
            image is. Beside it they would be as noisy as it is while its layout is decided.

    Returns:
        The task.
    """
    text = [
        base.guidance_scale if s.guidance_scale is None else s.guidance_scale
        for s in (*given, *beside)
    ]
    follow = [
        base.condition_guidance if s.condition_guidance is None else s.condition_guidance
        for s in given
    ]
    plans = {s.joint_plan for s in beside} if alone else {COMPLETION if completes else None}
    return Task(
        False,
        base.num_inference_steps,
        min(text, default=base.guidance_scale),
        follow=min(follow, default=0.0),
        shapes=base.perturbed_guidance,
        plan=plans.pop() if len(plans) == 1 else None,
        lines=2 if completes else 1,
    )
