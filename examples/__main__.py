"""Runs every example on the embedded model and writes its sheet of pictures.

python -m examples                       all of them
python -m examples --only compose_not    one
"""

import argparse
import time
from importlib import import_module
from pathlib import Path

import unicond
from unicond.pictures import sheet

NAMES = (
    "edit_own_depth",
    "layout_pose",
    "restore_then_edit",
    "panorama_depth",
    "compose_not",
    "style_of_picture",
)
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument("--only", choices=NAMES, help="one of them; default all")
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder of pictures")
    parser.add_argument("--steps", type=int, default=STEPS, help="network calls of a picture")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = unicond.load("mini", adapters=["depth", "pose"])
    for name in [options.only] if options.only else NAMES:
        start, path = time.perf_counter(), options.out / f"{name}.png"
        example = import_module(f"examples.{name}")
        sheet(example.draw(model, options.steps), rows=3).save(path)
        print(f"{time.perf_counter() - start:5.1f} s  {path}", flush=True)
    print(f"\nThe pictures are in {options.out.resolve()}: look at each.")


if __name__ == "__main__":
    main()
