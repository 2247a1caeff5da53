"""SDEdit: noise hides what is to change, and the model draws it anew.

    latents_t0 = alpha_t0 x_0 + sigma_t0 eps,    then down from t0 under the new prompt

It is a plan and nothing else: one jump of noise, then the last `strength` of the times.

Source: Meng et al. 2022, arXiv:2108.01073, section 3.
"""

from collections.abc import Mapping, Sequence

from unicond.mechanisms.inversion.paths import jump_and_down, latest
from unicond.sampling.state import Move


def sdedit(
    times: Sequence[float],
    strength: float,
    branch: str = "target",
    hold: Mapping[str, float] | None = None,
) -> list[Move]:
    """The plan of SDEdit; its branch starts clean, at t = 0.

    With latent models the picture is the decoded one: what the autoencoder loses stays lost.

    Args:
        times: descending times, as `schedule.times(n)` gives them.
        strength: share of the times that is run, in [0, 1], usually 0.3 to 0.8; at 1.0 as much of
            the picture is left as alpha is at the first time, at 0.0 there are no moves.
        branch: that is edited.
        hold: {branch: time that it stays at}, conditions.

    Returns:
        The moves; one network call each but the first, one noise draw, and the solver's own.
    """
    return jump_and_down(latest(times, strength), (branch,), hold)
