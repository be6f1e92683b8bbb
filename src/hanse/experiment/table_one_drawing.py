"""The love plot of a table 1: one line per variable, one dot per contrast, at its absolute difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment import drawing
from hanse.experiment.listing import Listing
from hanse.rough import Rough

THRESHOLD = 0.1  # below it, groups are commonly taken for balanced
_COLOURS = (drawing.BLUE, drawing.ORANGE, drawing.TEAL, drawing.RED, drawing.GREY)
_MOST = 40
Differences = Mapping[str, Mapping[str, float | None]]  # contrast to variable to its standardised mean difference


def page(
    groups: Sequence[str],
    tiles: Mapping[str, str],
    plot: str,
    rows: Listing,
    notes: Sequence[str],
    simulated: bool,
) -> str:
    """The whole card. ``plot`` is what :func:`love` gives."""
    panels = [
        drawing.panel(
            "Differences",
            f"absolute standardised mean difference; the line stands at {THRESHOLD}; hollow: not sure or not of all",
            plot,
            wide=True,
        ),
        drawing.panel("Variables", "mean (standard deviation), or rows (share)", rows._repr_html_(), wide=True),
    ]
    return drawing.page("Table 1", ", ".join(groups), "simulation" if simulated else "", tiles, panels, notes)


def _dots(found: Differences) -> tuple[list[str], list[tuple[str, list[float | None]]], float]:
    """Names of the lines, the largest difference first; of each contrast the values; the largest value."""
    variables = dict.fromkeys(name for one in found.values() for name in one)
    worst = {
        variable: max((float(abs(v)) for f in found.values() if (v := f[variable]) is not None), default=-1.0)
        for variable in variables
    }
    names = sorted(worst, key=lambda name: -worst[name])[:_MOST]
    dots = [(c, [None if (v := f[name]) is None else abs(v) for name in names]) for c, f in found.items()]
    return names, dots, max([1.05 * w for w in worst.values()] + [2 * THRESHOLD])


def love(found: Differences, width: int = 900) -> str:
    """The love plot as SVG: the standardised mean difference of each line, for each pair of parts."""
    names, dots, most = _dots(found)
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
            if (known := values[number]) is not None:
                colour, unsure = _COLOURS[place % 5], isinstance(known, Rough)
                said = f"{known:.3f}" + (f" ({known.about})" if isinstance(known, Rough) else "")
                parts.append(
                    f"<circle cx='{x(float(known)):.1f}' cy='{y}' r='4.5' fill='{colour}' stroke='{colour}' "
                    f"fill-opacity='{0.15 if unsure else 0.85}'>"
                    f"<title>{escape(name)}, {escape(contrast)}: {escape(said)}</title></circle>"
                )
    return "".join(parts) + "</svg>"


def figure(words: str, found: Differences) -> Any:
    """The same as a ``matplotlib.figure.Figure`` that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plot() needs matplotlib: pip install 'hanse[scientist]'") from None
    names, dots, most = _dots(found)
    drawn = Figure(figsize=(7.5, 1.1 + 0.28 * len(names)), layout="constrained")
    axes = drawn.add_subplot()
    lines = list(range(len(names)))[::-1]
    for place, (contrast, values) in enumerate(dots):
        pairs = [(v, line) for v, line in zip(values, lines, strict=True) if v is not None]
        colour = _COLOURS[place % 5]
        axes.scatter(
            [float(v) for v, _ in pairs],
            [line for _, line in pairs],
            s=26,
            facecolors=["#ffffff00" if isinstance(v, Rough) else f"{colour}d9" for v, _ in pairs],
            edgecolors=f"{colour}d9",
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
    axes.set_title(words, loc="left", fontsize=11, fontweight="bold")
    return drawn
