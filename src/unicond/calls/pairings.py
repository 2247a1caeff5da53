"""Who looks at whom in a run: the image with each condition, each pair through its own adapter."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from unicond.adapters.config import JointConfig
from unicond.calls.record import Record
from unicond.calls.request import Attention, weights_of
from unicond.denoisers.network import Pairing


def pairings_of(
    record: Record, configs: Mapping[str, JointConfig], fixed: frozenset[str]
) -> list[Pairing]:
    """The image with each condition; held branches of a role that was trained look at nothing.

    Args:
        record: what was asked for.
        configs: {branch: its adapter's configuration}.
        fixed: the branches that do not move.

    Returns:
        A pairing a condition; none without the image.

    Raises:
        ValueError: weights, `held` or `attention` do not fit what is held, or the adapter.
    """
    if "image" not in record.branches:
        return []
    pairings: list[Pairing] = []
    _check_held(record, fixed)
    for branch in record.branches:
        if branch not in configs:
            continue
        scale = record.conditioning_scale.get(branch, 1.0)
        weights = weights_of(scale)
        roles, held = configs[branch].roles, record.held
        deaf = {
            b
            for b, role in (("image", "image_held"), (branch, "condition_held"))
            if b in fixed and (held == "one_way" or (held is None and role in roles))
        }
        if not isinstance(scale, float):
            _check_deaf(branch, weights, deaf)
        aligned = _aligned(branch, configs[branch], record.attention)
        pairings.append(
            Pairing(branch, "image", branch, *weights, deaf=frozenset(deaf), aligned=aligned)
        )
    return pairings


def check_joined(
    branches: Collection[str],
    conditions: Collection[str],
    condition_guidance: float | None,
    joint_scale: float,
    attention: Attention | None,
) -> None:
    """Refuse what a caller says of joint attention where a run has none.

    Args:
        branches: of the run.
        conditions: those of them that have an adapter.
        condition_guidance: as the caller gives it; None or 0.0 asks for nothing.
        joint_scale: likewise; 0.0 or 1.0 asks for nothing.
        attention: likewise; None asks for nothing.

    Raises:
        ValueError: something is asked for, and would do nothing.
    """
    if "image" in branches and conditions:
        return
    asked = {
        "condition_guidance": condition_guidance or None,
        "joint_scale": None if joint_scale in (0.0, 1.0) else joint_scale,
        "attention": attention,
    }
    for name, value in asked.items():
        if value is not None:
            raise ValueError(
                f"{name} is {value!r}, which is of joint attention between the image and a "
                f"condition, but the branches of this run are {', '.join(branches)}: give a "
                "condition or let one be generated (load(base, adapters=[...]), branches=), or "
                f"drop {name}"
            )


def weaker_of(
    record: Record, configs: Mapping[str, JointConfig], fixed: frozenset[str]
) -> list[Pairing]:
    """The pairings that condition guidance moves away from, where it names weights of branches.

    Args:
        record: what was asked for.
        configs: {branch: its adapter's configuration}.
        fixed: the branches that do not move.

    Returns:
        The same as `pairings_of` with other weights; none where it names none.

    Raises:
        ValueError: they are the weights that the branches have anyway, or do not fit what is held;
            or condition guidance is off.
    """
    against = record.condition_guidance_against
    if against and record.condition_guidance == 0:
        raise ValueError(
            f"condition_guidance_against is {against}, but condition guidance is off: give a "
            "weight (condition_guidance=), or drop it"
        )
    if not isinstance(against, Mapping) or not against:
        return []
    other = replace(record, conditioning_scale={**record.conditioning_scale, **against})
    weaker = pairings_of(other, configs, fixed)
    if weaker == pairings_of(record, configs, fixed):
        raise ValueError(
            f"condition_guidance_against {dict(against)} has the weights that are there anyway, "
            "which compares the model with itself: give others, or condition_guidance=0.0"
        )
    return weaker


def _aligned(branch: str, config: JointConfig, attention: Attention | None) -> bool:
    """Whether an adapter's tokens look around their own place only."""
    if attention == "aligned" and config.post_joint != "conv_fuse":
        raise ValueError(
            f"attention='aligned' needs pairs of the same place, but {branch!r} is only "
            "loosely related to the image; drop attention, or leave this adapter out"
        )
    return (attention or config.attention[-1]) == "aligned"


def _check_held(record: Record, fixed: frozenset[str]) -> None:
    if record.held == "one_way" and not fixed:
        free = [b for b, known in record.given.items() if known.mask is not None or known.guide]
        why = f": {free[0]!r} has a mask or is a guide, so that it moves" if free else ""
        raise ValueError(f"held='one_way' is for branches that are held, and none is{why}; drop it")


def _check_deaf(branch: str, weights: tuple[float, float], deaf: Collection[str]) -> None:
    """Refuse a pair of weights of which one is for a side that receives nothing."""
    for side, name, weight in ((branch, "w_y", weights[1]), ("image", "w_x", weights[0])):
        if side in deaf and weight > 0:
            raise ValueError(
                f"{side!r} is held one-way, so that it receives nothing, but {name} of {branch!r} "
                f"is {weight}; give 0.0 for it, one number for both, or held='two_way'"
            )
