"""All tasks by name, as one call each, and again from the record in a picture."""

from collections.abc import Callable, Mapping
from typing import Concatenate, ParamSpec, cast

from pydantic import TypeAdapter, ValidationError

from unicond.calls.output import Output
from unicond.model import Model
from unicond.tasks.base import Task, pictures_back
from unicond.tasks.compose import Compose
from unicond.tasks.edit import Edit
from unicond.tasks.generate import Generate
from unicond.tasks.layout import Layout
from unicond.tasks.restore import Restore
from unicond.tasks.together import Together

P = ParamSpec("P")

TASKS: Mapping[str, type[Task]] = {
    "Generate": Generate,
    "Edit": Edit,
    "Compose": Compose,
    "Layout": Layout,
    "Restore": Restore,
    "Together": Together,
}


def task_of(recorded: Mapping[str, object]) -> Task:
    """The task that a record tells of.

    Args:
        recorded: `Record.task`.

    Returns:
        It.

    Raises:
        ValueError: an unknown task, fields of another version, or a picture that came from memory,
            is missing or has changed.
    """
    name = recorded.get("name")
    if name not in TASKS:
        raise ValueError(f"this picture was made by a task {name!r}; known are {', '.join(TASKS)}")
    kind = TASKS[cast(str, name)]
    try:
        return TypeAdapter(kind).validate_python(pictures_back(kind, recorded))
    except ValidationError as error:
        raise ValueError(
            f"the recorded {name} is not complete ({error.error_count()} fields): it was made by "
            "another version of unicond, or changed"
        ) from error


def _calls(task: Callable[P, Task]) -> Callable[Concatenate[Model, P], Output]:
    """A task as one call: the model, then the task's own arguments."""

    def call(model: Model, /, *args: P.args, **kwargs: P.kwargs) -> Output:
        return task(*args, **kwargs).run(model)

    call.__name__, call.__doc__ = task.__name__.lower(), task.__doc__
    return call


compose = _calls(Compose)
edit = _calls(Edit)
generate = _calls(Generate)
layout = _calls(Layout)
restore = _calls(Restore)
