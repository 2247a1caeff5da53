"""`unicond compose`: one picture of several texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from unicond.cli.layout import Adapter, Depth, Give


def compose(
    prompt: Annotated[str, typer.Argument(help="What the whole picture shows; may be ''.")] = "",
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="TEXT or TEXT=W: what is to be there, too; repeat."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="TEXT or TEXT=W: what is not to be there, W positive; repeat."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="TEXT@LEFT,TOP,RIGHT,BOTTOM, shares, or TEXT@FILE, a mask; repeat."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="composable, semantic, magic_fusion, multidiffusion, noise_collage, panorama, or "
            "blended. Default: with --picture blended, with --other magic_fusion, with regions "
            "multidiffusion (panorama in a --size larger than the base's), else composable."
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Of blended: what stays outside of the regions.")
    ] = None,
    other: Annotated[
        str, typer.Option(help="Of magic_fusion: a second base; --with is its prompt.")
    ] = "",
    scene: Annotated[
        float | None, typer.Option(help="Weight of the prompt where regions are.")
    ] = None,
    depth: Depth = None,
    give: Give = None,
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/compose"),
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
    """Make one picture of several texts: joined, kept out, in their places, or by two models."""
    from unicond.cli.asked import common, fill, form_of
    from unicond.cli.layout import adapters_for
    from unicond.cli.running import load_model, make, pairs
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.form_pictures import named_pictures
    from unicond.tasks.forms import Compose

    options = {
        "prompt": prompt,
        "with": _texts(with_ or [], "--with", "--without"),
        "without": _texts(without or [], "--without", "--with"),
        "region": [_region(one) for one in region or []],
        "method": method,
        "picture": picture,
        "other": other,
        "scene": scene,
        "depth": depth,
        "give": dict(pairs(give or [], "--give")),
        **common(seed, count, size, steps, guidance, negative_prompt),
    }
    form = form_of(Compose, options)
    filled = fill(form, other)
    check_output_folder(out)
    conditions = list(named_pictures(form.give, depth=form.depth))
    model = load_model(base, adapters_for(adapter, conditions), device, dtype)
    make(filled, model, "composing", out)


def _texts(values: Sequence[str], flag: str, opposite: str) -> dict[str, float | None]:
    """{text: weight}, None where it is usual."""
    from unicond.cli.generate import number

    found: dict[str, float | None] = {}
    for value in values:
        text, mark, weight = value.rpartition("=") if "=" in value else (value, "", "")
        if text in found:
            raise ValueError(f"{flag} {value!r}: {text!r} is given twice; give it one weight")
        found[text] = size = number(weight, flag) if mark else None
        if size is not None and size < 0:
            raise ValueError(f"{flag} {value!r} has a weight below 0: give it to {opposite}")
    return found


def _region(said: str) -> dict[str, object]:
    """TEXT@LEFT,TOP,RIGHT,BOTTOM or TEXT@FILE as a form has it."""
    from unicond.cli.layout import parse_box

    text, _, place = said.rpartition("@")
    if text and place.count(",") != 3:
        return {"text": text, "mask": place}
    text, box = parse_box(said, "--region")
    return {"text": text, "box": box}
