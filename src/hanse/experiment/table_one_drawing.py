"""The love plot of a table 1: one line per variable, one dot per contrast, at its absolute difference."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from hanse.errors import ConfigError
from hanse.experiment import drawing

if TYPE_CHECKING:
    from hanse.experiment.table_one import TableOne

THRESHOLD = 0.1  # below it, groups are commonly taken for balanced
_COLOURS = (drawing.BLUE, drawing.ORANGE, drawing.TEAL, drawing.RED, drawing.GREY)
_MOST = 40


def page(table: TableOne) -> str:
    """The whole card."""
    rows = table.listing()
    panels = [
        drawing.panel(
            "Differences",
            f"absolute standardised mean difference; the line stands at {THRESHOLD}",
            love(table),
            wide=True,
        ),
        drawing.panel("Variables", "mean (standard deviation), or rows (share)", rows._repr_html_(), wide=True),
    ]
    beyond = table.unbalanced(THRESHOLD)
    tiles = {
        f"groups of {table.by}" if table.by else "sites": str(len(table.groups)),
        "variables": str(len({line.variable for line in table.lines})),
        f"beyond {THRESHOLD}": str(len(beyond)),
    }
    return drawing.page(
        "Table 1", ", ".join(table.groups), "simulation" if table.simulated else "", tiles, panels, table.notes
    )


def _dots(table: TableOne) -> tuple[list[str], list[tuple[str, list[float | None]]], float]:
    """Names of the lines, the largest difference first; of each contrast the values; the largest value."""
    found = table.smd
    worst = {
        line.name: max((abs(v) for f in found.values() if (v := f[line.name]) is not None), default=-1.0)
        for line in table.lines
    }
    names = sorted(worst, key=lambda name: -worst[name])[:_MOST]
    dots = [(c, [None if (v := f[name]) is None else abs(v) for name in names]) for c, f in found.items()]
    return names, dots, max([1.05 * w for w in worst.values()] + [2 * THRESHOLD])


def love(table: TableOne, width: int = 900) -> str:
    names, dots, most = _dots(table)
    if not names:
        return drawing.empty("nothing to show", width, 60)
    left, right, row, top = 210, 20, 20, 22 + 16 * ((len(dots) - 1) // 4)
    bottom = top + row * len(names)

    def x(value: float) -> float:
        return left + value / most * (width - left - right)

    parts = [f"<svg viewBox='0 0 {width} {bottom + 20}' role='img' aria-label='love plot'>"]
    for place, (contrast, _) in enumerate(dots):
        at, line = left + (place % 4) * 165, 12 + 16 * (place // 4)
        parts.append(
            f"<circle cx='{at}' cy='{line - 4}' r='4.5' fill='{_COLOURS[place % 5]}'/>"
            f"<text x='{at + 9}' y='{line}'>{escape(drawing.clip(contrast, 24))}</text>"
        )
    for value in drawing.ticks(0.0, most):
        parts.append(f"<text x='{x(value):.1f}' y='{bottom + 15}' text-anchor='middle'>{value:g}</text>")
    parts.append(
        f"<line x1='{x(THRESHOLD):.1f}' x2='{x(THRESHOLD):.1f}' y1='{top}' y2='{bottom}' "
        f"stroke='{drawing.GREY}' stroke-dasharray='4 3'/>"
    )
    for number, name in enumerate(names):
        y = top + row * number + row / 2
        parts.append(
            f"<line x1='{left}' x2='{width - right}' y1='{y}' y2='{y}' stroke='var(--line)'/>"
            f"<text class='ink' x='{left - 8}' y='{y + 4}' text-anchor='end'><title>{escape(name)}</title>"
            f"{escape(drawing.clip(name, 32))}</text>"
        )
        for place, (contrast, values) in enumerate(dots):
            if (found := values[number]) is not None:
                parts.append(
                    f"<circle cx='{x(found):.1f}' cy='{y}' r='4.5' fill='{_COLOURS[place % 5]}' "
                    f"fill-opacity='.85'><title>{escape(name)}, {escape(contrast)}: {found:.3f}</title>"
                    "</circle>"
                )
    return "".join(parts) + "</svg>"


def figure(table: TableOne) -> Any:
    """The same as a ``matplotlib.figure.Figure`` that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
    names, dots, most = _dots(table)
    drawn = Figure(figsize=(7.5, 1.1 + 0.28 * len(names)), layout="constrained")
    axes = drawn.add_subplot()
    lines = list(range(len(names)))[::-1]
    for place, (contrast, values) in enumerate(dots):
        pairs = [(v, line) for v, line in zip(values, lines, strict=True) if v is not None]
        axes.scatter(
            [v for v, _ in pairs],
            [line for _, line in pairs],
            s=26,
            color=_COLOURS[place % 5],
            alpha=0.85,
            label=contrast,
            zorder=3,
        )
    axes.axvline(THRESHOLD, color=drawing.GREY, linestyle="--", linewidth=1)
    axes.set_yticks(lines, names, fontsize=8.5)
    axes.set_xlim(0, most)
    axes.grid(axis="y", color="#dfe3e8", linewidth=0.7)
    axes.set_xlabel("absolute standardised mean difference", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    what = f"groups of {table.by}" if table.by else "sites"
    axes.set_title(
        f"Balance of {len(table.groups)} {what}" + (" (simulation)" if table.simulated else ""),
        loc="left",
        fontsize=11,
        fontweight="bold",
    )
    return drawn
