"""`unicond generate`: what you give conditions, what you leave out is generated."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer


def generate(
    prompt: Annotated[str, typer.Option(help="What to make; may be left out.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out"),
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    base: Annotated[str, typer.Option(help="'mini', a folder, or a hub id.")] = "mini",
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="Name, folder, hub id, repo:subfolder, or BRANCH=one of these; repeat."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A given image.")] = None,
    depth: Annotated[Path | None, typer.Option(help="A given depth map.")] = None,
    give: Annotated[
        list[str] | None, typer.Option(help="BRANCH=FILE for any other branch; repeat.")
    ] = None,
    depth_kind: Annotated[
        str, typer.Option(help="near-white, near-black, or metric (metres; .npy, 16-bit PNG).")
    ] = "near-white",
    mask: Annotated[
        list[str] | None, typer.Option(help="BRANCH=FILE: white is known, black is made; repeat.")
    ] = None,
    mask_invert: Annotated[bool, typer.Option(help="Masks are white where to make.")] = False,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="BRANCH=R in [0, 1]: how coarse a given picture is; repeat."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Make these branches only; repeat.")
    ] = None,
    seed: Annotated[str, typer.Option(help="7, 7-14, or 1,5,9.")] = "0",
    count: Annotated[int | None, typer.Option(min=1, help="Samples; seeds count up.")] = None,
    size: Annotated[str | None, typer.Option(help="SIDE or HEIGHTxWIDTH in pixels.")] = None,
    fit: Annotated[str, typer.Option(help="crop, pad or stretch given pictures.")] = "crop",
    steps: Annotated[int | None, typer.Option(min=1, help="Moves that call the network.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="ddim, ddpm, euler, euler_ancestral, heun, dpmpp_2m.")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Noise of the ddim solver, 0 to 1.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of text; 1 is off.")] = None,
    condition_guidance: Annotated[float | None, typer.Option(help="0 is off.")] = None,
    conditioning_scale: Annotated[
        list[str] | None, typer.Option(help="BRANCH=WEIGHT of its joint attention; repeat.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    lora: Annotated[list[str] | None, typer.Option(help="FILE:SCALE; repeat.")] = None,
) -> None:
    """Generate what is not given: depth to image, image to depth, both from text, or parts."""
    from unicond.cli.running import finish, load_model, progress_bar
    from unicond.pictures.checks import parse_seeds
    from unicond.pictures.depth import DepthKind
    from unicond.pictures.files import check_output_folder
    from unicond.pictures.fitting import Policy
    from unicond.request import Given

    check_output_folder(out)
    check_one_of(depth_kind, get_args(DepthKind), "--depth-kind")
    check_one_of(fit, get_args(Policy), "--fit")
    files = dict(pairs(give or [], "--give"))
    files |= {b: str(p) for b, p in (("image", image), ("depth", depth)) if p is not None}
    masks = dict(pairs(mask or [], "--mask"))
    levels = dict(numbers(noise, "--noise"))
    for flag, named in (("--mask", masks), ("--noise", levels)):
        for branch in named.keys() - files.keys():
            raise ValueError(f"{flag} {branch}=...: no picture of {branch!r} is given beside it")
    kind, policy = cast(DepthKind, depth_kind), cast(Policy, fit)
    conditions = {
        b: Given(path, masks.get(b), levels.get(b), False, kind, policy, mask_invert)
        for b, path in files.items()
    }
    loras = dict(numbers(lora, "--lora", ":"))
    model = load_model(base, adapter, device, dtype, loras)
    seeds = parse_seeds(seed)
    with progress_bar("sampling") as callback:
        result = model(
            prompt,
            negative_prompt=negative_prompt,
            seed=seeds[0] if len(seeds) == 1 else seeds,
            count=count,
            size=parse_size(size),
            branches=only,
            num_inference_steps=steps,
            solver=solver,
            eta=eta,
            guidance_scale=guidance,
            condition_guidance=condition_guidance,
            conditioning_scale=dict(numbers(conditioning_scale, "--conditioning-scale")),
            callback=callback,
            **conditions,  # pyright: ignore[reportArgumentType] (names are branches)
        )
    finish(result, out)


def pairs(values: list[str], flag: str, mark: str = "=") -> list[tuple[str, str]]:
    """`NAME=VALUE` (or `NAME:VALUE`, split at the last colon) options as pairs."""
    found: list[tuple[str, str]] = []
    for value in values:
        name, _, rest = value.partition(mark) if mark == "=" else value.rpartition(mark)
        if not name or not rest:
            raise ValueError(f"{flag} {value!r} is not of the form NAME{mark}VALUE")
        found.append((name, rest))
    return found


def numbers(values: list[str] | None, flag: str, mark: str = "=") -> list[tuple[str, float]]:
    """`NAME=NUMBER` options as pairs."""
    found: list[tuple[str, float]] = []
    for name, text in pairs(values or [], flag, mark):
        try:
            found.append((name, float(text)))
        except ValueError:
            raise ValueError(f"{flag}: {text!r} is not a number") from None
    return found


def check_one_of(text: str, allowed: tuple[str, ...], flag: str) -> None:
    """Refuse an option's value that is not one of those allowed.

    Args:
        text: what was given.
        allowed: what may be given.
        flag: of the option, for the message.

    Raises:
        ValueError: it is not.
    """
    if text not in allowed:
        raise ValueError(f"{flag} {text!r} is not one of {', '.join(allowed)}")


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """SIDE or HEIGHTxWIDTH."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise ValueError(f"--size {text!r} is not SIDE or HEIGHTxWIDTH, as in 128 or 128x192")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
