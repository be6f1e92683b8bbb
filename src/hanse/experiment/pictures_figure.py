"""Pictures of statistics with matplotlib, for papers, from their descriptions (:mod:`hanse.presentation`)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.experiment import drawing
from hanse.experiment.listing import Listing, plain
from hanse.experiment.pictures import COLOURS, on_scale
from hanse.presentation import Bars, Bins, Picture, StepCurves
from hanse.rough import Rough

_ACROSS = 3
_LETTERS = 11  # of the title in an inch


def draw(words: str, pictures: Sequence[tuple[str, Picture, bool]], table: Listing) -> Any:
    """Pictures side by side, and the table below them.

    Args:
        words: the title.
        pictures: each with its own title, and whether its column is one of dates.

    Returns:
        A ``matplotlib.figure.Figure`` that belongs to no window.

    Raises:
        ConfigError: there is nothing to draw, or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
    lines = -(-len(pictures) // _ACROSS)
    across = min(_ACROSS, len(pictures)) or 1
    heights = [*[2.3 if across > 1 else 3.4] * lines, *([0.45 + 0.27 * len(table)] if len(table) else [])]
    if not heights:
        raise ConfigError("there is nothing to draw; ask for histograms, labels, survival curves or numbers")
    figure = Figure(figsize=(11 if across > 1 or len(table) else 6.4, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), across, height_ratios=heights)
    for number, (title, picture, dates) in enumerate(pictures):
        axes = figure.add_subplot(grid[number // across, number % across])
        _picture(axes, picture, dates)
        axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
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
    words = textwrap.fill(words, int(_LETTERS * figure.get_figwidth()))
    figure.suptitle(words, fontsize=11, x=0.01, ha="left", fontweight="bold")
    return figure


def _picture(axes: Any, picture: Picture, dates: bool) -> None:
    if isinstance(picture, Bars):
        _bars(axes, picture)
        return
    if isinstance(picture, Bins):
        edges, most = np.array(picture.edges, float), max([1.0, *(c for c in picture.counts if c is not None)])
        counts = [most if c is None else c for c in picture.counts]
        bars = axes.bar(edges[:-1], counts, np.diff(edges) * 0.94, align="edge", color=drawing.BLUE, alpha=0.82)
        for bar, count, back in zip(bars, picture.counts, picture.unsure or [False] * len(counts), strict=True):
            bar.set_alpha(0.4 if back else 0.82)
            if count is None:  # not known, which is not 0
                bar.set(fill=False, linestyle="--", edgecolor=drawing.BLUE)
    else:
        _steps(axes, picture)
    if dates:
        axes.xaxis.set_major_formatter(lambda value, place: on_scale(value, True))
        axes.xaxis.get_major_locator().set_params(nbins=3)


def _bars(axes: Any, picture: Bars) -> None:
    """An unsure one is lighter, with a line over where the pooled value lies."""
    if not picture.values:
        axes.text(0.5, 0.5, "kept back", transform=axes.transAxes, ha="center", color="#667085", fontsize=9)
        axes.set(xticks=[], yticks=[])
        return
    labels = sorted(picture.values, key=lambda label: float(picture.values[label]))
    values = [picture.values[label] for label in labels]
    bars = axes.barh(
        [drawing.clip(label, 28) for label in labels], [float(v) for v in values], color=drawing.TEAL, height=0.66
    )
    for place, (bar, value) in enumerate(zip(bars, values, strict=True)):
        rough = isinstance(value, Rough)
        bar.set_alpha(0.4 if rough else 0.82)
        if isinstance(value, Rough) and value.least is not None and value.most is not None:
            axes.plot([value.least, value.most], [place, place], color=drawing.TEAL, lw=1.5)


def _steps(axes: Any, picture: StepCurves) -> None:
    def values(found: Sequence[float | None]) -> Any:
        return np.array([picture.start, *(np.nan if v is None else v for v in found)], float)

    for place, (name, curve) in enumerate(picture.curves.items()):
        at, colour = np.array([0.0, *curve.at]), COLOURS[place % len(COLOURS)]
        if curve.low and curve.high:
            axes.fill_between(at, values(curve.low), values(curve.high), step="post", color=colour, alpha=0.14, lw=0)
        axes.step(at, values(curve.values), where="post", color=colour, linewidth=2, label=name)
    axes.set_ylim(0, 1.02)
    if len(picture.curves) > 1:
        axes.legend(frameon=False, fontsize=8)
