"""What a command asks for: the form that the HTTP API and manifests take, of its options."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from unicond.pictures.decoding import EXTENSIONS
from unicond.pictures.depth import ARRAYS
from unicond.pictures.files import existing_file
from unicond.tasks.filled import Filled
from unicond.tasks.form_faults import Fault, clean, told
from unicond.tasks.form_parts import TEXTS, Form
from unicond.tasks.form_pictures import pictures_of
from unicond.tasks.forms import AnyForm

Asked = TypeVar("Asked", bound=Form)
LONGEST = 80
"""Characters of a value that is told again."""


def form_of(kind: type[Asked], options: Mapping[str, object]) -> Asked:
    """The form that options are.

    Args:
        kind: of the form.
        options: {field: value}; pictures are paths.

    Returns:
        The form.

    Raises:
        ValueError: a value that is not allowed; the option is named as it is typed.
    """
    try:
        return kind.model_validate(options, context={TEXTS: "upload"})
    except ValidationError as error:
        faults: dict[object, Fault] = {}
        # one an option: of a type with choices, the one that was read furthest
        for one in sorted(error.errors(), key=lambda one: -len(one["loc"])):
            faults.setdefault(one["loc"][:1], {**one})
        raise ValueError(told(list(faults.values()), _typed)) from None


def common(
    seed: int | tuple[int, ...],
    count: int | None,
    size: str | None,
    steps: int | None,
    guidance: float | None,
    negative_prompt: str,
) -> dict[str, object]:
    """The fields that every task has.

    Args:
        seed: of the first sample, or one a sample.
        count: samples.
        size: as it is typed, SIDE or HEIGHTxWIDTH.
        steps: that call the network.
        guidance: of text.
        negative_prompt: what guidance moves away from.

    Returns:
        {field: value}.

    Raises:
        ValueError: the size is none.
    """
    from unicond.cli.generate import parse_size

    return {
        "seed": seed,
        "count": count,
        "size": parse_size(size),
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": negative_prompt,
    }


def fill(form: AnyForm, *models: str) -> Filled:
    """What a form runs, checked as far as it can be without a model.

    Args:
        form: whose pictures are paths.
        *models: that it names, as `unicond.load` takes them.

    Returns:
        What runs it.

    Raises:
        ValueError: what was asked does not fit together, or a picture is not there.
    """
    filled = Filled(form, lambda picture: str(picture.upload), {name: name for name in models})
    filled.check()
    for picture in pictures_of(form):
        existing_file(str(picture.upload), (*EXTENSIONS, *ARRAYS))
    return filled


def _typed(fault: Fault) -> str:
    """What is wrong with an option."""
    place, said = fault["loc"], str(fault["msg"]).removeprefix("Value error, ")
    if not isinstance(place, tuple) or not place:
        return said
    _, mark, rule = said.partition(" should ")
    flag = "--" + str(place[0]).replace("_", "-")
    return f"{flag}: {clean(repr(fault['input']), LONGEST)} {f'should {rule}' if mark else said}"
