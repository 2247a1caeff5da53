"""Rows of a manifest, made by actors of Ray: Ray Data gives groups of rows to a pool of them.

Each actor loads the model once. One that is killed is started anew, and what it was at is given
out again: what it had finished is there, what it had begun is made alone, and given up when it has
ended its worker twice. Actors write to the folder themselves, so that it and the pictures are to
be on a disk that all machines see.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from ray.exceptions import RayError
from transformers.utils.logging import disable_progress_bar

from unicond import cluster
from unicond.batch.maker import Asked, Ended, Maker
from unicond.batch.manifest import Row

BLOCKS = 200
"""Parts that the groups are given out in, at most."""


class _Worker:
    """An actor: a model, and the groups that it may be asked for.

    Args:
        asked: by what, and where rows go.
        groups: of rows.
        home: folder from which the names of models are seen.
    """

    def __init__(self, asked: Asked, groups: Sequence[Sequence[Row]], home: str) -> None:
        if Path(home).is_dir():
            os.chdir(home)
        disable_progress_bar()  # of each file's tensors
        self._groups, self._broken = groups, ""
        try:
            self._maker = Maker(asked, asked.load())
        except (ValueError, OSError, RuntimeError) as error:
            self._broken = str(error)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Make groups.

        Args:
            batch: their numbers.

        Returns:
            The rows that have ended, or why the model cannot be loaded.
        """
        if self._broken:
            return {"id": [""], "error": [self._broken]}
        numbers = [int(number) for number in batch["item"]]
        ended = [one for number in numbers for one in self._maker.make(self._groups[number])]
        return {"id": [one.id for one in ended], "error": [one.error for one in ended]}


@dataclass(frozen=True)
class OnRay:
    """Actors of Ray.

    Args:
        workers: how many.
    """

    workers: int

    def run(self, asked: Asked, groups: Sequence[Sequence[Row]]) -> Iterator[Ended]:
        """As `batch.engines.Engine` says."""
        with cluster.joined(self.workers, asked.device) as accelerators:
            ray.data.DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.WARNING)
            numbers = ray.data.from_items(
                list(range(len(groups))), override_num_blocks=min(len(groups), BLOCKS)
            )
            ended = numbers.map_batches(
                _Worker,
                fn_constructor_args=(asked, groups, os.getcwd()),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=1,
                num_gpus=accelerators,
                max_restarts=-1,
                max_task_retries=-1,
            )
            try:
                for row in ended.iter_rows():
                    if not row["id"]:
                        raise ValueError(f"the model cannot be loaded: {row['error']}")
                    yield Ended(str(row["id"]), str(row["error"]))
            except RayError as error:
                raise ValueError(
                    f"Ray has stopped ({type(error).__name__}: {error}); what was made is kept, "
                    "and the same command goes on"
                ) from error
