"""`python -m benchmarks.training`: a training step of a pair at Stable Diffusion 1.5's real size.

Forward and backward pass of two rows, an image and its condition, in half precision, batch 1:

    lora          ordinary LoRA of rank 64 on every attention layer, two plain rows
    joint         a joint adapter of rank 64 with y-LoRA, both branches noisy
    ..._again     blocks are called again in the backward pass (gradient checkpointing)

Ratios are medians over rounds in which all take turns, `lora` = 1; memory is the peak of a process
of its own, weights included.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from peft import LoraConfig
from torch import Tensor

from benchmarks.timing import interleave, ratio
from benchmarks.unicon import SIZES, Bench, peak_memory
from unicond.adapters.attach import attached
from unicond.adapters.recompute import recomputed
from unicond.evaluation.tables import describe_machine
from unicond.sampling.rows import Pairs, Rows, Variant

WAYS = ("lora", "joint", "lora_again", "joint_again")


def step(bench: Bench, way: str) -> Callable[[], None]:
    """A forward and backward pass in one way; gradients are dropped after it."""
    kind, _, again = way.partition("_")
    unet, device = bench.unet, bench.device
    latents = torch.randn(2, 4, bench.size.latents, bench.size.latents).to(device, bench.dtype)
    times, words = torch.tensor([500, 300], device=device), bench.words.expand(2, -1, -1)
    adapters = {"c0": bench.adapters["c0"].requires_grad_(True)} if kind == "joint" else {}
    if kind == "lora" and not getattr(unet, "peft_config", None):
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=bench.size.rank, target_modules=targets), "style")
        torch.nn.Module.to(unet, bench.dtype)  # diffusers' own `to` warns of parts that it lacks

    def loss() -> Tensor:
        return unet(latents, times, words).sample.float().square().mean()

    def run() -> None:
        with recomputed(unet) if again else nullcontext(), attached(unet, adapters):
            with _pair().active() if adapters else nullcontext():
                found = loss()
            found.backward()
        for part in (unet, *adapters.values()):
            part.zero_grad(set_to_none=True)

    return run


def _pair() -> Rows:
    one, yes = torch.ones(1), torch.ones(1, dtype=torch.bool)
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), one, one, yes, yes)
    return Rows((Variant(),), ("image", "condition"), 1, {"c0": pairs})


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the table")
    parser.add_argument("--size", choices=SIZES, default="sd15", help="of the network")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16

    def bench() -> Bench:
        return Bench(SIZES[options.size], device, dtype)

    if options.peak:
        step(bench(), options.peak)()
        print(peak_memory(device))
        return
    plain, joint = bench(), bench()  # LoRA layers stay in a network, and cost where they are off
    runs = {way: step(plain if way.startswith("lora") else joint, way) for way in WAYS}
    print(f"{describe_machine(device)}; medians of {options.rounds} rounds (least to greatest)")
    seconds, rows = interleave(runs, options.rounds), list[dict[str, object]]()
    for way in WAYS:
        one = ratio(seconds, way, "lora", way)
        line = [sys.executable, "-m", "benchmarks.training", "--size", options.size, "--peak", way]
        gib = float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
        print(f"{one}  {gib:5.2f} GiB")
        metrics = {"ratio": one.median, "low": one.low, "high": one.high, "peak_gib": gib}
        rows.append({"row": way, "metrics": metrics})
    if options.json:
        command = " ".join(["python -m benchmarks.training", *sys.argv[1:]])
        table = {"command": command, "machine": describe_machine(device), "rows": rows}
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
