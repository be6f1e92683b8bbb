"""Statistics as a matplotlib figure, for papers: histograms and labels, and a table below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.experiment import drawing
from hanse.experiment.listing import Listing, plain
from hanse.queries import Item

_ACROSS = 3


def draw(nodes: Sequence[str], values: Sequence[tuple[Item, Any]], table: Listing, simulated: bool) -> Any:
    """Histograms and labels, and the table below them.

    Args:
        values: items with what they gave.

    Returns:
    A ``matplotlib.figure.Figure`` that belongs to no window.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
    shown = [(i, v) for i, v in values if i.stat in ("histogram", "value_counts")]
    lines = -(-len(shown) // _ACROSS)
    heights = [*[2.3] * lines, *([0.45 + 0.27 * len(table)] if len(table) else [])]
    if not heights:
        raise ConfigError("there is nothing to draw; ask for histograms, value counts or numbers")
    figure = Figure(figsize=(11, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), _ACROSS, height_ratios=heights)
    for number, (item, value) in enumerate(shown):
        axes = figure.add_subplot(grid[number // _ACROSS, number % _ACROSS])
        if item.stat == "histogram":
            edges = np.array(value["bin_edges"])
            axes.bar(edges[:-1], value["counts"], np.diff(edges) * 0.94, align="edge", color=drawing.BLUE, alpha=0.82)
        else:
            labels = sorted(value, key=lambda label: value[label])
            axes.barh(labels, [value[label] for label in labels], color=drawing.TEAL, alpha=0.82, height=0.66)
        axes.set_title(item.columns[0], fontsize=10, loc="left", fontweight="bold")
        axes.tick_params(labelsize=8.5, length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    if len(table):
        axes = figure.add_subplot(grid[-1, :])
        axes.axis("off")
        columns = [c for c in table.columns if c != "labels"]
        cells = [[plain(row.get(c)) for c in columns] for row in table]
        drawn = axes.table(cells, colLabels=columns, loc="upper center", cellLoc="right", edges="horizontal")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8.5)
        for cell in drawn.get_celld().values():
            cell.set_edgecolor("#dfe3e8")
    words = f"Statistics of {len(nodes)} sites: {', '.join(nodes)}"
    figure.suptitle(words + (" (simulation)" if simulated else ""), fontsize=11, x=0.01, ha="left", fontweight="bold")
    return figure
