"""The pictures of a form: found, replaced, and by the branches that they are of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import TypeVar, cast

from pydantic import BaseModel

from unicond.model import Model
from unicond.tasks import forms

Value = TypeVar("Value")
TAKEN = frozenset(signature(Model.prepare).parameters)
"""Names of arguments, which no branch can have."""


def named_pictures(
    give: Mapping[str, forms.Picture], **apart: forms.Picture | None
) -> dict[str, forms.Picture]:
    """{branch: its picture}, of those that have a field of their own too.

    Args:
        give: {branch: picture}.
        **apart: likewise; None is not given.

    Returns:
        All that are given.

    Raises:
        ValueError: one is given twice, or is called as an argument of a model's call is.
    """
    taken = sorted(give.keys() & TAKEN)
    if taken:
        raise ValueError(f"give names {taken[0]!r}, and no branch can be called that")
    found = {branch: picture for branch, picture in apart.items() if picture is not None}
    twice = sorted(found.keys() & give.keys())
    if twice:
        raise ValueError(f"{twice[0]} is given twice, by {twice[0]} and in give: give it once")
    return {**give, **found}


def pictures_of(value: object) -> Iterator[forms.Picture]:
    """Every picture in a form, in the order of its fields.

    Args:
        value: a form, or a part of one.

    Yields:
        Pictures.
    """
    if isinstance(value, forms.Picture):
        yield value
    elif isinstance(value, BaseModel | Mapping | tuple):
        for part in _parts(value):
            yield from pictures_of(part)


def _parts(value: BaseModel | Mapping[str, object] | tuple[object, ...]) -> Sequence[object]:
    if isinstance(value, BaseModel):
        return [getattr(value, name) for name in type(value).model_fields]
    return list(value.values()) if isinstance(value, Mapping) else value


def with_pictures(value: Value, change: Callable[[forms.Picture], forms.Picture]) -> Value:
    """The same form with other pictures.

    Args:
        value: a form, or a part of one.
        change: makes the new picture of each, in the order of `pictures_of`.

    Returns:
        A form of the same kind.
    """
    made: object = value
    if isinstance(value, forms.Picture):
        made = change(value)
    elif isinstance(value, BaseModel):
        names = type(value).model_fields
        told = {name: with_pictures(getattr(value, name), change) for name in names}
        made = value.model_copy(update=told)
    elif isinstance(value, Mapping):
        told = cast("Mapping[str, object]", value)
        made = {name: with_pictures(one, change) for name, one in told.items()}
    elif isinstance(value, tuple):
        made = tuple(with_pictures(one, change) for one in cast("tuple[object, ...]", value))
    return cast(Value, made)
