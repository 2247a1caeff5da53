"""`unicond generate`: what you give conditions, what you leave out is generated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unicond.cli.batch import ENGINE, Batch, Loading, run_manifest
from unicond.cli.running import pairs

if TYPE_CHECKING:
    from unicond.calls.request import Against, Scale
    from unicond.grounding import Grounding
    from unicond.tasks.forms import Generate


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Option(help="What to make; may be left out.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out"),
    method: Annotated[
        Literal["adapter", "readout"],
        typer.Option(help="How a map is followed: by its adapter, or one by a readout head."),
    ] = "adapter",
    scale: Annotated[float | None, typer.Option(help="Of readout; 0 is off, default 10.")] = None,
    head: Annotated[
        str, typer.Option(help="Of readout: a head's folder; default that of the condition.")
    ] = "",
    negative_prompt: Annotated[str, typer.Option(help="What guidance moves away from.")] = "",
    base: Annotated[str, typer.Option(help="'mini', a folder, a hub id, or FILE@CONFIG.")] = "mini",
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="Name, folder, hub id, repo:subfolder, or BRANCH=one of these; repeat."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A given image.")] = None,
    depth: Annotated[Path | None, typer.Option(help="A given depth map.")] = None,
    give: Annotated[
        list[str] | None, typer.Option(help="BRANCH=FILE for any other branch; repeat.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="JSON file of boxes and interactions, for grounding adapters."),
    ] = None,
    image_prompt: Annotated[
        list[Path] | None,
        typer.Option(help="A picture beside the prompt, for image prompt adapters; repeat."),
    ] = None,
    ip_scale: Annotated[float, typer.Option(help="Of image prompts; 0 is off.")] = 1.0,
    depth_kind: Annotated[
        str, typer.Option(help="near-white, near-black, or metric (metres; .npy, 16-bit PNG).")
    ] = "near-white",
    mask: Annotated[
        list[str] | None, typer.Option(help="BRANCH=FILE: white is known, black is made; repeat.")
    ] = None,
    mask_invert: Annotated[bool, typer.Option(help="Masks are white where to make.")] = False,
    mask_threshold: Annotated[
        float | None,
        typer.Option(help="Known from this value on, in (0, 1]; left out, grey blends."),
    ] = None,
    guide: Annotated[
        list[str] | None,
        typer.Option(help="BRANCH: make it, guided to its given picture; repeat."),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="BRANCH=R in [0, 1]: how coarse a given picture is; repeat."),
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option(help="BRANCH: keep it at its noise instead of lowering it; repeat."),
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
    spacing: Annotated[
        Literal["leading", "linspace", "trailing"] | None,
        typer.Option(help="Of the times of the moves; default as the base's scheduler has it."),
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Noise of the ddim solver, 0 to 1.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of text; 1 is off.")] = None,
    condition_guidance: Annotated[float | None, typer.Option(help="0 is off.")] = None,
    condition_guidance_against: Annotated[
        list[str] | None,
        typer.Option(
            help="What it moves away from: a share of all joint attention, 0 (default) is none; or "
            "BRANCH=W, BRANCH=W_X:W_Y of some, the others keep theirs; repeat."
        ),
    ] = None,
    perturbed_guidance: Annotated[
        float | None,
        typer.Option(help="Away from attention that is switched off, for shapes; 0 is off."),
    ] = None,
    guidance_window: Annotated[
        str, typer.Option(help="FROM:TO, times between which guidance acts.")
    ] = "1:0",
    joint_scale: Annotated[float, typer.Option(help="Of all joint attention; 0 is off.")] = 1.0,
    conditioning_scale: Annotated[
        list[str] | None,
        typer.Option(help="BRANCH=W of its joint attention, or BRANCH=W_X:W_Y; repeat."),
    ] = None,
    held: Annotated[
        Literal["one_way", "two_way"] | None,
        typer.Option(help="Whether a held branch looks at the others; default as it was trained."),
    ] = None,
    attention: Annotated[
        Literal["global", "aligned"] | None,
        typer.Option(help="How far joint attention sees; default as it was trained."),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(help="Run held branches once; default where that changes nothing."),
    ] = None,
    refresh: Annotated[
        int | None,
        typer.Option(min=1, help="Run a held branch that hears again after so many calls."),
    ] = None,
    ensemble_size: Annotated[
        int | None,
        typer.Option(min=1, help="Average what so many noises read off an image."),
    ] = None,
    sampling: Annotated[
        Literal["unicond", "released"],
        typer.Option(help="'released' walks as UniCon's published pipeline does."),
    ] = "unicond",
    plan: Annotated[
        str | None,
        typer.Option(help="joint, image-first, condition-first, coarse(R), curve(A), X,Y;X,Y;..."),
    ] = None,
    reconstruction_weight: Annotated[
        list[str] | None,
        typer.Option(help="Of guidance from known parts: WEIGHT, or BRANCH=WEIGHT; repeat."),
    ] = None,
    reconstruction_iterations: Annotated[
        int | None, typer.Option(min=1, help="AdamW steps a move instead of a fixed weight.")
    ] = None,
    reconstruction_lr: Annotated[
        float | None, typer.Option(help="Learning rate of AdamW; default 0.02.")
    ] = None,
    reconstruction_window: Annotated[
        str, typer.Option(help="FROM:TO, times between which that guidance acts.")
    ] = "1:0",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, float16, or auto: what suits the device.")
    ] = "auto",
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep parts on the CPU while they are not called.")
    ] = False,
    slicing: Annotated[
        bool, typer.Option("--slicing", help="Compute attention in slices: less memory, more time.")
    ] = False,
    lora: Annotated[list[str] | None, typer.Option(help="FILE:SCALE; repeat.")] = None,
    batch: Annotated[
        Path | None, typer.Option(help="A file of forms, one a line: make all that is missing.")
    ] = None,
    engine: Annotated[
        ENGINE, typer.Option(help="Of --batch: this process, or actors of Ray.")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Of --engine ray; each has a model.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Of --batch: samples at once.")] = 8,
    redo: Annotated[
        bool, typer.Option("--redo", help="Of --batch: rows that have changed are made anew.")
    ] = False,
) -> None:
    """Generate what is not given: depth to image, image to depth, both from text, or parts."""
    from unicond.cli.asked import common

    loras = dict(numbers(lora, "--lora", ":"))
    loading = Loading(base, adapter, device, dtype, loras, offload, slicing)
    if run_manifest(context, Batch(batch, out, engine, workers, rows, redo), loading):
        return
    options = {
        "prompt": prompt,
        "method": method,
        "scale": scale,
        "image": image,
        "depth": depth,
        "give": dict(pairs(give or [], "--give")),
        "boxes": read_boxes(boxes),
        "image_prompt": image_prompt or (),
        "ip_scale": ip_scale,
        "depth_kind": depth_kind,
        "mask": dict(pairs(mask or [], "--mask")),
        "mask_invert": mask_invert,
        "mask_threshold": mask_threshold,
        "guide": guide or (),
        "noise": dict(numbers(noise, "--noise")),
        "hold": hold or (),
        "only": only,
        "fit": fit,
        "solver": solver,
        "spacing": spacing,
        "eta": eta,
        "condition_guidance": condition_guidance,
        "condition_guidance_against": parse_against(condition_guidance_against or []),
        "perturbed_guidance": perturbed_guidance,
        "guidance_window": parse_window(guidance_window, "--guidance-window"),
        "joint_scale": joint_scale,
        "conditioning_scale": parse_scales(conditioning_scale or []),
        "held": held,
        "attention": attention,
        "cache": cache,
        "refresh": refresh,
        "ensemble_size": ensemble_size,
        "sampling": sampling,
        "plan": plan,
        "reconstruction_weight": parse_weights(reconstruction_weight),
        "reconstruction_iterations": reconstruction_iterations,
        "reconstruction_lr": reconstruction_lr,
        "reconstruction_window": parse_window(reconstruction_window, "--reconstruction-window"),
        **common(parse_seed(seed), count, size, steps, guidance, negative_prompt),
    }
    _make(options, loading, out, head)


def _make(options: Mapping[str, object], loading: Loading, out: Path, head: str) -> None:
    """Make what is asked for."""
    from unicond.cli.asked import fill, form_of
    from unicond.cli.running import load_model, make, refuse_idle
    from unicond.pictures.files import check_output_folder
    from unicond.tasks import forms
    from unicond.tasks.generate import Generate

    form = form_of(forms.Generate, options)
    filled, by_head = fill(form), form.method == "readout"
    if head and not by_head:
        raise ValueError("--head is of a readout: drop it, or add --method readout")
    check_output_folder(out)
    if loading.base == "mini" and loading.adapter is None:
        loading = loading._replace(adapter=["none"] if by_head else _own(form) or None)
    model = refuse_idle(load_model(*loading), form.boxes, form.image_prompt or None)
    asked = filled
    if by_head:
        task = filled.task()
        assert isinstance(task, Generate)
        asked = replace(task, head=head)
    make(asked, model, "sampling", out)


def _own(form: "Generate") -> list[str]:
    """The embedded adapters of what a form says something of."""
    from unicond.cli.running import shipped
    from unicond.tasks.layout import preferred

    branches = shipped(branch.replace("_", "-") for branch in form.told())
    grounders = [] if form.boxes is None else shipped(preferred(form.boxes))[:1]
    return [*branches, *grounders, *shipped(["image-prompt"] if form.image_prompt else [])]


def read_boxes(file: Path | None) -> "Grounding | None":
    """What a file of `--boxes` says."""
    from unicond.grounding import read_grounding

    return None if file is None else read_grounding(file)


def parse_seed(text: str) -> int | tuple[int, ...]:
    """One seed, or several."""
    from unicond.pictures.checks import parse_seeds

    seeds = parse_seeds(text)
    return seeds[0] if len(seeds) == 1 else seeds


def parse_weights(values: list[str] | None) -> float | dict[str, float] | None:
    """One WEIGHT for all, or BRANCH=WEIGHT for some."""
    flag = "--reconstruction-weight"
    if values and len(values) == 1 and "=" not in values[0]:
        return number(values[0], flag)
    return dict(numbers(values, flag)) if values else None


def parse_against(values: list[str]) -> "Against":
    """One share of all weights, or the weights of some branches."""
    flag = "--condition-guidance-against"
    if len(values) == 1 and "=" not in values[0]:
        return number(values[0], flag)
    return parse_scales(values, flag) if values else 0.0


def parse_scales(values: list[str], flag: str = "--conditioning-scale") -> "dict[str, Scale]":
    """BRANCH=W, or BRANCH=W_X:W_Y."""
    found = dict[str, "Scale"]()
    for branch, text in pairs(values, flag):
        parts = [number(part, flag) for part in text.split(":")]
        if len(parts) > 2:
            raise ValueError(f"{flag} {branch}={text} is not BRANCH=W or BRANCH=W_X:W_Y")
        found[branch] = parts[0] if len(parts) == 1 else (parts[0], parts[1])
    return found


def parse_window(text: str, flag: str) -> list[float]:
    """FROM:TO, two times."""
    ends = [number(part, flag) for part in text.split(":")]
    if len(ends) != 2:
        raise ValueError(f"{flag} {text!r} is not FROM:TO with 1 >= FROM > TO >= 0, as in 1:0.2")
    return ends


def numbers(values: list[str] | None, flag: str, mark: str = "=") -> list[tuple[str, float]]:
    """`NAME=NUMBER` options as pairs."""
    found: list[tuple[str, float]] = []
    for name, text in pairs(values or [], flag, mark):
        found.append((name, number(text, flag)))
    return found


def number(text: str, flag: str) -> float:
    """The number in an option's text."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{flag}: {text!r} is not a number") from None


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
