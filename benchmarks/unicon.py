"""`python -m benchmarks.unicon`: what joint attention costs at Stable Diffusion 1.5's real size.

Random weights, half precision, 64 x 64 latents, batch 1, no text guidance. All ways take turns in
one run; a ratio is the median, over the rounds, of a way's time over the plain network's in the
same round. Each adapter has rank 64, y-LoRA and a fused projection, as the published ones. On a GPU
every way has a network of its own, with the same weights, compiled by `torch.compile` apart from
the others; where one would be compiled so often that torch gives up, the benchmark stops.

    plain, plain_b2       one row, and two
    controlnet            diffusers' `ControlNetModel` and the network; of several the sums go in
    two_way               image and condition, both moving
    one_way               conditions held: their keys and values are kept, one row is left
    ..._aligned           tokens look around their own place only
    ..._x2, ..._x4        so many conditions
    call20, call20_x4     a whole call of 20 moves, recording included, against 20 plain moves
                          (one_way_aligned)

`ratio` is of times (`low`, `high`: the least and the greatest round), `macs_ratio` of operations,
`peak_gib` the most memory of a process that runs this way alone, recording and merging included.
At the real size every bar is printed with pass or FAIL; the exit status is 1 if one fails.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TypeVar, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn
from torch._dynamo import config as dynamo
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bars import Bar, report
from benchmarks.files import json_file, write_json
from benchmarks.peaks import peak_gib, peak_memory
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
COUNTS = (1, 2, 4)
"""Of conditions."""
KINDS = ("controlnet", "two_way", "two_way_aligned", "one_way", "one_way_aligned")
WAYS = (
    "plain",
    "plain_b2",
    *(kind if n == 1 else f"{kind}_x{n}" for n in COUNTS for kind in KINDS),
)
CALLS = ("call20", "call20_x4")
BARS = {
    "one_way_aligned": 1.10,
    "one_way": 1.33,
    "two_way": 2.60,
    "one_way_aligned_x4": 1.30,
    "call20": 1.17,
    "call20_x4": 1.52,
}
"""{row: the greatest ratio of times to plain that is allowed}, at the real size."""
BELOW_CONTROLNET = ("one_way_aligned", "one_way")
RECOMPILATIONS = 128
"""Of one function for one way: every attention layer for itself, when it records and later."""


@dataclass(frozen=True)
class Found:
    """What was measured of one way.

    Attributes:
        name: of the row.
        time: over that of plain, in the same rounds.
        macs_ratio: operations over those of plain.
        peak_gib: the most memory of a process that runs it alone.
    """

    name: str
    time: Ratio
    macs_ratio: float
    peak_gib: float

    def __str__(self) -> str:
        return f"{self.time}  operations {self.macs_ratio:5.2f}  {self.peak_gib:5.2f} GiB"

    def to_json(self) -> dict[str, object]:
        """A row of the table."""
        times = {"ratio": self.time.median, "low": self.time.low, "high": self.time.high}
        own = {"macs_ratio": self.macs_ratio, "peak_gib": self.peak_gib}
        return {"row": self.name, "metrics": times | own}


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
    """All ways on one set of weights; what a way does not need is not built for it.

    Args:
        size: how large.
        device: where; the meta device counts operations.
        dtype: of the networks and the adapters.
        compiler: backend of `torch.compile`; None computes as it is written.

    Attributes:
        unet: the network.
        adapters: {branch: its adapter}, as many as the ways so far took.
        controls: ControlNets, likewise.
    """

    def __init__(
        self, size: Size, device: torch.device, dtype: torch.dtype, compiler: str | None = None
    ) -> None:
        self.size, self.device, self.dtype, self._compiler = size, device, dtype, compiler
        self.unet = filled(bare(size), device, dtype)
        if device.type == "cuda":
            self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adapters: dict[str, JointAdapter] = {}
        self.controls: list[ControlNetModel] = []
        self.schedule = from_config({"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"})
        width = int(str(size.config()["cross_attention_dim"]))
        generator = torch.Generator().manual_seed(0)
        self.words = torch.randn(1, 77, width, generator=generator).to(device, dtype)

    def way(self, name: str) -> Callable[[], object]:
        """A step in one way; a held branch has been recorded before it."""
        kind, _, count = name.partition("_x")
        number, network = int(count or 1), self._network()
        if kind in ("plain", "plain_b2"):
            return partial(self._plain, network, 2 if kind == "plain_b2" else 1)
        if kind == "controlnet":
            return partial(self._controlled, network, self._nets(number))
        one_way, aligned = kind.startswith("one_way"), kind.endswith("aligned")
        denoiser, state = self._denoiser(network, number, one_way, aligned)
        with attached(network, self._first(number)):
            processors = dict(network.attn_processors)
            denoiser(state)  # merges the output projections, and records what is held
        network.set_attn_processor(processors)  # the network is this way's own
        return partial(denoiser, state)

    def call(self, name: str) -> Callable[[], object]:
        """A whole call of `MOVES` moves, one-way and aligned, recording included; or plain ones."""
        network = self._network()
        if name == "plain20":
            return lambda: [self._plain(network, 1) for _ in range(MOVES)]
        number = 4 if name.endswith("_x4") else 1
        adapters = self._first(number)

        def run() -> object:
            denoiser, state = self._denoiser(network, number, one_way=True, aligned=True)
            with attached(network, adapters):
                return [denoiser(state) for _ in range(MOVES)]

        return run

    def run(self, name: str) -> Callable[[], object]:
        """A way or a call, by its name."""
        return self.call(name) if name in (*CALLS, "plain20") else self.way(name)

    def _network(self) -> UNet2DConditionModel:
        """A network of a way's own, with the weights of all; compiled apart from the others."""
        network = bare(self.size).requires_grad_(False).eval()
        network.load_state_dict(self.unet.state_dict(), assign=True)
        return self._compiled(network)

    def _compiled(self, network: M) -> M:
        """The same network; each is compiled apart, and what is compiled too often is an error."""
        if self._compiler is not None:
            dynamo.fail_on_recompile_limit_hit = True  # else torch goes on uncompiled
            dynamo.accumulated_recompile_limit = RECOMPILATIONS * (len(WAYS) + len(CALLS))
            network.compile(
                backend=self._compiler, isolate_recompiles=True, recompile_limit=RECOMPILATIONS
            )
        return network

    def _first(self, count: int) -> dict[str, JointAdapter]:
        """So many adapters."""
        config = JointConfig(rank=self.size.rank, y_rank=self.size.rank)
        while len(self.adapters) < count:
            with torch.device("meta"):
                adapter = JointAdapter.for_network(self.unet, config)
            self.adapters[f"c{len(self.adapters)}"] = filled(adapter, self.device, self.dtype)
        return dict(list(self.adapters.items())[:count])

    def _nets(self, count: int) -> list[ControlNetModel]:
        """So many ControlNets."""
        while len(self.controls) < count:
            with torch.device("meta"):
                net = ControlNetModel.from_unet(self.unet, load_weights_from_unet=False)
            self.controls.append(self._compiled(filled(net, self.device, self.dtype)))
        return self.controls[:count]

    def _latents(self, rows: int) -> torch.Tensor:
        side = self.size.latents
        generator = torch.Generator().manual_seed(0)
        return torch.randn(rows, 4, side, side, generator=generator).to(self.device)

    def _denoiser(
        self, network: UNet2DConditionModel, count: int, one_way: bool, aligned: bool
    ) -> tuple[NetworkDenoiser, State]:
        branches = ("image", *self._first(count))
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
        return NetworkDenoiser(network, prompts, pairings, keeper=Keeper(deaf)), state

    def _plain(self, network: UNet2DConditionModel, rows: int) -> object:
        latents = self._latents(rows).to(self.dtype)
        return network(latents, torch.tensor(500), self.words.expand(rows, -1, -1)).sample

    def _controlled(self, network: UNet2DConditionModel, nets: Sequence[ControlNetModel]) -> object:
        latents, time = self._latents(1).to(self.dtype), torch.tensor(500)
        side = 8 * self.size.latents
        picture = torch.zeros(1, 3, side, side, device=self.device, dtype=self.dtype)
        told = [net(latents, time, self.words, picture, return_dict=False) for net in nets]
        down, middle = zip(*told, strict=True)
        return network(
            latents,
            time,
            self.words,
            down_block_additional_residuals=[reduce(torch.add, e) for e in zip(*down, strict=True)],
            mid_block_additional_residual=reduce(torch.add, middle),
        ).sample


def bare(size: Size) -> UNet2DConditionModel:
    """The network, without content."""
    with torch.device("meta"):
        return cast(UNet2DConditionModel, UNet2DConditionModel.from_config(size.config()))


def operations(size: Size, name: str) -> float:
    """Multiply-accumulates of a way, counted on the meta device: on a CPU attention is not seen."""
    run = Bench(size, torch.device("meta"), torch.float32).run(name)
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 2


def bars(found: Sequence[Found]) -> list[Bar]:
    """The bars of those rows that were measured."""
    ratios = {each.name: each.time.median for each in found}
    own = [Bar(name, ratios[name], limit) for name, limit in BARS.items() if name in ratios]
    if "controlnet" not in ratios:
        return own
    controlnet = ratios["controlnet"]
    beside = [
        Bar(f"{n} (controlnet)", ratios[n], controlnet) for n in BELOW_CONTROLNET if n in ratios
    ]
    return own + beside


def measure(bench: Bench, size: str, wanted: Sequence[str], rounds: int) -> list[Found]:
    """Measure some rows, and print each.

    Args:
        bench: of that size.
        size: one of `SIZES`.
        wanted: names of rows.
        rounds: how often each is timed.

    Returns:
        A row each, in the order of `WAYS` and `CALLS`.
    """
    found: list[Found] = []
    for every, plain in ((WAYS, "plain"), (CALLS, "plain20")):
        names = [name for name in every if name in wanted]
        if not names:
            continue
        times = dict.fromkeys((plain, *names))
        seconds = interleave({name: bench.run(name) for name in times}, rounds)
        base = operations(bench.size, plain)
        for name in names:
            one, macs = ratio(seconds, name, plain, name), operations(bench.size, name) / base
            peak = peak_gib("benchmarks.unicon", ["--size", size, "--peak", name])
            found.append(Found(name, one, macs, peak))
            print(found[-1], flush=True)
    return found


@torch.no_grad()
def main() -> int:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unicon", description=__doc__)
    parser.add_argument("--json", type=json_file, help="file for the table")
    parser.add_argument("--size", choices=SIZES, default="sd15", help="of the network")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--only", nargs="+", choices=(*WAYS, *CALLS), help="some ways")
    parser.add_argument("--peak", choices=(*WAYS, *CALLS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, compiler = (
        (torch.float16, "inductor") if device.type == "cuda" else (torch.bfloat16, None)
    )
    bench = Bench(SIZES[options.size], device, dtype, compiler)
    if options.peak:
        bench.run(options.peak)()
        print(peak_memory(device))
        return 0
    machine, rounds = describe_machine(device), options.rounds
    print(f"{machine}; medians of {rounds} rounds (least to greatest)")
    found = measure(bench, options.size, options.only or (*WAYS, *CALLS), rounds)
    checked = bars(found) if options.size == "sd15" else []
    if options.json:
        command = " ".join(["python -m benchmarks.unicon", *sys.argv[1:]])
        rows, told = [each.to_json() for each in found], [bar.to_json() for bar in checked]
        table = {"command": command, "rounds": rounds, "machine": machine, "rows": rows}
        write_json(options.json, table | {"bars": told})
    return report(checked)


if __name__ == "__main__":
    sys.exit(main())
