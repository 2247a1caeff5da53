"""Prompts that a mechanism brings along: their name in the denoiser's table is their own text.

Two names are the run's: `"positive"` is its prompt, `"negative"` its negative prompt. They may
stand wherever a mechanism takes a text.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping

from unicond.sampling.state import Mechanism

OF_THE_RUN = ("positive", "negative")


class Prompted(Mechanism):
    """A mechanism with prompts of its own: the model encodes them beside the run's."""

    @abstractmethod
    def prompts(self) -> Mapping[str, str]:
        """{name in the denoiser's table: text}, the same for every sample."""


def by_text(texts: Iterable[str]) -> dict[str, str]:
    """{text: text}, once each, without the names of the run's own prompts.

    >>> by_text(["a red ball", "negative", "a red ball"])
    {'a red ball': 'a red ball'}
    """
    return {text: text for text in texts if text not in OF_THE_RUN}
