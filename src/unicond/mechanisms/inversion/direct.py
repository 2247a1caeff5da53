"""Direct inversion: the source's way down is the way up, whatever guidance does to it.

    d_s = x*_s - x'_s,    x'_s + d_s    (source branch only)

x*_s is where the way up was, x'_s where the guided step down leads. The source is reconstructed
exactly, and whatever looks at it (attention on the target's way) sees it undisturbed; the target's
steps are left alone.

Source: Ju et al. 2023, arXiv:2310.01506, algorithm 1.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.mechanisms.inversion.ascent import check_way, waypoint
from unicond.mechanisms.inversion.paths import rises
from unicond.mechanisms.known import check_branch
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State


@dataclass(frozen=True, kw_only=True)
class Direct(Mechanism):
    """Keep the source on the inverted way; goes after a `DDIMInversion` or `FixedPoint`.

    No network call, no random draw; the way up is remembered anyway. The target gains only by what
    it reads from the source. With latent models the source is the decoded picture: what the
    autoencoder loses stays lost.

    Args:
        source: the branch whose latents (B, C, H, W) are put back.
    """

    source: str = "source"

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a run without the way up that the source is to be put back on."""
        if self.source in setup.state.t:
            down = [move for move in setup.moves if not rises(move, self.source)]
            check_way(self, setup, self.source, down)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """The source, wherever it is put back."""
        return () if rises(move, self.source) else (self.source,)

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch."""
        return check_branch(state, self.source, "direct inversion")

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """`x'_s + d_s`, which is `x*_s`, bit for bit."""
        if rises(move, self.source):
            return state
        way = waypoint(self, state, move.s[self.source])
        return replace(state, latents={**state.latents, self.source: way})
