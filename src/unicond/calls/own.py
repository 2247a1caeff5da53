"""What of a run no record can hold: mechanisms, moves and a solver that the caller made."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from unicond.adapters.readout import channels_of
from unicond.calls.request import Sampling
from unicond.denoisers.network import NetworkDenoiser
from unicond.mechanisms.attention.words import Marking, check_tokens
from unicond.mechanisms.guidance.readout import Readout
from unicond.sampling.plans import Plan
from unicond.sampling.state import Mechanism, Solver


@dataclass(frozen=True, eq=False)
class Own:
    """The caller's own objects.

    Args:
        mechanisms: further conditioning methods, outermost first.
        moves: the plan; None is named in the record.
        solver: a method's; None is named in the record.
    """

    mechanisms: Sequence[Mechanism] = ()
    moves: Plan | None = None
    solver: Solver | None = None

    @classmethod
    def of(
        cls,
        mechanisms: Sequence[Mechanism],
        plan: str | Plan | None,
        solver: str | Solver | None,
        eta: float | None,
    ) -> "Own":
        """What of a call's arguments are objects.

        Args:
            mechanisms: of the call.
            plan: a name, or moves.
            solver: a name, or an object.
            eta: of the call.

        Returns:
            The objects.

        Raises:
            ValueError: eta beside a solver that is an object.
        """
        moves = None if isinstance(plan, str) else plan
        own = None if isinstance(solver, str) else solver
        if own is not None and eta is not None:
            raise ValueError(f"eta={eta} is of a solver by name: give it to {own} itself")
        return cls(mechanisms, moves, own)

    def calls(self, num_inference_steps: int | None, default: int) -> int:
        """Moves of the run that call the network.

        Args:
            num_inference_steps: of the call.
            default: the task's.

        Returns:
            As many as the caller's moves have, else as many as are asked for.

        Raises:
            ValueError: both are given.
        """
        if self.moves is None:
            return default if num_inference_steps is None else num_inference_steps
        if num_inference_steps is not None:
            raise ValueError(
                f"the plan has {len(self.moves)} moves already: drop num_inference_steps="
                f"{num_inference_steps}, or make the plan with as many"
            )
        return sum(move.kind == "step" for move in self.moves)

    def check(self, denoiser: NetworkDenoiser) -> None:
        """Refuse mechanisms that were made for prompts or a network of another kind.

        Args:
            denoiser: of the run; it is not asked.

        Raises:
            ValueError: words are marked in another number of tokens than its prompts have, or a
                readout head reads other blocks than its network's.
        """
        tokens = {
            prompt.tokens.shape[1]
            for branches in denoiser.prompts.values()
            for prompt in branches.values()
        }
        for mechanism in self.mechanisms:
            if isinstance(mechanism, Marking):
                for count in tokens:
                    check_tokens(mechanism.marks(), count)
            if isinstance(mechanism, Readout) and mechanism.scale:
                _check_blocks(mechanism, denoiser.network)

    def usual(self, sampling: Sampling) -> bool:
        """Whether the walk follows from what is given: not the caller's own, nor the published."""
        return self.moves is None and sampling == "unicond"

    def solver_name(self, solver: str | Solver | None) -> str | None:
        """What the record calls the solver of a call; None is the base's own."""
        return solver if solver is None or isinstance(solver, str) else type(solver).__name__

    def names(self) -> tuple[str, ...]:
        """What the record calls everything that it cannot hold."""
        solver = () if self.solver is None else (type(self.solver).__name__,)
        return (*(type(mechanism).__name__ for mechanism in self.mechanisms), *solver)


def _check_blocks(guide: Readout, network: nn.Module) -> None:
    if guide.blocks is None:
        return
    found = channels_of(network)
    if guide.blocks != found:
        raise ValueError(
            f"the readout head reads blocks of {guide.blocks} channels, and the network's have "
            f"{found}: take a head that was trained for this base"
        )
