"""RePaint: replacement, on a plan that goes back up so that the free part can follow the known one.

One way down, the free part of a state was made before the known part that stands beside it, and
the two do not fit. Noised again by some steps and sampled anew, they meet: each stretch of j moves
is gone r times, with

    x_t = r_ x_s + sqrt(sigma_t^2 - r_^2 sigma_s^2) z,    r_ = alpha_t / alpha_s

between. The mechanism is `Replacement`; all that is RePaint's own is the plan.

Source: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 and section 4.2. Deviates: the way up is
one draw instead of j of the same law, and the known part is drawn anew there too.
"""

from unicond.sampling.plans import Plan
from unicond.sampling.state import Move


def resampled(plan: Plan, jump: int = 10, repeats: int = 10) -> list[Move]:
    """A plan of which each stretch is gone several times.

    Stretches are counted from the end and leave out the last move, as in the source: jumps begin at
    its model steps 0, j, 2j, ... Also the time travel of DDNM, with its own mechanism.

    A move that is gone again is one more network call, and each noising move a noise draw. A plan
    knows no pixels: with latent models the known part is kept as `Replacement` keeps it, on the
    latents' grid, and what fits across the border are latents, of which the decoder's pixels fit
    nearly.

    Args:
        plan: n moves; a branch that moves must fall, and a branch may be held.
        jump: j, moves of a stretch; usually 10 of 250 moves.
        repeats: r, how often each is gone; usually 10. 1 is the same plan.

    Returns:
        The moves: `n + j (r - 1) k` that call the network, `(r - 1) k` that renoise, of
        `k = (n - 1) // j` stretches.

    Raises:
        ValueError: a number below 1, a plan too short for a stretch, or one that goes up.

    >>> plan = resampled([Move({"image": t}, {"image": t - 1 / 4}) for t in (1.0, 0.75, 0.5)], 2, 2)
    >>> [(move.kind, move.t["image"], move.s["image"]) for move in plan][1:4]
    [('step', 0.75, 0.5), ('renoise', 0.5, 1.0), ('step', 1.0, 0.75)]
    """
    if jump < 1 or repeats < 1:
        raise ValueError(f"jump and repeats must be 1 or more, not {jump} and {repeats}")
    stretches = (len(plan) - 1) // jump
    if stretches < 1:
        raise ValueError(
            f"a plan of {len(plan)} moves has no stretch of {jump} before its last move; use a "
            "smaller jump or more steps"
        )
    for move in plan:
        for branch in move.moving():
            if move.kind != "step" or move.s[branch] > move.t[branch]:
                raise ValueError(
                    f"branch {branch!r} goes up in the plan, from {move.t[branch]} to "
                    f"{move.s[branch]}; only a plan that falls can be resampled"
                )
    first = len(plan) - 1 - stretches * jump
    moves = list(plan[:first])
    for start in range(first, len(plan) - 1, jump):
        stretch = list(plan[start : start + jump])
        back = Move(stretch[-1].s, stretch[0].t, "renoise")
        moves += stretch + (repeats - 1) * [back, *stretch]
    return [*moves, plan[-1]]
