"""`python -m benchmarks.unicon`: what joint attention costs at Stable Diffusion 1.5's real size.

Random weights, half precision, 64 x 64 latents, batch 1, no text guidance. On a GPU the networks
are compiled by `torch.compile`. All ways take turns in one run; a ratio is the median, over the
rounds, of a way's time over the plain network's in the same round. Each adapter has rank 64, y-LoRA
and a fused projection, as the published ones.

    plain, plain_b2       one row, and two
    controlnet            diffusers' `ControlNetModel` and the network
    two_way               image and condition, both moving; `_x2`, `_x4`: so many conditions
    one_way               conditions held: their keys and values are kept, one row is left
    ..._aligned           tokens look around their own place only
    call20, call20_x4     a whole call of 20 moves, recording included, against 20 plain moves
                          (one_way_aligned)
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Ratio, interleave, ratio
from unicond.adapters.attach import attached
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.denoisers.kept import Keeper
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.evaluation.tables import describe_machine
from unicond.sampling.noise import Generators
from unicond.sampling.prompts import Prompt
from unicond.sampling.schedules import DiscreteSchedule, from_config
from unicond.sampling.state import State

M = TypeVar("M", bound=nn.Module)
MOVES = 20
WAYS = (
    "plain", "plain_b2", "controlnet",
    "two_way", "two_way_aligned", "one_way", "one_way_aligned",
    "one_way_x2", "one_way_aligned_x2", "two_way_x4", "two_way_aligned_x4",
    "one_way_x4", "one_way_aligned_x4",
)  # fmt: skip
CALLS = ("call20", "call20_x4")


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Args:
        latents: side of the latents.
        rank: of the adapters.
        unet: what differs from Stable Diffusion 1.5's network.
    """

    latents: int = 64
    rank: int = 64
    unet: Mapping[str, object] | None = None

    def config(self) -> dict[str, object]:
        """The network's configuration."""
        plain = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
        return {**plain, **(self.unet or {})}


SIZES = {
    "sd15": Size(),
    "tiny": Size(
        latents=32,
        rank=2,
        unet={
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "cross_attention_dim": 32,
        },
    ),
}


@torch.no_grad()
def filled(module: M, device: torch.device, dtype: torch.dtype) -> M:
    """A module made on the meta device, with random weights on a real one."""
    nn.Module.to(module, dtype)  # diffusers' own `to` warns of parts that these networks lack
    if device.type == "meta":
        return module
    module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, value in module.state_dict().items():
        if value.ndim > 1:
            value.normal_(0.0, 0.02, generator=generator)
        else:
            value.fill_(1.0 if name.endswith("weight") else 0.0)
    return module.requires_grad_(False).eval()


class Bench:
    """All ways on one network.

    Args:
        size: how large.
        device: where; the meta device counts operations.
        dtype: of the network and the adapters.
    """

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype) -> None:
        self.size, self.device, self.dtype = size, device, dtype
        with torch.device("meta"):
            unet = cast(UNet2DConditionModel, UNet2DConditionModel.from_config(size.config()))
            controls = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
            config = JointConfig(rank=size.rank, y_rank=size.rank)
            adapters = [JointAdapter.for_network(unet, config) for _ in range(4)]
        self.unet = filled(unet, device, dtype)
        self.controls = filled(controls, device, dtype)
        self.adapters = {f"c{n}": filled(a, device, dtype) for n, a in enumerate(adapters)}
        if device.type == "cuda":
            self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.schedule = from_config({"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"})
        width = int(str(size.config()["cross_attention_dim"]))
        self.words = torch.randn(1, 77, width).to(device, dtype)

    def way(self, name: str) -> Callable[[], object]:
        """A step in one way; a held branch has been recorded before it."""
        kind, _, count = name.partition("_x")
        if kind in ("plain", "plain_b2"):
            return partial(self._plain, 2 if kind == "plain_b2" else 1)
        if kind == "controlnet":
            return self._controlled
        one_way, aligned = kind.startswith("one_way"), kind.endswith("aligned")
        denoiser, state = self._denoiser(int(count or 1), one_way, aligned)
        with attached(self.unet, dict(list(self.adapters.items())[: int(count or 1)])):
            processors = dict(self.unet.attn_processors)
            denoiser(state)  # merges the output projections, and records what is held

        def run() -> object:
            plain = dict(self.unet.attn_processors)
            self.unet.set_attn_processor(dict(processors))
            try:
                return denoiser(state)
            finally:
                self.unet.set_attn_processor(plain)

        return run

    def call(self, name: str) -> Callable[[], object]:
        """A whole call of `MOVES` moves, one-way and aligned, recording included; or plain ones."""
        if name == "plain20":
            return lambda: [self._plain(1) for _ in range(MOVES)]
        count = 4 if name.endswith("_x4") else 1

        def run() -> object:
            denoiser, state = self._denoiser(count, one_way=True, aligned=True)
            with attached(self.unet, dict(list(self.adapters.items())[:count])):
                return [denoiser(state) for _ in range(MOVES)]

        return run

    def _latents(self, rows: int) -> torch.Tensor:
        side = self.size.latents
        generator = torch.Generator().manual_seed(0)
        return torch.randn(rows, 4, side, side, generator=generator).to(self.device)

    def _denoiser(self, count: int, one_way: bool, aligned: bool) -> tuple[NetworkDenoiser, State]:
        branches = ("image", *list(self.adapters)[:count])
        deaf = frozenset(branches[1:]) if one_way else frozenset[str]()
        pairings = [
            Pairing(name, "image", name, deaf=deaf & {name}, aligned=aligned)
            for name in branches[1:]
        ]
        assert isinstance(self.schedule, DiscreteSchedule)
        state = State(
            {branch: self._latents(1) for branch in branches},
            {branch: 0.0 if branch in deaf else 0.5 for branch in branches},
            self.schedule,
            Generators([0], branches),
        )
        prompts = {"positive": dict.fromkeys(branches, Prompt(self.words))}
        return NetworkDenoiser(self.unet, prompts, pairings, keeper=Keeper(deaf)), state

    def _plain(self, rows: int) -> object:
        latents = self._latents(rows).to(self.dtype)
        return self.unet(latents, torch.tensor(500), self.words.expand(rows, -1, -1)).sample

    def _controlled(self) -> object:
        latents = self._latents(1).to(self.dtype)
        side = 8 * self.size.latents
        picture = torch.zeros(1, 3, side, side, device=self.device, dtype=self.dtype)
        time = torch.tensor(500)
        down, middle = self.controls(latents, time, self.words, picture, return_dict=False)
        return self.unet(
            latents,
            time,
            self.words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample


def operations(size: Size, name: str) -> float:
    """Multiply-accumulates of a way, counted on the meta device: on a CPU attention is not seen."""
    bench = Bench(size, torch.device("meta"), torch.float32)
    run = bench.call(name) if name in (*CALLS, "plain20") else bench.way(name)
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 2


def peak_gib(size: str, name: str) -> float:
    """Peak memory of one step in a process of its own; on a GPU that of its allocator."""
    line = [sys.executable, "-m", "benchmarks.unicon", "--size", size, "--peak", name]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has had, in GiB; on a GPU, of its allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


@torch.no_grad()
def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unicon", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the table")
    parser.add_argument("--size", choices=SIZES, default="sd15", help="of the network")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--only", nargs="+", choices=(*WAYS, *CALLS), help="some ways")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(
        SIZES[options.size], device, torch.float16 if device.type == "cuda" else torch.bfloat16
    )
    if device.type == "cuda":
        bench.unet.compile()
        bench.controls.compile()
    if options.peak:
        bench.way(options.peak)()
        print(peak_memory(device))
        return
    wanted = tuple(options.only or (*WAYS, *CALLS))
    ways, calls = [w for w in WAYS if w in wanted], [c for c in CALLS if c in wanted]
    print(f"{describe_machine(device)}; medians of {options.rounds} rounds (least to greatest)")
    found: list[tuple[str, Ratio, float, float | None]] = []
    for names, plain, make in ((ways, "plain", bench.way), (calls, "plain20", bench.call)):
        if not names:
            continue
        seconds = interleave({n: make(n) for n in dict.fromkeys((plain, *names))}, options.rounds)
        base = operations(bench.size, plain)
        for name in names:
            one = ratio(seconds, name, plain, name)
            macs = operations(bench.size, name) / base
            peak = peak_gib(options.size, name) if name in WAYS else None
            found.append((name, one, macs, peak))
            print(f"{one}  operations {macs:5.2f}" + ("" if peak is None else f"  {peak:5.2f} GiB"))
    if options.json:
        options.json.write_text(json.dumps(_table(options.rounds, found, device), indent=2) + "\n")


def _table(
    rounds: int, found: list[tuple[str, Ratio, float, float | None]], device: torch.device
) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    for name, one, macs, peak in found:
        metrics = {"ratio": one.median, "low": one.low, "high": one.high, "macs_ratio": macs}
        rows.append(
            {"row": name, "metrics": metrics | ({} if peak is None else {"peak_gib": peak})}
        )
    command = " ".join(["python -m benchmarks.unicon", *sys.argv[1:]])
    return {"command": command, "rounds": rounds, "machine": describe_machine(device), "rows": rows}


if __name__ == "__main__":
    main()
