"""A form as plain values, its pictures among them as such: what stands on the page, and back."""

from collections.abc import Callable, Mapping
from typing import cast

from PIL import Image
from pydantic import ValidationError

from unicond.studio.errors import faults
from unicond.studio.page.painted import png_of
from unicond.tasks.forms import ANY, AnyForm

Told = Mapping[str, object]
Read = Callable[[str], object]
UPLOAD = "upload"


def form_of(told: Told) -> tuple[AnyForm, dict[str, bytes]]:
    """The form that some values fill.

    Args:
        told: {field: value}, `task` among them; pictures are PIL images, None is not said.

    Returns:
        The form, and {name: content} of its pictures.

    Raises:
        ValueError: it cannot be; the message names the fields.
    """
    sent = dict[str, bytes]()
    plain = {name: _sent(value, sent) for name, value in told.items() if value is not None}
    try:
        return ANY.validate_python(plain), sent
    except ValidationError as error:
        raise ValueError(faults(error)) from None


def told_of(form: AnyForm, read: Read) -> dict[str, object]:
    """The values that a form was filled with.

    Args:
        form: whose pictures are beside it.
        read: what stands for a picture, by its name; None where it is gone.

    Returns:
        {field: value}.
    """
    plain = form.model_dump(by_alias=True, exclude_none=True)
    return {name: _read(value, read) for name, value in plain.items()}


def _sent(value: object, sent: dict[str, bytes]) -> object:
    if isinstance(value, Image.Image):
        name = str(len(sent))
        sent[name] = png_of(value)
        return {UPLOAD: name}
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value).items()
        return {key: _sent(one, sent) for key, one in items}
    if isinstance(value, list):
        return [_sent(one, sent) for one in cast("list[object]", value)]
    return value


def _read(value: object, read: Read) -> object:
    if isinstance(value, Mapping):
        mapped = cast(Mapping[str, object], value)
        if mapped.keys() == {UPLOAD}:
            return read(str(mapped[UPLOAD]))
        return {key: _read(one, read) for key, one in mapped.items()}
    if isinstance(value, list | tuple):
        return [_read(one, read) for one in cast("list[object]", value)]
    return value
