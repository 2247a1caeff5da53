"""`unicond edit`: change a given picture by words."""

from pathlib import Path
from typing import Annotated

import typer


def edit(
    picture: Annotated[Path, typer.Argument(help="The picture to change.")],
    prompt: Annotated[str, typer.Option(help="What it is to show.")],
    source_prompt: Annotated[
        str, typer.Option(help="What it shows; methods with p2p need it.")
    ] = "",
    method: Annotated[
        str | None,
        typer.Option(
            help="INVERSION+ATTENTION, an inversion alone, or sdedit, diffedit, semantic, "
            "style_injection. Inversions: ddim, fixed_point, null_text, negative_prompt, direct, "
            "edit_friendly, edict; attention: p2p, pnp, masactrl. Default: with --style "
            "style_injection, with --source-prompt direct+p2p, else sdedit."
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="In (0, 1]; small changes little. Default: the method's.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A condition that stays as it is in the picture, as depth; repeat."),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(help="Of p2p: swap or refine. Default: swap where words stand one for one."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            help="WORDS=FACTOR of p2p, of words in the prompt; TEXT=SCALE of semantic, of further "
            "edits; repeat."
        ),
    ] = None,
    subject: Annotated[
        str,
        typer.Option(
            help="Of p2p and masactrl: words of the prompt; nothing else is changed, or looked at."
        ),
    ] = "",
    source_subject: Annotated[
        str, typer.Option(help="The words for it in the source's prompt, where they are others.")
    ] = "",
    scale: Annotated[
        float | None, typer.Option(help="Of semantic; negative takes away. Default: 7.")
    ] = None,
    per: Annotated[
        str | None, typer.Option(help="Of semantic: value or pixel is masked. Default: value.")
    ] = None,
    style: Annotated[
        Path | None, typer.Option(help="Of style_injection: a picture that shows the look.")
    ] = None,
    style_prompt: Annotated[str, typer.Option(help="What the picture of the style shows.")] = "",
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/edit"),
    base: Annotated[str, typer.Option(help="'mini', a folder, a hub id, or FILE@CONFIG.")] = "mini",
    adapter: Annotated[
        list[str] | None, typer.Option(help="As of generate; those of --keep if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first sample.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    size: Annotated[str | None, typer.Option(help="SIDE or HEIGHTxWIDTH.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Times from clean to noise.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of text; 1 is off.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "auto",
) -> None:
    """Change a picture as words say; what they do not speak of stays."""
    from unicond.cli.asked import common, fill, form_of
    from unicond.cli.generate import numbers
    from unicond.cli.running import load_model, make
    from unicond.pictures.files import check_output_folder
    from unicond.tasks.forms import Edit

    options = {
        "picture": picture,
        "prompt": prompt,
        "source_prompt": source_prompt,
        "method": method,
        "strength": strength,
        "keep": keep or (),
        "align": align,
        "weight": dict(numbers(weight, "--weight")),
        "subject": subject,
        "source_subject": source_subject,
        "scale": scale,
        "per": per,
        "style": style,
        "style_prompt": style_prompt,
        **common(seed, count, size, steps, guidance, negative_prompt),
    }
    filled = fill(form_of(Edit, options))
    check_output_folder(out)
    model = load_model(base, adapter if adapter is not None else keep or ["none"], device, dtype)
    make(filled, model, "editing", out)
