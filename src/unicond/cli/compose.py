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
        str,
        typer.Option(
            help="composable, semantic, magic_fusion, multidiffusion, noise_collage, panorama, or "
            "blended."
        ),
    ] = "composable",
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
    from unicond.cli.generate import given_files, parse_size
    from unicond.cli.layout import adapters_for, parse_box
    from unicond.cli.running import finish, load_model, progress_bar
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.compose import WEIGHTS, Compose

    usual = WEIGHTS.get(method, 1.0)
    masks, boxes = _parted(region or [])
    conditions = given_files(give, depth=depth)
    task = Compose(
        prompt,
        texts=_weights(with_ or [], without or [], usual),
        regions=[parse_box(one, "--region") for one in boxes],
        masks=masks,
        picture=None if picture is None else str(picture),
        other=other,
        scene=scene,
        method=method,
        conditions=conditions,
        seed=seed,
        count=count,
        size=parse_size(size),
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative_prompt,
    )
    check_output_folder(out)
    model = load_model(base, adapters_for(adapter, list(conditions)), device, dtype)
    with progress_bar("composing") as callback:
        result = task.run(model, callback)
    finish(result, out)


def _weights(wanted: Sequence[str], unwanted: Sequence[str], usual: float) -> dict[str, float]:
    """{text: weight}, those kept out below 0."""
    from unicond.cli.generate import number

    found: dict[str, float] = {}
    for flag, sign, values in (("--with", 1, wanted), ("--without", -1, unwanted)):
        for value in values:
            text, mark, weight = value.rpartition("=") if "=" in value else (value, "", "")
            size = number(weight, flag) if mark else usual
            if text in found:
                raise ValueError(f"{flag} {value!r}: {text!r} is given twice; give it one weight")
            if size < 0:
                other = "--without" if sign > 0 else "--with"
                raise ValueError(f"{flag} {value!r} has a weight below 0: give it to {other}")
            found[text] = sign * size
    return found


def _parted(regions: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """{text: mask file} of the regions that name one, and the other regions."""
    masks, boxes = dict[str, str](), list[str]()
    for region in regions:
        text, _, place = region.rpartition("@")
        if not text or place.count(",") == 3:
            boxes.append(region)
        elif text in masks:
            raise ValueError(f"--region {region!r}: {text!r} has a mask already; draw both in one")
        else:
            masks[text] = place
    return masks, boxes
