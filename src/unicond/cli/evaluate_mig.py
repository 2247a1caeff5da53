"""`unicond evaluate mig`: COCO-MIG, things in their boxes and colours, for models of full size."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from unicond.cli.evaluate import (
    Device,
    Dtype,
    Guidance,
    Json,
    Out,
    Solver,
    Steps,
    check_places,
    finish,
)
from unicond.evaluation.mig import DETECTOR, SEGMENTER

Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="Name, folder, hub id or repo:subfolder; for a method NAME=WHERE, as interact=FOLDER; "
        "repeat; default the embedded ones that the method takes.",
    ),
]


def mig(
    bench: Annotated[Path, typer.Option(help="COCO-MIG's mig_bench.json, or one like it.")],
    base: Annotated[
        str | None, typer.Option(help="'mini' (default), a folder, or a hub id.")
    ] = None,
    adapter: Adapters = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="text (default), gligen, interact, migc, migc-official, or interact+migc (AMDM)."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Score this folder's *_KEY.png, KEY an entry's, and make no pictures."),
    ] = None,
    out: Out = Path("runs/evaluate"),
    entries: Annotated[
        int | None, typer.Option(min=1, help="So many of the first; default all.")
    ] = None,
    per_entry: Annotated[
        int | None, typer.Option(min=1, max=100, help="Pictures an entry; default 1.")
    ] = None,
    detector: Annotated[
        str, typer.Option(help="Grounding DINO: a folder, or a hub id.")
    ] = DETECTOR,
    segmenter: Annotated[str, typer.Option(help="SAM: a folder, or a hub id.")] = SEGMENTER,
    seed: Annotated[int, typer.Option(min=0, max=9999, help="Of the noise.")] = 0,
    json: Json = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Entries at a time; what is kept if interrupted.")
    ] = 5,
    device: Device = None,
    dtype: Dtype = "float32",
    steps: Steps = None,
    solver: Solver = None,
    guidance: Guidance = None,
) -> None:
    """COCO-MIG: several things of a picture, each in its box and of its colour."""
    from transformers.utils import logging

    from unicond.cli.running import load_model
    from unicond.evaluation.condition_table import Run, command_line
    from unicond.evaluation.mig.bench import read_bench
    from unicond.evaluation.mig.grounded import load_grounded
    from unicond.evaluation.mig.layouters import layouter
    from unicond.evaluation.mig.pictures import found_pictures
    from unicond.evaluation.mig.table import Trial, evaluate_images, evaluate_model
    from unicond.evaluation.subject import Sampling, fingerprints
    from unicond.pictures.files import fingerprint

    sampling = Sampling(steps, solver, guidance)
    if images is not None:
        _refuse(base=base, adapter=adapter, method=method, per_entry=per_entry, **vars(sampling))
    way = method or "text"
    adapters = _adapters(way, adapter)
    asked = read_bench(bench, entries)
    check_places(out, json)
    there = None if images is None else found_pictures(images, asked)
    logging.disable_progress_bar()  # of each file's tensors
    grounded = load_grounded(detector, segmenter, device)
    settings = {"bench": fingerprint(bench)["sha256"][:12], **grounded.fingerprints()}
    run = Run(len(asked), seed, batch, out, command_line(sys.argv[1:]), settings)
    trial = Trial(asked, grounded, run, grounded.detector.device)
    if there is not None:
        table, folder = evaluate_images(there, trial)
    else:
        model = load_model(base or "mini", adapters, device, dtype)
        trial = replace(trial, run=replace(run, settings=settings | fingerprints(model)))
        table, folder = evaluate_model(layouter(way, model, sampling), trial, per_entry or 1)
    finish(table, folder, json)


def _adapters(method: str, asked: list[str] | None) -> list[str]:
    """What a method's adapters are loaded by; what is missing is said before anything loads."""
    from unicond.cli.running import embedded_or_asked
    from unicond.evaluation.amdm.models import adapters_of
    from unicond.evaluation.mig.layouters import check_method, models_of
    from unicond.tasks.together import TEXT

    if method == TEXT:
        return asked or ["none"]
    adapters = embedded_or_asked(asked, adapters_of(models_of(method)))
    check_method(method, list(adapters))
    return [f"{name}={where}" for name, where in adapters.items()]


def _refuse(**options: object) -> None:
    """Refuse options that make pictures."""
    told = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if told:
        raise ValueError(
            f"--images scores pictures that are there, and none are made: drop {', '.join(told)}, "
            "or --images"
        )
