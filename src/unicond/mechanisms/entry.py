"""One line of the catalogue: what is said of a conditioning method, and the groups they are in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, cast

Seam = Literal["begin", "wrap", "revise", "settle", "plan", "solver"]
Group = Literal["inversion", "attention", "blending", "process", "guidance", "correction"]
Trained = Literal["no", "head"]

GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "inversion": "find the start, and the noises, that lead back to a given picture",
        "attention": "read attention on one path, write it on another",
        "blending": "combine several predictions of one step",
        "process": "put what is known into the predicted picture",
        "guidance": "follow the gradient of an energy",
        "correction": "mend the state after the step",
    }
)
"""The survey's groups, and what each does."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method.

    Args:
        name: of the method.
        home: `"group.module:name"` of its class, or of the function that makes its plan, below
            `unicond.mechanisms`.
        asked: how tasks ask for it, each as `unicond` takes it: `"TASK --method NAME"`, where a
            method of `edit` has two parts (`"INVERSION+*"`: with any attention, or alone;
            `"*+ATTENTION"`: after any inversion), or another option of a task. In Python the names
            are the same, and `mechanisms=[...]` takes any.
        seams: where it meets the loop. A `begin` that is only a check is none; a `"plan"` is a way
            of its own through the times, a `"solver"` makes the steps itself.
        calls: network calls a step (a time of the schedule that is used) of a run with this method
            and no text guidance; a row is one more evaluation a sample in the same call, and a
            gradient runs back through the network.
        source: arXiv number of the method's paper, or its openreview id.
        memory: what is kept beside the step's own activations.
        commanded: {task, or names of its methods: calls of a step where a task asks for it}, of
            those that differ from `calls`.
        trained: whether something beside the base was trained for it, as tasks ask for it.
        page_name: of its page, where that is not the module's.
    """

    name: str
    home: str
    asked: tuple[str, ...]
    seams: tuple[Seam, ...]
    calls: str
    source: str
    memory: str = "none"
    commanded: Mapping[str, str] = field(default_factory=dict[str, str])
    trained: Trained = "no"
    page_name: str = ""

    @property
    def group(self) -> Group:
        """The survey's group: the folder that it is in."""
        return cast(Group, self.home.partition(".")[0])

    def paid(self, way: str) -> str:
        """Network calls a step of one way to ask for it.

        Args:
            way: one of `asked`.

        Returns:
            What `commanded` says of its task or method, else `calls`.
        """
        task, *_, name = way.split()
        found = (cost for who, cost in self.commanded.items() if {task, name} & {*who.split(", ")})
        return next(found, self.calls)

    @property
    def cost(self) -> str:
        """`calls`, and what commands pay instead."""
        return "; ".join([self.calls, *(f"{who}: {cost}" for who, cost in self.commanded.items())])

    @property
    def made_by(self) -> str:
        """The name of the class or function."""
        return self.home.partition(":")[2]

    @property
    def page(self) -> str:
        """Its file in `docs/mechanisms/`."""
        return f"{self.page_name or self.home.partition('.')[2].partition(':')[0]}.md"

    @property
    def source_url(self) -> str:
        """Where the paper is read."""
        kind, _, number = self.source.rpartition(" ")
        if kind == "openreview":
            return f"https://openreview.net/forum?id={number}"
        return f"https://arxiv.org/abs/{number}"
