"""Ratios of times, each measured in one run: `python -m benchmarks`."""
