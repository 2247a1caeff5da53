"""Fields that nothing else on a tab stands for, made from the form itself: none is forgotten.

What a field looks like follows from its type, what is said of it from the form's docstring. Lists
and mappings are written as on the command line: `1:0.2`, `image, depth`, `image=0.5, depth=1:0`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin

import gradio as gr
from gradio.components import Component
from PIL import Image
from pydantic.fields import FieldInfo

from unicond.grounding import Grounding
from unicond.studio.page.fields import Part, Values, check, choice, number, one, picture, text
from unicond.studio.page.told import Told
from unicond.tasks.forms import FORMS, AnyForm, Form, Picture

ACROSS = 3
"""Fields in a row."""
LARGEST = 2**20
"""Bytes of a file of boxes."""
APART = ("task", "base")
"""Fields that the page says by the tab and by the choice of a model."""
SHORT = {"ip_scale": "Image prompt scale"}
_SAID = re.compile(r"^ {8}(\w+): (.*?)(?=\n {8}\w|\n\n|\n {4}\S|\Z)", re.MULTILINE | re.DOTALL)
_YES = {"yes": True, "no": False}


def more(task: str, shown: Sequence[Part]) -> list[Part]:
    """The fields of a form that no part stands for, on the page.

    Args:
        task: whose form it is.
        shown: the parts that are there.

    Returns:
        A part for each.
    """
    form = FORMS[task]
    names = {name for part in shown for name in part.names} | {*APART}
    left = {
        field.alias or name: field
        for name, field in form.model_fields.items()
        if (field.alias or name) not in names
    }
    if not left:
        return []
    explained, parts = explanations(form), list[Part]()
    with gr.Accordion("More", open=False):
        rows = list(left.items())
        for start in range(0, len(rows), ACROSS):
            with gr.Row():
                for name, field in rows[start : start + ACROSS]:
                    parts.append(part_of(name, field, explained.get(name)))
    return parts


def explanations(form: type[AnyForm]) -> dict[str, str]:
    """What the docstrings of a form and of what it extends say of its fields.

    Args:
        form: any.

    Returns:
        {field: a sentence}.
    """
    found = dict[str, str]()
    for kind in reversed(form.__mro__):
        if issubclass(kind, Form):
            for name, told in _SAID.findall(kind.__doc__ or ""):
                found[name] = re.sub(r"\s+", " ", told).strip()
    return found


def part_of(name: str, field: FieldInfo, info: str | None) -> Part:
    """A field as its type asks.

    Args:
        name: of the field.
        field: of the form.
        info: what it is for.

    Returns:
        The part.
    """
    label, kinds = label_of(name), kinds_of(field.annotation)
    place = "usual" if field.default is None else words_of(field.default)
    if all(get_origin(kind) is Literal for kind in kinds):
        choices = [str(word) for kind in kinds for word in get_args(kind)]
        usual = str(field.default) if field.default is not None else ""
        return choice(name, label, choices if usual else ["", *choices], usual, info)
    if kinds == [bool] and field.default is False:
        return check(name, label, info)
    if kinds == [bool]:
        return _yes_or_no(name, label, info)
    if kinds in ([int], [float]):
        return number(name, label, kinds == [int], info, place)
    if kinds == [Picture]:
        return picture(name, label)
    if kinds == [Grounding]:
        return boxes(name, label)
    if kinds == [str]:
        return text(name, label, place, info)
    if kinds == [tuple] and Picture in get_args(_bare(field.annotation)):
        return _pictures(name, label)
    box = gr.Textbox(label=label, info=info, placeholder=place, max_lines=1)
    return one(
        name,
        box,
        "",
        lambda value: value_of(str(value or ""), alone=float in kinds),
        words_of,
    )


def label_of(name: str) -> str:
    """What a field is called on the page."""
    return SHORT.get(name, name.replace("_", " ").capitalize())


def kinds_of(annotation: object) -> list[object]:
    """The types that a field may have, without None: classes, and literals.

    Args:
        annotation: of the field.

    Returns:
        Each of a union; of what has parts only what it is.
    """
    bare = _bare(annotation)
    if get_origin(bare) in (Union, UnionType):
        return [kind for part in get_args(bare) for kind in kinds_of(part)]
    if bare is NoneType:
        return []
    whole = get_origin(bare)
    return [bare if whole in (None, Literal) else whole]


def value_of(text: str, alone: bool) -> object:
    """What a text says: numbers and names, in a list or by branches.

    Args:
        text: of a component.
        alone: a single number is no list.

    Returns:
        None of nothing; `[1.0, 0.2]` of `1:0.2`, `{"image": 0.5}` of `image=0.5`.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        return None
    if any("=" in item for item in items):
        pairs = [item.partition("=") for item in items]
        return {name.strip(): _numbers(told) for name, _, told in pairs}
    values = [_numbers(item) for item in items]
    if len(values) == 1 and (alone or isinstance(values[0], list)):
        return values[0]
    return values


def words_of(value: object) -> str:
    """The way back: the text that says a value."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return ", ".join(f"{name}={_pair(told)}" for name, told in items)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, cast("Sequence[object]", value)))
    return str(value)


def boxes(name: str, label: str) -> Part:
    """Boxes, and what things do, as the JSON that a file of boxes holds; which may be loaded."""
    with gr.Column():
        box = boxes_text(label)
        load = gr.UploadButton("Load a file of boxes", size="sm", file_types=[".json"])
    load.upload(file_text, load, box, show_progress="hidden", api_visibility="private")
    return one(name, box, "", lambda value: json_of(str(value or ""), label), json.dumps)


def boxes_text(label: str) -> gr.Textbox:
    """Where boxes stand as JSON."""
    place = '{"boxes": [{"phrase": "a red ball", "box": [0.1, 0.4, 0.4, 0.9]}]}'
    return gr.Textbox(label=f"{label} (JSON)", placeholder=place, lines=2, max_lines=8)


def file_text(path: str) -> str:
    """The text of a file that was loaded.

    Args:
        path: where it lies.

    Returns:
        Its text.

    Raises:
        gr.Error: it is too long, or no text.
    """
    if Path(path).stat().st_size > LARGEST:
        raise gr.Error(f"a file of boxes has at most {LARGEST} bytes", print_exception=False)
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise gr.Error("a file of boxes is JSON, which is text", print_exception=False) from None


def json_of(text: str, label: str) -> object:
    """What a text in JSON says.

    Args:
        text: of a component.
        label: of its field.

    Returns:
        None of nothing.

    Raises:
        ValueError: it is no JSON.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{label}: it is no JSON ({error})") from None


def _pictures(name: str, label: str) -> Part:
    gallery = gr.Gallery(label=label, type="pil", format="png", height=220, interactive=True)

    def read(values: Values) -> dict[str, object]:
        shown = cast("Sequence[tuple[Image.Image, str | None]]", values[0] or ())
        return {name: [found for found, _ in shown]}

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        found = cast("Sequence[Image.Image]", told.get(name, ()))
        return [[(shown, None) for shown in found]]

    return Part([name], [gallery], read, show)


def _yes_or_no(name: str, label: str, info: str | None) -> Part:
    box: Component = gr.Dropdown(["", *_YES], value="", label=label, info=info)
    back = {told: word for word, told in _YES.items()}
    return one(
        name, box, "", lambda value: _YES.get(str(value)), lambda value: back[cast(bool, value)]
    )


def _bare(annotation: object) -> object:
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _numbers(text: str) -> object:
    """A number, a name, or several joined by colons."""
    parts = [_number(part.strip()) for part in text.split(":")]
    return parts[0] if len(parts) == 1 else parts


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _pair(value: object) -> str:
    if isinstance(value, list | tuple):
        return ":".join(map(str, cast("Sequence[object]", value)))
    return str(value)
