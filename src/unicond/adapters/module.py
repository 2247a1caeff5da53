"""What all adapters are: weights beside a network, in folders and on the Hub."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from unicond.adapters import hub, stored, tensors

Config = TypeVar("Config", bound=stored.Described)


class AdapterModule(nn.Module, Generic[Config]):
    """All weights of one adapter, as a module: train it, move it, cast it, save it as any other.

    Args:
        config: what the weights do not say.

    Attributes:
        GIVEN: what the shapes of its weights follow from, in messages.
    """

    GIVEN: ClassVar[str] = "its configuration and layers"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    @abstractmethod
    def fitting(cls, config: Config, values: Mapping[str, Tensor], source: str) -> Self:
        """An adapter of the layers and widths that tensors are for, whatever its weights.

        Args:
            config: what the weights do not say.
            values: {parameter name: weight}.
            source: where they came from, for messages.

        Returns:
            The adapter, as it begins.

        Raises:
            ValueError: they tell no layers.
        """

    @classmethod
    def from_tensors(cls, config: Config, values: Mapping[str, Tensor], source: str) -> Self:
        """An adapter of given weights, every one of them checked.

        Args:
            config: what the weights do not say.
            values: {parameter name: weight}.
            source: where they came from, for messages.

        Returns:
            The adapter, which holds these very tensors.

        Raises:
            ValueError: a tensor is missing, not expected, or of the wrong shape.
        """
        with torch.device("meta"):
            adapter = cls.fitting(config, values, source)
        tensors.check(adapter.state_dict(), values, source, cls.GIVEN)
        adapter.load_state_dict(dict(values), assign=True)
        return adapter

    def save_pretrained(
        self, folder: str | Path, card: hub.Card | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Write `adapter_config.json`, `adapter_model.safetensors` and `README.md` into a folder.

        Args:
            folder: created where missing; each file replaces its older version at once.
            card: what the README says about data, command, scores and licence.
            dtype: of the file, for example `torch.float16`; as they are where None.

        Raises:
            OSError: the files cannot be written (a full disk).
            ValueError: a weight is not finite (in `dtype`).
        """
        hub.write(Path(folder), self.config, self.state_dict(), card, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        card: hub.Card | None = None,
        dtype: torch.dtype | None = None,
        private: bool | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hub, and return the commit's address."""
        return hub.push(repo_id, self.config, self.state_dict(), card, dtype, private)
