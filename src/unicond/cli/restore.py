"""`unicond restore`: find a picture of which a measurement is known."""

from pathlib import Path
from typing import Annotated

import typer


def restore(
    picture: Annotated[
        Path, typer.Argument(help="What was measured: small, blurred, grey, or with a hole.")
    ],
    operator: Annotated[
        str, typer.Option(help="What made it: sr4, blur:3, colorize, inpaint-box, mask, ...")
    ],
    noise_std: Annotated[
        float,
        typer.Option(help="Its noise, on pictures in [-1, 1]: 0 is exact, 0.0023 that of 8 bits."),
    ],
    mask: Annotated[
        Path | None, typer.Option(help="Of operator mask: white is known, black is made.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="ddnm, ddrm, dps, mcg, pigdm, classifier, universal, ilvr, repaint, ccdf, "
            "replacement, reconstruction."
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The picture is clean: measure it first.")
    ] = False,
    prompt: Annotated[str, typer.Option(help="What it shows, if that is known.")] = "",
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/restore"),
    base: Annotated[
        str, typer.Option(help="'mini-pixel', 'mini', a folder, a hub id, or FILE@CONFIG.")
    ] = "mini-pixel",
    seed: Annotated[int, typer.Option(help="Of the first sample.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    mean: Annotated[
        bool, typer.Option("--mean", help="One picture, the mean of --count samples: least error.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="SIDE or HEIGHTxWIDTH of what is made; what was measured is resized."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Times from noise to clean.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Of text; 1 is off, as it is without a prompt.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "auto",
) -> None:
    """Restore a picture from what was measured of it: enlarge, deblur, colour, fill holes."""
    from unicond.cli.asked import common, fill, form_of
    from unicond.cli.running import load_model, make
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.forms import Restore

    options = {
        "picture": picture,
        "operator": operator,
        "noise_std": noise_std,
        "prompt": prompt,
        "mask": mask,
        "method": method,
        "simulate": simulate,
        "mean": mean,
        **common(seed, count, size, steps, guidance, negative_prompt),
    }
    filled = fill(form_of(Restore, options))
    check_output_folder(out)
    model = load_model(base, ["none"], device, dtype)
    make(filled, model, "restoring", out)
