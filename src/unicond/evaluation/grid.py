"""A table of two names a row as a grid: cases down, methods across, a number and a shade a cell."""

from collections.abc import Mapping
from pathlib import Path

from unicond.evaluation.report import INK, save_figure


def save_grid(cells: Mapping[str, Mapping[str, float]], level: str, path: Path, title: str) -> Path:
    """Draw one metric, of which more is better, and save it as PNG.

    Args:
        cells: {case: {method: number}}; a method that a case lacks leaves its cell empty.
        level: the method that all others of a case are shaded by: green is more, red less.
        path: of the PNG.
        title: above all.

    Returns:
        The path.

    Raises:
        ValueError: no case, or one without the level.
    """
    import numpy as np
    from matplotlib.figure import Figure

    without = [case for case, row in cells.items() if level not in row]
    if not cells or without:
        raise ValueError(f"a grid needs cases, each with {level!r}; {without} lack it")
    methods = list(dict.fromkeys(method for row in cells.values() for method in row))
    gain = np.full((len(cells), len(methods)), np.nan)
    for y, row in enumerate(cells.values()):
        for x, method in enumerate(methods):
            gain[y, x] = row.get(method, np.nan) - row[level]
    size = (1.6 + 0.8 * len(methods), 1.3 + 0.32 * len(cells))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    most = max(float(np.nanmax(np.abs(gain))), 1e-6)
    panel.imshow(gain, cmap="RdYlGn", vmin=-most, vmax=most, aspect="auto", alpha=0.6)
    for y, row in enumerate(cells.values()):
        for x, method in enumerate(methods):
            if method in row:
                text = f"{row[method]:.1f}"
                panel.text(x, y, text, ha="center", va="center", fontsize=8, color=INK)
    names = [method.replace("_", " ") for method in methods]
    panel.set_xticks(range(len(methods)), names, rotation=30, ha="right")
    panel.set_yticks(range(len(cells)), list(cells))
    panel.tick_params(labelsize=8, length=0, colors=INK)
    panel.spines[:].set_visible(False)
    return save_figure(figure, path, title)
