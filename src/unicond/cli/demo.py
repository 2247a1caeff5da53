"""`unicond demo`: the main job on the embedded model, in a minute."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/demo"),
    base: Annotated[str, typer.Option(help="'mini', or a folder like it.")] = "mini",
    adapter: Annotated[str, typer.Option(help="A depth adapter of the base.")] = "depth",
    probes: Annotated[Path | None, typer.Option(help="Folder of other probes.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
) -> None:
    """One model, every direction: depth to image, image to depth, both from text, and between."""
    from unicond.cli.running import load_model
    from unicond.demo import run_demo
    from unicond.evaluation.judge import load_judge
    from unicond.pictures.files import check_output_folder
    from unicond.progress import progress

    check_output_folder(out)
    began = time.perf_counter()
    model, judge = load_model(base, [adapter], device, "float32"), load_judge(probes, device)
    with progress("sampling", every=0) as tell:
        parts, path = run_demo(model, judge, out, tell)
    table = Table(title="One model, every direction")
    table.add_column("part")
    table.add_column("measured")
    table.add_column("value", justify="right")
    for part in parts:
        table.add_row(part.name, part.measure, f"{part.value:.3f}")
    Console().print(table)
    typer.echo(f"{time.perf_counter() - began:.0f} s. Look at {path} (its parts: {out / 'parts'}/)")
