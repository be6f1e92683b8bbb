"""Statistics as a card: a table, histograms, labels and survival curves as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hanse.experiment import drawing
from hanse.experiment.listing import Listing
from hanse.queries import Item

_MOST_PANELS = 12


def page(
    nodes: Sequence[str], values: Sequence[tuple[Item, Any]], table: Listing, notes: Sequence[str], simulated: bool
) -> str:
    """The whole card."""
    panels = []
    if len(table):
        panels.append(drawing.panel("Columns", "over all sites", table._repr_html_(), wide=True))
    for item, value in values:
        drawn = _drawn(item, value)
        if drawn and len(panels) <= _MOST_PANELS:
            panels.append(drawing.panel(item.name, drawn[0], drawn[1]))
    rows = [int(r["count"]) for r in table if isinstance(r.get("count"), int)]
    tiles = {"sites": str(len(nodes))}
    if rows:
        tiles |= {"rows at most": f"{max(rows):,}", "columns": str(len({r["column"] for r in table}))}
    return drawing.page(
        "Federated statistics", ", ".join(nodes), "simulation" if simulated else "", tiles, panels, notes
    )


def _drawn(item: Item, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    if item.stat == "histogram":
        hidden = "; paler bins are lower bounds" if value.get("hidden") else ""
        return f"rows per bin{hidden}", histogram(value)
    if item.stat == "value_counts":
        return "rows per label", drawing.bars({k: float(v) for k, v in value.items()})
    if item.stat == "kaplan_meier" and value["times"]:
        return f"share that survives, with its {item.options['level']:.0%} band", survival(value)
    return None


def histogram(value: Mapping[str, Any], width: int = 430, height: int = 150) -> str:
    """Bars as high as their counts, as wide as their bins."""
    edges, counts = value["bin_edges"], value["counts"]
    hidden = value.get("hidden") or [0] * len(counts)
    span, most = edges[-1] - edges[0], max([*counts, 1])
    left, bottom = 8, 22
    parts = [f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='histogram'>"]
    scale = (width - 2 * left) / span
    for low, high, count, back in zip(edges, edges[1:], counts, hidden, strict=False):
        x, w = left + (low - edges[0]) * scale, max(0.6, (high - low) * scale - 1)
        h = (height - bottom - 6) * count / most
        parts.append(
            f"<rect x='{x:.1f}' y='{height - bottom - h:.1f}' width='{w:.1f}' height='{h:.1f}' fill='{drawing.BLUE}' "
            f"fill-opacity='{0.4 if back else 0.82}'><title>{low:.4g} to {high:.4g}: {count}"
            f"{' or more' if back else ''}</title></rect>"
        )
    base = height - bottom
    parts.append(f"<line x1='{left}' x2='{width - left}' y1='{base}' y2='{base}' stroke='var(--line)'/>")
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = left + share * (width - 2 * left)
        parts.append(f"<text x='{x:.1f}' y='{height - 6}' text-anchor='{anchor}'>{edges[0] + share * span:.4g}</text>")
    return "".join(parts) + "</svg>"


def survival(value: Mapping[str, Any], width: int = 430, height: int = 180) -> str:
    """A step curve with its band."""
    left, right, top, bottom = 34, 10, 8, 22
    end = float(value["times"][-1]) or 1.0

    def x(time: float) -> float:
        return left + time / end * (width - left - right)

    def y(share: float) -> float:
        return top + (1 - share) * (height - top - bottom)

    def steps(values: Sequence[float | None]) -> list[str]:
        points, last = [f"{x(0):.1f},{y(1):.1f}"], 1.0
        for time, one in zip(value["times"], values, strict=True):
            points.append(f"{x(time):.1f},{y(last):.1f}")
            last = last if one is None or not math.isfinite(one) else one
            points.append(f"{x(time):.1f},{y(last):.1f}")
        return points

    parts = [f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='survival'>"]
    for mark in (0.0, 0.5, 1.0):
        parts.append(
            f"<line x1='{left}' x2='{width - right}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' "
            f"stroke='var(--line)'/><text x='{left - 6}' y='{y(mark) + 4:.1f}' "
            f"text-anchor='end'>{mark:g}</text>"
        )
    band = [*steps(value["upper"]), *reversed(steps(value["lower"]))]
    parts.append(f"<polygon points='{' '.join(band)}' fill='{drawing.BLUE}' fill-opacity='.14'/>")
    parts.append(
        f"<polyline points='{' '.join(steps(value['survival']))}' fill='none' stroke='{drawing.BLUE}' "
        "stroke-width='2'/>"
    )
    parts.append(f"<text x='{left}' y='{height - 6}'>0</text>")
    parts.append(f"<text x='{width - right}' y='{height - 6}' text-anchor='end'>{end:.4g}</text>")
    return "".join(parts) + "</svg>"
