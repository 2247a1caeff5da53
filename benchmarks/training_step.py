"""`python -m benchmarks.training_step`: a training step of one pair, against plain LoRA training.

Stable Diffusion 1.5's real size, random weights, 64 x 64 latents, a frozen base in bfloat16 under
autocast, what is trained in float32. A step is the forward pass on two rows (one pair has as many),
their squared error, the backward pass and AdamW. All ways take turns in one run; a ratio is the
median, over the rounds, of a way's time over plain LoRA's in the same round.

    lora                  peft's LoRA of rank 64 on all projections of all attentions
    pair                  one pair: joint LoRAs and y-LoRA of rank 64, fused projection; two-way
    pair_aligned          tokens look around their own place only
    ..._checkpointing     gradient checkpoints: diffusers' own for `lora`, `recomputed` for pairs

Operations and memory are counted on the meta device as `benchmarks.training` does. `turn_gib` are
activations and gradients at their peak, `all_gib` the weights and AdamW's moments too, without the
autoencoder and the text encoder, which either training may leave out. `peak_gib` is measured: the
most memory of a process that makes two steps in one way and nothing else.
"""

import argparse
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.files import json_file, write_json
from benchmarks.peaks import peak_gib, peak_memory
from benchmarks.timing import interleave, ratio
from benchmarks.training import GIB, Alive, as_autocast
from benchmarks.unicon import SIZES, Size, bare, filled
from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter
from unicond.adapters.network import unique_bytes
from unicond.adapters.recompute import recomputed
from unicond.conditions import named
from unicond.evaluation.tables import describe_machine
from unicond.training.diffusion import squared_error
from unicond.training.joint import JointRecipe
from unicond.training.norm import quick_norms
from unicond.training.optimizers import optimizers
from unicond.training.roles import NAME, TWO_WAY, clean_draw, rows_of

SEEN = ("lora", "pair", "pair_aligned")
WAYS = (*SEEN, *(f"{way}_checkpointing" for way in SEEN))
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True)
class Counted:
    """What a step takes, counted.

    Args:
        operations: multiply-accumulates of both passes; an attention kernel that makes its scores
            again in the backward pass has a few more.
        parameters: that are trained.
        turn: bytes of activations and gradients at their peak.
        all: bytes of these, of all weights, and of AdamW's moments.
    """

    operations: float
    parameters: int
    turn: int
    all: int


class Bench:
    """All ways on one base; what a way does not need is not built for it.

    Args:
        size: how large.
        device: where; the meta device only counts.
        dtype: of the frozen base.
    """

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype) -> None:
        self.size, self.device, self.side = size, device, size.latents
        generator = torch.Generator().manual_seed(0)
        self.base = filled(bare(size), device, dtype).requires_grad_(False).eval()
        self.base.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        width = int(str(size.config()["cross_attention_dim"]))
        noisy, self.target = (
            torch.randn(2, 4, self.side, self.side, generator=generator).to(device)
            for _ in range(2)
        )
        self.noisy = noisy.contiguous(memory_format=torch.channels_last)
        self.words = torch.randn(2, 77, width, generator=generator).to(device, dtype)
        self.index = torch.full((2,), 500, device=device)

    @cached_property
    def wrapped(self) -> UNet2DConditionModel:
        """The base with peft's LoRA; they share the weights."""
        network = bare(self.size)
        network.load_state_dict(self.base.state_dict(), assign=True)
        return _with_lora(network, self.size.rank)

    @cached_property
    def adapter(self) -> JointAdapter:
        """That a pair trains."""
        recipe = JointRecipe(rank=self.size.rank, y_rank=self.size.rank)
        return recipe.adapter(self.base, named("depth"), "benchmark")

    def network(self, way: str) -> UNet2DConditionModel:
        """The network of a way."""
        return self.wrapped if way.startswith("lora") else self.base

    def trained(self, way: str) -> nn.Module:
        """What holds the weights that a way trains."""
        return self.wrapped if way.startswith("lora") else self.adapter

    def turn(self, way: str) -> None:
        """Both passes: the trained weights get their gradients."""
        network = self.network(way)
        with self._half_network(), self._calls(way), self._joint(way):
            output = network(self.noisy, self.index, self.words).sample
        squared_error(output, self.target).mean().backward()

    def step(self, way: str) -> Callable[[], None]:
        """What trains once in one way."""
        (adamw,) = self._lora_adamw if way.startswith("lora") else self._pair_adamw

        def run() -> None:
            self.turn(way)
            adamw.step()
            adamw.zero_grad()

        return run

    @cached_property
    def _lora_adamw(self) -> list[torch.optim.Optimizer]:
        """The optimiser that the ways of plain LoRA share."""
        return _adamw(self.wrapped)

    @cached_property
    def _pair_adamw(self) -> list[torch.optim.Optimizer]:
        """The optimiser that the ways of pairs share."""
        return _adamw(self.adapter)

    def _half_network(self) -> AbstractContextManager[object]:
        """As in training; the meta device knows no autocast."""
        if self.device.type == "meta" or self.base.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.base.dtype)

    def _calls(self, way: str) -> AbstractContextManager[None]:
        """How the network's blocks are called."""
        network = self.network(way)
        if not way.endswith("_checkpointing"):
            return quick_norms(network)
        return _checkpointed(network) if way.startswith("lora") else recomputed(network)

    @contextmanager
    def _joint(self, way: str) -> Generator[None]:
        """One pair whose sides look at each other, where the way has one."""
        with ExitStack() as stack:
            if way.startswith("pair"):
                drawn = clean_draw(TWO_WAY, torch.full((1,), 500), aligned="aligned" in way)
                stack.enter_context(attached(self.base, {NAME: self.adapter}))
                stack.enter_context(rows_of(drawn, (self.side, self.side)).active())
            yield


def _adamw(trained: nn.Module) -> list[torch.optim.Optimizer]:
    return optimizers(trained, 1e-4, matrix_lr=None, beta2=0.99, weight_decay=0.0)


def _with_lora(network: UNet2DConditionModel, rank: int) -> UNet2DConditionModel:
    """A frozen network with peft's LoRA, which alone is trained."""
    network.requires_grad_(False).eval()
    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=PROJECTIONS))
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # peft gives it the base's format
    return network


@contextmanager
def _checkpointed(network: UNet2DConditionModel) -> Generator[None]:
    """Inside the block the network makes diffusers' gradient checkpoints."""
    network.enable_gradient_checkpointing()
    try:
        yield
    finally:
        network.disable_gradient_checkpointing()


class Count:
    """Counts the ways on the meta device.

    Args:
        size: how large.
    """

    def __init__(self, size: Size) -> None:
        meta = torch.device("meta")
        self._wide, self._half = (Bench(size, meta, d) for d in (torch.float32, torch.bfloat16))

    def __call__(self, way: str) -> Counted:
        """What a step in one way takes; the same whatever was counted before."""
        with FlopCounterMode(display=False) as counter:
            self._wide.turn(way)
        network, trained = self._half.network(way), self._half.trained(way)
        self._wide.trained(way).zero_grad()
        with as_autocast(network, half=True):
            if "aligned" in way:
                self._half.turn(way)  # makes the masks of a size, which are kept from then on
                trained.zero_grad()
            with Alive() as alive:
                self._half.turn(way)
        trained.zero_grad()
        parameters = sum(weight.numel() for weight in trained.parameters() if weight.requires_grad)
        kept = unique_bytes(network, trained) + 8 * parameters
        return Counted(counter.get_total_flops() / 2, parameters, alive.peak, kept + alive.peak)


def metrics(found: Counted, lora: Counted) -> dict[str, float]:
    """What the table says of the counts of a way."""
    return {
        "macs_ratio": found.operations / lora.operations,
        "parameters": found.parameters,
        "turn_gib": found.turn / GIB,
        "turn_ratio": found.turn / lora.turn,
        "all_gib": found.all / GIB,
        "all_ratio": found.all / lora.all,
    }


def measure(
    size: str, device: torch.device, ways: Sequence[str], rounds: int
) -> dict[str, dict[str, float]]:
    """{way: its times over plain LoRA's, and its peak in a process of its own}."""
    bench, every = Bench(SIZES[size], device, torch.bfloat16), dict.fromkeys(("lora", *ways))
    seconds = interleave({way: bench.step(way) for way in every}, rounds)
    asked = ["--size", size, "--peak"]
    peaks = {way: peak_gib("benchmarks.training_step", [*asked, way]) for way in every}
    found: dict[str, dict[str, float]] = {}
    for way in ways:
        one = ratio(seconds, way, "lora")
        found[way] = {
            "ratio": one.median,
            "low": one.low,
            "high": one.high,
            "peak_gib": peaks[way],
            "peak_ratio": peaks[way] / peaks["lora"],
        }
    return found


def line(way: str, found: Mapping[str, float]) -> str:
    """What is printed of a way."""
    times = peak = ""
    if "ratio" in found:
        times = f"{found['ratio']:6.2f}  ({found['low']:.2f} to {found['high']:.2f})  "
        peak = f"  measured {found['peak_gib']:6.3f} GiB"
    return (
        f"{way:<28} {times}operations {found['macs_ratio']:5.2f}  "
        f"turn {found['turn_gib']:6.3f} GiB  all {found['all_gib']:6.3f} GiB{peak}"
    )


def main() -> None:
    """Measure, count, print, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__)
    parser.add_argument("--json", type=json_file, help="file for the table")
    parser.add_argument("--size", choices=SIZES, default="sd15", help="of the network")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts; 0: only count")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="some ways")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, wanted = SIZES[options.size], [w for w in WAYS if w in (options.only or WAYS)]
    if options.peak:
        step = Bench(size, device, torch.bfloat16).step(options.peak)
        for _ in range(2):  # from the second on AdamW's moments are there during the turn
            step()
        print(peak_memory(device))
        return
    print(f"{describe_machine(device)}; medians of {options.rounds} rounds (least to greatest)")
    measured: dict[str, dict[str, float]] = {}
    if options.rounds:
        measured = measure(options.size, device, wanted, options.rounds)
    count, rows = Count(size), list[dict[str, object]]()
    lora = count("lora")
    for way in wanted:
        found = measured.get(way, {}) | metrics(count(way), lora)
        rows.append({"row": way, "metrics": found})
        print(line(way, found))
    if options.json:
        command = " ".join(["python -m benchmarks.training_step", *sys.argv[1:]])
        about = {"command": command, "rounds": options.rounds, "machine": describe_machine(device)}
        write_json(options.json, about | {"rows": rows})


if __name__ == "__main__":
    main()
