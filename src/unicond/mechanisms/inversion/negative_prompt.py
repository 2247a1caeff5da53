"""Negative-prompt inversion: guidance moves away from the source's own prompt.

    e = e(source prompt) + g (e(prompt) - e(source prompt))

For the source both prompts are one and guidance does nothing, whatever its scale: its way down is
as good as without guidance. Null-text inversion's fitted embeddings are found to be near the
source prompt's; this takes that for granted, and needs no fit.

Source: Miyake et al. 2023, arXiv:2305.16807.
"""

from dataclasses import dataclass

from typing_extensions import override

from unicond.sampling.prompts import Prompts, reword
from unicond.sampling.state import Mechanism, State


@dataclass(frozen=True, kw_only=True)
class NegativePrompt(Mechanism):
    """The source's prompt in the place of the negative one; no call, no random draw.

    With latent models the picture is the decoded one: what the autoencoder loses stays lost.

    Args:
        source: the branch of the given picture.
        target: the branch that is edited; None if that is the source itself.
        prompt: name of the source's prompt: `"positive"`, or the second name where one branch has
            two.
        negative: name of the prompt that guidance moves away from.
    """

    source: str = "source"
    target: str | None = "target"
    prompt: str = "positive"
    negative: str = "negative"

    @override
    def begin(self, state: State) -> State:
        """Change the table of prompts for this run."""
        return reword(state, self._reworded)

    def _reworded(self, prompts: Prompts) -> Prompts:
        known = prompts.get(self.prompt, {})
        if self.source not in known:
            raise ValueError(
                f"no prompt {self.prompt!r} of branch {self.source!r} to move away from; there are "
                f"{ {name: sorted(branches) for name, branches in prompts.items()} }"
            )
        away = {b: known[self.source] for b in (self.source, self.target) if b is not None}
        return {**prompts, self.negative: {**prompts.get(self.negative, {}), **away}}
