"""A result as a matplotlib figure, for papers. The same pictures as in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment import drawing
from hanse.experiment.metric_names import title

Row = Mapping[str, Any]


def draw(
    words: str,
    curves: Sequence[drawing.Curve],
    nodes: Sequence[str],
    rounds: Sequence[int],
    cells: Mapping[tuple[str, int], drawing.Cell],
    contributions: Sequence[Row],
    importance: Mapping[str, float],
) -> Any:
    """Learning curves with the band over the sites, participation, contributions, importance.

    Args:
        words: the title.
        nodes, rounds: rows and columns of the participation, whose ``cells`` say what happened.
        contributions: one row per site, with ``node`` and ``share`` (in [0, 1]).
        importance: feature to its share; empty: the model has none.

    Returns:
        A ``matplotlib.figure.Figure`` that belongs to no window.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
    figure = Figure(layout="constrained")
    half = len(curves) + 1 + bool(importance)  # panels of half the width; contributions fill a row, or what is left
    rows = half // 2 + 1
    low = min(1.0, 0.3 + 0.1 * len(contributions)) if half % 2 == 0 else 1.0
    figure.set_size_inches(11, 3.3 * (rows - 1 + low))
    grid = figure.add_gridspec(rows, 2, height_ratios=[*[1.0] * (rows - 1), low])
    places = iter([figure.add_subplot(grid[i // 2, i % 2]) for i in range(half)])
    last = figure.add_subplot(grid[-1, :] if half % 2 == 0 else grid[-1, 1])
    for curve, colour in zip(curves, (drawing.BLUE, drawing.TEAL), strict=False):
        _curve(next(places), curve, colour)
    _participation(next(places), nodes, rounds, cells)
    _contributions(last, contributions)
    if importance:
        axes = next(places)
        names = list(importance)[::-1]
        axes.barh(
            [drawing.clip(n, 28) for n in names],
            [importance[n] for n in names],
            color=drawing.BLUE,
            alpha=0.82,
            height=0.66,
        )
        _plain(axes, "Feature importance", "share of the model's total")
    figure.suptitle(words, fontsize=11, x=0.01, ha="left", fontweight="bold")
    return figure


def _curve(axes: Any, curve: drawing.Curve, colour: str) -> None:
    nan = float("nan")
    low = [nan if v is None else v for v in curve.low]
    high = [nan if v is None else v for v in curve.high]
    axes.fill_between(curve.rounds, low, high, color=colour, alpha=0.14, linewidth=0, label="sites, worst to best")
    marker = "o" if len(curve.rounds) <= 30 else ""
    axes.plot(curve.rounds, curve.values, color=colour, linewidth=2, marker=marker, markersize=3.5, label="federation")
    axes.annotate(
        drawing.short(curve.values[-1]),
        (curve.rounds[-1], curve.values[-1]),
        xytext=(7, -3),
        textcoords="offset points",
        color=colour,
        fontweight="bold",
        fontsize=9,
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", alpha=0.25)
    name = title(curve.name)
    _plain(axes, f"{name[0].upper()}{name[1:]}", "round")
    axes.legend(frameon=False, fontsize=8)


def _participation(
    axes: Any, nodes: Sequence[str], rounds: Sequence[int], cells: Mapping[tuple[str, int], drawing.Cell]
) -> None:
    size = max(6.0, min(90.0, 9000.0 / max(1, len(rounds)) ** 1.4))
    for state, colour, marker, words in (
        ("idle", "#e3e6ea", "s", "not asked"),
        ("ok", drawing.TEAL, "s", "took part"),
        ("failed", drawing.RED, "x", "failed"),
    ):
        at = [
            (r, i)
            for i, n in enumerate(nodes)
            for r in rounds
            if cells.get((n, r), drawing.Cell("idle")).state == state
        ]
        if at:
            axes.scatter([r for r, _ in at], [i for _, i in at], s=size, c=colour, marker=marker, label=words)
    axes.set_yticks(range(len(nodes)), nodes)
    axes.set_ylim(max(1, len(nodes)) - 0.5, -0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _plain(axes, "Participation", "round")
    if rounds:
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _contributions(axes: Any, contributions: Sequence[Row]) -> None:
    rows = list(contributions)[::-1]
    shares = [r["share"] or 0.0 for r in rows]  # None: nobody knows it
    axes.barh([r["node"] for r in rows], shares, color=drawing.BLUE, alpha=0.82, height=0.6)
    for line, row in enumerate(rows):
        known = [k for k in ("accuracy", "auc", "r2", "loss") if row.get(k) is not None]
        share = "share unknown" if row["share"] is None else f"{row['share']:.0%}"
        words = [share, *(f"{title(k)} {row[k]:.3f}" for k in known[:2])]
        axes.annotate("  " + ", ".join(words), (shares[line], line), va="center", fontsize=8)
    axes.set_xlim(0, max([*shares, 0.1]) * 1.75)
    _plain(axes, "Contribution of each site", "share of the training rows")


def _plain(axes: Any, above: str, below: str) -> None:
    axes.set_title(above, fontsize=10, loc="left", fontweight="bold")
    axes.set_xlabel(below, fontsize=8.5)
    axes.tick_params(labelsize=8.5, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
