"""`unicond layout`: things in their boxes; and what it shares with `unicond compose`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unicond.grounding import Grounding

Depth = Annotated[Path | None, typer.Option(help="A given depth map, as a condition.")]
Give = Annotated[
    list[str] | None, typer.Option(help="BRANCH=FILE for any other condition; repeat.")
]
Adapter = Annotated[
    list[str] | None, typer.Option(help="As of generate; those of the conditions if left out.")
]

Boxes = Annotated[
    Path | None,
    typer.Option(help="JSON file of boxes and interactions; see `unicond layout --schema`."),
]


def _print_schema(asked: bool) -> None:
    if asked:
        import json

        from unicond.grounding import schema

        typer.echo(json.dumps(schema(), indent=2))
        raise typer.Exit


def layout(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", help="What the whole picture shows; not for --preview."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The same, in the place of the argument.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="PHRASE@LEFT,TOP,RIGHT,BOTTOM, shares of width and height; repeat."),
    ] = None,
    boxes: Boxes = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="regions, noise_collage, layout, paint_with_words, self_guidance, readout, "
            "segmentation, segmented_regions, gligen, interact, migc, or text; default the first "
            "that the base has of interact (where --boxes says who does what), migc, gligen, else "
            "regions."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Of layout, paint_with_words, self_guidance, readout, gligen and interact; "
            "default the method's."
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Draw what was understood, and stop.")
    ] = False,
    schema: Annotated[  # noqa: ARG001 (its callback acts)
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print that of --boxes."
        ),
    ] = False,
    coarse: Annotated[
        float,
        typer.Option(
            help="Of segmentation and segmented_regions: how coarse the map is, in [0, 1]."
        ),
    ] = 0.0,
    head: Annotated[
        str, typer.Option(help="Of readout: a head's folder; default that of the condition.")
    ] = "",
    depth: Depth = None,
    give: Give = None,
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/layout"),
    base: Annotated[str, typer.Option(help="'mini', a folder, a hub id, or FILE@CONFIG.")] = "mini",
    adapter: Adapter = None,
    seed: Annotated[int, typer.Option(help="Of the first sample.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    size: Annotated[str | None, typer.Option(help="SIDE or HEIGHTxWIDTH.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Moves that call the network.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of text; 1 is off.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "auto",
) -> None:
    """Make a picture with things in their boxes."""
    from unicond.cli.asked import common, fill, form_of
    from unicond.cli.generate import read_boxes
    from unicond.cli.running import load_model, make, pairs, shipped
    from unicond.pictures.files import check_output_folder
    from unicond.tasks import forms
    from unicond.tasks.layout import DRAWN, GROUNDED, Layout, preferred

    options = {
        "prompt": "" if preview and what is None and prompt is None else read_prompt(what, prompt),
        "box": [_thing(one) for one in box or []],
        "boxes": read_boxes(boxes),
        "method": method,
        "scale": scale,
        "coarse": coarse,
        "depth": depth,
        "give": dict(pairs(give or [], "--give")),
        **common(seed, count, size, steps, guidance, negative_prompt),
    }
    task = fill(form_of(forms.Layout, options)).task()
    assert isinstance(task, Layout)
    task = replace(task, head=head)
    check_output_folder(out)
    if preview:
        typer.echo(str(_preview(task.grounding, out)))
        return
    own = [method] if method in GROUNDED else ["segmentation"] if method in DRAWN else []
    if method is None and base == "mini":
        own = shipped(preferred(task.grounding))[:1]
    model = load_model(base, adapters_for(adapter, [*task.held, *own]), device, dtype)
    make(task, model, "placing", out)


def _thing(said: str) -> dict[str, object]:
    """PHRASE@LEFT,TOP,RIGHT,BOTTOM as a form has it."""
    phrase, box = parse_box(said, "--box")
    return {"phrase": phrase, "box": box}


def _preview(grounding: "Grounding", folder: Path) -> Path:
    """Draw boxes and interactions into a folder."""
    from unicond.pictures.metadata import write_png
    from unicond.tasks.preview import draw_grounding

    return write_png(draw_grounding(grounding), folder / "preview.png", {})


def read_prompt(argument: str | None, option: str | None) -> str:
    """A prompt that is given in one of two ways."""
    told = [text for text in (argument, option) if text is not None]
    if len(told) != 1:
        raise ValueError("give what the picture shows once: as the argument, or as --prompt TEXT")
    return told[0]


def adapters_for(asked: list[str] | None, branches: list[str]) -> list[str]:
    """The adapters that a run loads: those asked for, else one of each condition's name."""
    if asked is not None:
        return asked
    return [branch.replace("_", "-") for branch in branches] or ["none"]


def parse_box(said: str, flag: str) -> tuple[str, tuple[float, ...]]:
    """TEXT@LEFT,TOP,RIGHT,BOTTOM as a text and its box."""
    from unicond.cli.generate import number

    text, _, sides = said.rpartition("@")
    parts = sides.split(",")
    if not text.strip() or len(parts) != 4:
        raise ValueError(
            f"{flag} {said!r} is not PHRASE@LEFT,TOP,RIGHT,BOTTOM, as in 'a red ball@0.1,0.3,0.4,1'"
        )
    return text.strip(), tuple(number(part, flag) for part in parts)
