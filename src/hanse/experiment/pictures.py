"""Pictures of statistics as inline SVG, from their descriptions (:mod:`hanse.presentation`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from hanse.experiment import drawing
from hanse.presentation import Bars, Bins, Picture, StepCurve, StepCurves
from hanse.tabulated import dated

KEPT_BACK = f"fill='none' stroke='{drawing.BLUE}' stroke-opacity='.45' stroke-dasharray='3 3'"
COLOURS = (drawing.BLUE, drawing.ORANGE, drawing.TEAL, drawing.RED, drawing.GREY)


def svg(picture: Picture, dates: bool = False) -> str:
    """The picture. ``dates``: its numbers on the column's own scale are days since 1970-01-01."""
    if isinstance(picture, Bars):
        return drawing.bars(picture.values)
    if isinstance(picture, Bins):
        return bins(picture, dates)
    return steps(picture, dates)


def bins(picture: Bins, dates: bool = False, width: int = 430, height: int = 150) -> str:
    """Bars as high as their counts, as wide as their bins; a dashed frame where the count is not known."""
    edges, counts = picture.edges, picture.counts
    unsure = picture.unsure or [False] * len(counts)
    span, most = edges[-1] - edges[0], max([1.0, *(c for c in counts if c is not None)])
    left, bottom = 8, 22
    parts = [f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(picture.caption)}'>"]
    scale = (width - 2 * left) / span
    for low, high, count, back in zip(edges, edges[1:], counts, unsure, strict=False):
        x, w = left + (low - edges[0]) * scale, max(0.6, (high - low) * scale - 1)
        h = (height - bottom - 6) * (1.0 if count is None else count / most)
        words = "kept back" if count is None else f"{drawing.short(count)}{' or more' if back else ''}"
        look = KEPT_BACK if count is None else f"fill='{drawing.BLUE}' fill-opacity='{0.4 if back else 0.82}'"
        parts.append(
            f"<rect x='{x:.1f}' y='{height - bottom - h:.1f}' width='{w:.1f}' height='{h:.1f}' {look}>"
            f"<title>{on_scale(low, dates)} to {on_scale(high, dates)}: {words}</title></rect>"
        )
    base = height - bottom
    parts.append(f"<line x1='{left}' x2='{width - left}' y1='{base}' y2='{base}' stroke='var(--line)'/>")
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = left + share * (width - 2 * left)
        at = on_scale(edges[0] + share * span, dates)
        parts.append(f"<text x='{x:.1f}' y='{height - 6}' text-anchor='{anchor}'>{at}</text>")
    return "".join(parts) + "</svg>"


def steps(picture: StepCurves, dates: bool = False, width: int = 430, height: int = 180) -> str:
    """Step curves with their bands, each in its colour, named below."""
    left, right, top, bottom = 34, 10, 8, 22
    end = max((float(curve.at[-1]) for curve in picture.curves.values() if curve.at), default=0.0) or 1.0
    legend = len(picture.curves) > 1
    whole = height + (18 * -(-len(picture.curves) // 3) if legend else 0)

    def x(at: float) -> float:
        return left + at / end * (width - left - right)

    def y(share: float) -> float:
        return top + (1 - share) * (height - top - bottom)

    def drawn(points: Sequence[tuple[float, float]]) -> list[str]:
        return [f"{x(at):.1f},{y(share):.1f}" for at, share in points]

    parts = [f"<svg viewBox='0 0 {width} {whole}' role='img' aria-label='{escape(picture.caption)}'>"]
    for mark in (0.0, 0.5, 1.0):
        parts.append(
            f"<line x1='{left}' x2='{width - right}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' "
            f"stroke='var(--line)'/><text x='{left - 6}' y='{y(mark) + 4:.1f}' "
            f"text-anchor='end'>{mark:g}</text>"
        )
    for place, (name, curve) in enumerate(picture.curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        for lows, highs in zip(*(pieces(curve.at, side, picture.start) for side in band(curve)), strict=True):
            around = [*drawn(highs), *reversed(drawn(lows))]
            parts.append(f"<polygon points='{' '.join(around)}' fill='{colour}' fill-opacity='.14'/>")
        for piece in pieces(curve.at, curve.values, picture.start):
            parts.append(
                f"<polyline points='{' '.join(drawn(piece))}' fill='none' stroke='{colour}' "
                f"stroke-width='2'><title>{escape(name)}</title></polyline>"
            )
        if legend:
            at, line = left + (place % 3) * 130, height + 12 + 18 * (place // 3)
            parts.append(
                f"<rect x='{at}' y='{line - 6}' width='12' height='4' fill='{colour}'/>"
                f"<text class='ink' x='{at + 17}' y='{line}'>{escape(drawing.clip(name, 16))}</text>"
            )
    parts.append(f"<text x='{left}' y='{height - 6}'>0</text>")
    parts.append(f"<text x='{width - right}' y='{height - 6}' text-anchor='end'>{on_scale(end, dates)}</text>")
    return "".join(parts) + "</svg>"


def pieces(at: Sequence[float], values: Sequence[float | None], start: float) -> list[list[tuple[float, float]]]:
    """The corners of a step curve that stands at ``values[i]`` from ``at[i]`` on; where a value is not known, it ends.

    >>> pieces([1.0, 2.0, 3.0], [0.5, None, 0.25], 1.0)
    [[(0.0, 1.0), (1.0, 1.0), (1.0, 0.5), (2.0, 0.5)], [(3.0, 0.25)]]
    """
    found, now = [], [(0.0, start)]
    for moment, value in zip(at, values, strict=True):
        if now:
            now.append((moment, now[-1][1]))
        if value is not None and math.isfinite(value):
            now.append((moment, value))
        elif now:
            found.append(now)
            now = []
    return [*found, now] if now else found


def band(curve: StepCurve) -> tuple[Sequence[float | None], Sequence[float | None]]:
    """The low and the high end, known at the same moments; neither where the curve has no band."""
    if not (curve.low and curve.high):
        return [None] * len(curve.at), [None] * len(curve.at)
    pairs = zip(curve.low, curve.high, strict=True)
    both = [pair if all(end is not None and math.isfinite(end) for end in pair) else (None, None) for pair in pairs]
    return [low for low, _ in both], [high for _, high in both]


def on_scale(value: float, dates: bool) -> str:
    """A number of a column, for people.

    >>> on_scale(18262.0, True), on_scale(3.14159, False)
    ('2020-01-01', '3.142')
    """
    return str(dated(value)) if dates else f"{value:.4g}"
