"""`unicond aggregate`: one picture by several models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from unicond.cli.layout import Adapter, Boxes
from unicond.cli.manners import moves_of


def aggregate(
    model: Annotated[
        list[str],
        typer.Option(
            help="NAME, NAME:WEIGHT or NAME=FILE:WEIGHT; repeat. An adapter with its condition's "
            "picture, a grounding adapter (with --boxes), 'style' with a picture, another base, or "
            "'text'. The first one's picture is kept; a weight is that of all before against this "
            "one: 0.5 unless given, or where none is, the first keeps a third, the others share."
        ),
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="What the picture shows.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The same, in the place of the argument.")
    ] = None,
    prompt_of: Annotated[
        list[str] | None, typer.Option(help="N=TEXT: a prompt of model N's own; repeat.")
    ] = None,
    first: Annotated[
        int, typer.Option(min=1, help="Number of the model whose picture is kept, mixed first.")
    ] = 1,
    boxes: Boxes = None,
    boxes_of: Annotated[
        list[str] | None, typer.Option(help="N=FILE: boxes of model N's own; repeat.")
    ] = None,
    ip_scale: Annotated[float, typer.Option(help="Of 'style': how much it looks.")] = 0.8,
    manner: Annotated[
        str,
        typer.Option(
            help="default or paper: the weights and the five options below, where they are not "
            "given. paper is as published with so many models."
        ),
    ] = "default",
    mix: Annotated[str | None, typer.Option(help="slerp, released, or lerp.")] = None,
    mean: Annotated[str | None, typer.Option(help="posterior, released, or none.")] = None,
    step_size: Annotated[
        list[float] | None,
        typer.Option(
            help="How far each model is pulled back, the first one first, for 64 x 64 latents; "
            "repeat."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="FIRST-LAST of the moves after which states are mixed, or MOVES@SIGNAL: so many "
            "from the first with so much signal."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="How all but the first begin: from their own noise, from shared noise, or joined, "
            "from the first one's state when the window begins."
        ),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="Of all models: ddim, ddpm, euler, euler_ancestral, heun, dpmpp_2m; default the "
            "base's own."
        ),
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Noise of the ddim solver, 0 to 1.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/aggregate"),
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
    """Let several models make one picture: each knows something else (AMDM)."""
    from unicond.adapter_loading import IMAGE_PROMPT
    from unicond.cli.asked import common, fill, form_of
    from unicond.cli.generate import read_boxes
    from unicond.cli.layout import adapters_for, read_prompt
    from unicond.cli.running import load_model, make
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.forms import Aggregate
    from unicond.tasks.together import METHODS, STYLE

    options = {
        "prompt": read_prompt(what, prompt),
        "model": _members(model, prompt_of or [], boxes_of or []),
        "first": first,
        "boxes": read_boxes(boxes),
        "ip_scale": ip_scale,
        "manner": manner,
        "mix": mix,
        "mean": mean,
        "step_size": step_size,
        "window": None if window is None else moves_of(window),
        "start": start,
        "solver": solver,
        "eta": eta,
        **common(seed, count, size, steps, guidance, negative_prompt),
    }
    form = form_of(Aggregate, options)
    filled = fill(form, *(one.name for one in form.model))
    check_output_folder(out)
    wanted = [
        IMAGE_PROMPT if one.name == STYLE else one.name
        for one in form.model
        if one.picture is not None or one.name in METHODS
    ]
    loaded = load_model(base, adapters_for(adapter, list(dict.fromkeys(wanted))), device, dtype)
    make(filled, loaded, "aggregating", out)


def _members(
    models: Sequence[str], prompts: Sequence[str], boxes: Sequence[str]
) -> list[dict[str, object]]:
    """The models as a form has them, each with what is its own."""
    from unicond.cli.running import pairs
    from unicond.grounding import read_grounding

    found = [_parsed(text) for text in models]
    members = {str(n + 1): member for n, member in enumerate(found)}
    for flag, field, values in (("--prompt-of", "prompt", prompts), ("--boxes-of", "boxes", boxes)):
        for number, said in pairs(values, flag):
            if number not in members:
                raise ValueError(
                    f"{flag} {number}={said} is of no model: there are {len(members)}, numbered "
                    "from 1"
                )
            members[number][field] = said if field == "prompt" else read_grounding(said)
    return found


def _parsed(text: str) -> dict[str, object]:
    """Name, picture and weight of NAME[=FILE][:WEIGHT]."""
    rest, mark, last = text.rpartition(":")
    try:
        weight = float(last) if mark else None
    except ValueError:
        weight = None
    name, _, file = (text if weight is None else rest).partition("=")
    if not name:
        raise ValueError(f"--model {text!r} is not NAME, NAME:WEIGHT or NAME=FILE:WEIGHT")
    return {"name": name, "picture": file or None, "weight": weight}
