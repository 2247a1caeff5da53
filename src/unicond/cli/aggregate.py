"""`unicond aggregate`: one picture by several models."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from unicond.aggregation.manner import DEFAULT
from unicond.cli.layout import Adapter, Boxes
from unicond.cli.manners import mean_of, mix_of, start_of, window_of


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
    boxes: Boxes = None,
    boxes_of: Annotated[
        list[str] | None, typer.Option(help="N=FILE: boxes of model N's own; repeat.")
    ] = None,
    ip_scale: Annotated[float, typer.Option(help="Of 'style': how much it looks.")] = 0.8,
    mix: Annotated[str, typer.Option(help="slerp, released, or lerp.")] = DEFAULT.mix,
    mean: Annotated[str, typer.Option(help="posterior, released, or none.")] = str(
        DEFAULT.mean or "none"
    ),
    step_size: Annotated[
        list[float] | None,
        typer.Option(help="How far each model is pulled back, for 64 x 64 latents; repeat."),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="FIRST-LAST of the moves after which states are mixed, or MOVES@SIGNAL: so many "
            "from the first with so much signal."
        ),
    ] = DEFAULT.written,
    start: Annotated[
        str,
        typer.Option(
            help="How all but the first begin: from their own noise, from shared noise, or joined, "
            "from the first one's state when the window begins."
        ),
    ] = DEFAULT.start,
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
    from unicond.adapters.grounding.config import Method
    from unicond.cli.generate import parse_size, read_boxes
    from unicond.cli.layout import adapters_for, read_prompt
    from unicond.cli.running import finish, load_model, pairs, progress_bar
    from unicond.grounding import read_grounding
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.together import STYLE, Together, weights_of

    asked = [_parsed(text) for text in model]
    if asked and asked[0][2] is not None:
        raise ValueError(
            f"--model {model[0]!r} is the first, whose picture is kept: weights are of the others"
        )
    pictures = {str(n + 1): file for n, (_, file, _) in enumerate(asked) if file is not None}
    task = Together(
        read_prompt(what, prompt),
        [name for name, _, _ in asked],
        pictures=pictures,
        prompts=dict(pairs(prompt_of or [], "--prompt-of")),
        grounding=read_boxes(boxes),
        groundings={n: read_grounding(f) for n, f in pairs(boxes_of or [], "--boxes-of")},
        weights=weights_of([weight for _, _, weight in asked[1:]]),
        ip_scale=ip_scale,
        mix=mix_of(mix),
        mean=mean_of(mean),
        step_sizes=step_size,
        window=window_of(window),
        start=start_of(start),
        seed=seed,
        count=count,
        size=parse_size(size),
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative_prompt,
    )
    check_output_folder(out)
    wanted = [
        IMAGE_PROMPT if name == STYLE else name
        for name, file, _ in asked
        if file is not None or name in get_args(Method)
    ]
    loaded = load_model(base, adapters_for(adapter, list(dict.fromkeys(wanted))), device, dtype)
    with progress_bar("aggregating") as callback:
        result = task.run(loaded, callback)
    finish(result, out)


def _parsed(text: str) -> tuple[str, str | None, float | None]:
    """(name, file, weight) of NAME[=FILE][:WEIGHT]."""
    rest, mark, last = text.rpartition(":")
    try:
        weight = float(last) if mark else None
    except ValueError:
        weight = None
    name, _, file = (text if weight is None else rest).partition("=")
    if not name:
        raise ValueError(f"--model {text!r} is not NAME, NAME:WEIGHT or NAME=FILE:WEIGHT")
    return name, file or None, weight
