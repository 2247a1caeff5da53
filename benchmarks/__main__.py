"""`python -m benchmarks`: prints ratios, not lone times, and every bar with pass or fail.

Exits with status 1 if a bar is not met.
"""

import argparse
import sys

import unicond
from benchmarks.bars import Bar, report
from benchmarks.network import network_ratios
from benchmarks.size import adapter_sizes
from benchmarks.world import drawing_speed
from unicond.evaluation.tables import describe_machine

PARTS = ("network", "size", "world")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part; default all")
    parser.add_argument("--base", default="mini", help="base model: name, folder or hub id")
    parser.add_argument("--adapter", default="depth", help="adapter: name, folder or hub id")
    parser.add_argument("--batch", type=int, default=4, help="samples a call")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts")
    options, bars = parser.parse_args(), list[Bar]()
    if options.only in (None, "network"):
        model = unicond.load(options.base, [options.adapter])
        print(describe_machine(model.backbone.device))
        print(
            f"medians of {options.rounds} interleaved rounds (least to greatest), "
            f"batch {options.batch}"
        )
        for each in network_ratios(model, options.batch, options.rounds):
            print(each)
    if options.only in (None, "size"):
        bars += adapter_sizes()
    if options.only in (None, "world"):
        bars += drawing_speed()
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())
