"""Small drawings as inline SVG: no script, no font, no network, nothing to install.

They take their ink from the page around them (a dark notebook stays dark). Every text that comes
from outside, such as a node's name or the reason of a failure, is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hanse.rough import Partial, Rough

BLUE, TEAL, ORANGE, RED, GREY = "#2f6fde", "#0f9d8a", "#e08a1e", "#d0402f", "#8a94a3"

STYLE = """<style>
.hanse{--ink:var(--jp-ui-font-color1,var(--vscode-editor-foreground,#1d2530));
--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#65707e));
--line:color-mix(in srgb,var(--ink) 13%,transparent);--wash:color-mix(in srgb,var(--ink) 4%,transparent);
color:var(--ink);background:var(--jp-layout-color0,var(--vscode-editor-background,#fff));
font:13px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
max-width:960px;padding:4px 2px}
.hanse *{box-sizing:border-box}
.hanse h3{font-size:17px;font-weight:650;margin:0;letter-spacing:-.01em;color:var(--ink)}
.hanse .sub{color:var(--soft);margin:2px 0 12px}
.hanse .tag{display:inline-block;border-radius:9px;padding:0 8px;font-size:11px;line-height:18px;font-weight:600;
vertical-align:2px;margin-left:6px;border:1px solid currentColor}
.hanse .tiles{display:flex;flex-wrap:wrap;gap:8px;margin:0 0 12px}
.hanse .tile{border:1px solid var(--line);border-radius:8px;padding:7px 14px 8px;min-width:104px}
.hanse .tile b{display:block;font-size:20px;font-weight:600;letter-spacing:-.02em;line-height:1.25;
font-variant-numeric:tabular-nums}
.hanse .tile span{color:var(--soft);font-size:11.5px}
.hanse .panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:12px}
.hanse .panel{border:1px solid var(--line);border-radius:8px;padding:11px 13px 9px;min-width:0}
.hanse .wide{grid-column:1/-1;overflow-x:auto}
.hanse .panel h4{font-size:12.5px;font-weight:600;margin:0 0 1px;color:var(--ink)}
.hanse .panel p{font-size:11.5px;color:var(--soft);margin:0 0 7px}
.hanse svg{display:block;width:100%;height:auto;overflow:visible}
.hanse svg text{font-size:11px;fill:var(--soft);font-family:inherit}
.hanse svg text.ink{fill:var(--ink)}
.hanse svg text.big{font-weight:600}
.hanse .warn{border-left:3px solid #e08a1e;padding:4px 10px;margin:10px 0 0;background:var(--wash);font-size:12px}
.hanse .warn b{font-weight:600}
.hanse table{border-collapse:collapse;font-size:12px;margin:0;color:var(--ink);width:100%}
.hanse th{font-weight:500;color:var(--soft);text-align:right;padding:2px 10px 3px 0;border-bottom:1px solid var(--line)}
.hanse td{text-align:right;padding:3px 10px 3px 0;border:0;font-variant-numeric:tabular-nums;background:none}
.hanse th:first-child,.hanse td:first-child{text-align:left;white-space:nowrap}
.hanse th:nth-child(2),.hanse td:nth-child(2){text-align:left;width:34%}
</style>"""


def page(
    title: str,
    subtitle: str,
    tag: str,
    tiles: Mapping[str, str],
    panels: Sequence[str],
    notes: Sequence[str],
) -> str:
    """A card: title, tiles of key figures, panels, and notes below them. ``panels`` is HTML; all
    else is text."""
    mark = f"<span class='tag' style='color:{ORANGE}'>{escape(tag)}</span>" if tag else ""
    cells = "".join(
        f"<div class='tile'><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in tiles.items()
    )
    below = "".join(f"<div class='warn'>{escape(note)}</div>" for note in notes)
    return (
        f"<div class='hanse'>{STYLE}<h3>{escape(title)}{mark}</h3><div class='sub'>{escape(subtitle)}</div>"
        f"<div class='tiles'>{cells}</div><div class='panels'>{''.join(panels)}</div>{below}</div>"
    )


def panel(title: str, text: str, body: str, wide: bool = False) -> str:
    """One drawing with its title and a line that says how to read it; ``wide`` fills a row."""
    return f"<div class='panel{' wide' if wide else ''}'><h4>{escape(title)}</h4><p>{escape(text)}</p>{body}</div>"


# ---------------------------------------------------------------- curves


@dataclass(frozen=True, slots=True)
class Curve:
    """One value per round, with its spread over the sites where it is known (equal lengths)."""

    name: str
    rounds: Sequence[int]
    values: Sequence[float]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that span ``[low, high]``.

    >>> ticks(0.0, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(3.0, 3.0)[0] < 3.0 < ticks(3.0, 3.0)[-1]
    True
    """
    if not high > low:
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, last + 1)]


def curve(line: Curve, colour: str = BLUE, width: int = 430, height: int = 196) -> str:
    """A curve over the rounds, its band from the worst to the best site, its last value written out."""
    left, right, top, bottom = 40, 46, 8, 32
    known = [v for v in [*line.values, *line.low, *line.high] if v is not None and math.isfinite(v)]
    if not known or not line.rounds:
        return empty("no evaluated round yet", width, 60)
    marks = ticks(min(known), max(known))
    if min(known) >= 0 and marks[0] < 0:
        marks = [m for m in marks if m >= 0]
    if max(known) <= 1 and marks[-1] > 1 and min(known) >= 0:
        marks = [m for m in marks if m <= 1]
    lowest, highest = min(marks[0], *known), max(marks[-1], *known)
    first, last = line.rounds[0], line.rounds[-1]

    def x(number: float) -> float:
        share = 0.5 if last == first else (number - first) / (last - first)
        return left + share * (width - left - right)

    def y(value: float) -> float:
        return top + (highest - value) / (highest - lowest or 1) * (height - top - bottom)

    parts = [f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(line.name)} per round'>"]
    decimals = max(0, min(6, -math.floor(math.log10((marks[1] - marks[0]) * 1.001)))) if len(marks) > 1 else 2
    if any(abs(round(m, decimals) - m) > 1e-12 for m in marks):
        decimals += 1
    for mark in marks:
        parts.append(
            f"<line x1='{left}' x2='{width - right}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' stroke='var(--line)'/>"
            f"<text x='{left - 7}' y='{y(mark) + 3.8:.1f}' text-anchor='end'>{mark:.{decimals}f}</text>"
        )
    base = height - bottom
    for number in _round_marks(list(line.rounds)):
        parts.append(
            f"<line x1='{x(number):.1f}' x2='{x(number):.1f}' y1='{base}' y2='{base + 4}' stroke='var(--line)'/>"
            f"<text x='{x(number):.1f}' y='{base + 16}' text-anchor='middle'>{number}</text>"
        )
    parts.append(f"<text x='{(left + width - right) / 2:.0f}' y='{height - 2}' text-anchor='middle'>round</text>")
    parts.append(_band(line, x, y, colour))
    points = [(x(r), y(v)) for r, v in zip(line.rounds, line.values, strict=True) if math.isfinite(v)]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    parts.append(
        f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.2' "
        "stroke-linejoin='round' stroke-linecap='round'/>"
    )
    if len(points) <= 30:
        for number, value in zip(line.rounds, line.values, strict=True):
            if math.isfinite(value):
                parts.append(
                    f"<circle cx='{x(number):.1f}' cy='{y(value):.1f}' r='2.6' fill='{colour}'>"
                    f"<title>round {number}: {value:.4g}</title></circle>"
                )
    end_x, end_y = points[-1]
    parts.append(
        f"<circle cx='{end_x:.1f}' cy='{end_y:.1f}' r='4' fill='{colour}'/>"
        f"<text class='big' style='fill:{colour}' x='{end_x + 9:.1f}' y='{end_y + 4:.1f}'>"
        f"{short(line.values[-1])}</text>"
    )
    return "".join(parts) + "</svg>"


def _band(line: Curve, x: Callable[[float], float], y: Callable[[float], float], colour: str) -> str:
    if not line.low or not line.high:
        return ""
    rows = [
        (r, low, high)
        for r, low, high in zip(line.rounds, line.low, line.high, strict=True)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    ]
    if not rows:
        return ""
    if len(rows) == 1:  # one round has no area: a bar from the worst to the best site
        number, low, high = rows[0]
        return (
            f"<line x1='{x(number):.1f}' x2='{x(number):.1f}' y1='{y(low):.1f}' y2='{y(high):.1f}' "
            f"stroke='{colour}' stroke-opacity='.25' stroke-width='9' stroke-linecap='round'/>"
        )
    upper = [f"{x(r):.1f},{y(high):.1f}" for r, _, high in rows]
    lower = [f"{x(r):.1f},{y(low):.1f}" for r, low, _ in reversed(rows)]
    return f"<polygon points='{' '.join(upper + lower)}' fill='{colour}' fill-opacity='.14'/>"


def _round_marks(rounds: list[int], most: int = 8) -> list[int]:
    """Which round numbers to write below an axis."""
    if len(rounds) <= most:
        return rounds
    first, last = rounds[0], rounds[-1]
    step = next(s for s in (p * b for p in (10**e for e in range(9)) for b in (1, 2, 5)) if (last - first) / s <= most)
    inner = [r for r in range(step, last + 1, step) if first < r and last - r >= step * 0.6]
    return [first, *[r for r in inner if r - first >= step * 0.6], last]


# ---------------------------------------------------------------- participation


@dataclass(frozen=True, slots=True)
class Cell:
    """What one node did in one round: ``ok``, ``failed`` or ``idle`` (not asked), and words for it."""

    state: str
    words: str = ""


def participation(
    nodes: Sequence[str], rounds: Sequence[int], cells: Mapping[tuple[str, int], Cell], width: int = 430
) -> str:
    """Nodes by rounds: filled where a node took part, marked where it failed (the reason shows on
    hovering), pale where it was not asked."""
    if not nodes or not rounds:
        return empty("no round yet", width, 60)
    shown = list(nodes)[:24]
    left = min(150, 12 + max(len(clip(n, 20)) for n in shown) * 6.3)
    right, top = 46, 2
    groups = _grouped(list(rounds), int((width - left - right) // 5))
    pitch = min(30.0, (width - left - right) / len(groups))
    gap = 3 if pitch > 12 else 1
    row = 21
    bottom = top + row * len(shown)
    parts = [f"<svg viewBox='0 0 {width} {bottom + 34}' role='img' aria-label='participation of the nodes'>"]
    for line, node in enumerate(shown):
        y = top + line * row
        parts.append(
            f"<text class='ink' x='0' y='{y + 13.5}'><title>{escape(node)}</title>{escape(clip(node, 20))}</text>"
        )
        took = asked = 0
        for column, group in enumerate(groups):
            found = [cells.get((node, r), Cell("idle")) for r in group]
            took += sum(c.state == "ok" for c in found)
            asked += sum(c.state != "idle" for c in found)
            worst = next((c for c in found if c.state == "failed"), None) or found[0]
            parts.append(_square(left + column * pitch, y + 1, pitch - gap, row - 4, worst, _span(group)))
        share = f"{took / asked:.0%}" if asked else "-"
        parts.append(f"<text x='{left + len(groups) * pitch + 5:.1f}' y='{y + 13.5}'>{share}</text>")
    for number in _round_marks([g[0] for g in groups]):
        column = max(i for i, g in enumerate(groups) if g[0] <= number)
        middle = left + (column + 0.5) * pitch - gap / 2
        parts.append(f"<text x='{middle:.1f}' y='{bottom + 13}' text-anchor='middle'>{number}</text>")
    parts.append(_legend(bottom + 29))
    more = f"<p>and {len(nodes) - len(shown)} more nodes</p>" if len(nodes) > len(shown) else ""
    return "".join(parts) + "</svg>" + more


def _square(x: float, y: float, width: float, height: float, cell: Cell, when: str) -> str:
    box = f"x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height}' rx='{min(3.0, width / 3):.1f}'"
    words = cell.words or {"ok": "took part", "idle": "not asked"}.get(cell.state, "")
    title = f"<title>{escape(when)}: {escape(words)}</title>"
    if cell.state == "ok":
        return f"<rect {box} fill='{TEAL}' fill-opacity='.82'>{title}</rect>"
    if cell.state == "idle":
        return f"<rect {box} fill='var(--line)' fill-opacity='.7'>{title}</rect>"
    arm, cx, cy = min(4.0, width / 3), x + width / 2, y + height / 2
    cross = f"M{cx - arm:.1f} {cy - arm:.1f}l{2 * arm:.1f} {2 * arm:.1f}m0 {-2 * arm:.1f}l{-2 * arm:.1f} {2 * arm:.1f}"
    return (
        f"<g>{title}<rect {box} fill='{RED}' fill-opacity='.16'/>"
        f"<path d='{cross}' stroke='{RED}' stroke-width='1.8' stroke-linecap='round'/></g>"
    )


def _legend(y: float) -> str:
    return "".join(
        _square(x, y - 9, 10, 10, Cell(state), words) + f"<text x='{x + 15}' y='{y}'>{words}</text>"
        for x, state, words in ((0, "ok", "took part"), (84, "failed", "failed"), (150, "idle", "not asked"))
    )


def _grouped(rounds: list[int], most: int) -> list[list[int]]:
    """At most ``most`` groups of neighbouring rounds."""
    size = -(-len(rounds) // max(1, most))
    return [rounds[i : i + size] for i in range(0, len(rounds), size)]


def _span(group: Sequence[int]) -> str:
    return f"round {group[0]}" if len(group) == 1 else f"rounds {group[0]} to {group[-1]}"


# ---------------------------------------------------------------- bars and tables


def bars(values: Mapping[str, float], colour: str = BLUE, width: int = 430, most: int = 12) -> str:
    """Horizontal bars, the largest first; of numbers that are not sure, lighter ones."""
    chosen = sorted(values.items(), key=lambda pair: (-float(pair[1]), pair[0]))[:most]
    longest = float(chosen[0][1]) if chosen else 0.0
    if not longest > 0:
        return empty("nothing to show", width, 60)
    left = min(190, 12 + max(len(clip(n, 28)) for n, _ in chosen) * 6.1)
    right, row = 130 if any(isinstance(value, Partial) for _, value in chosen) else 46, 21
    parts = [f"<svg viewBox='0 0 {width} {row * len(chosen) + 2}' role='img' aria-label='bars'>"]
    for line, (name, value) in enumerate(chosen):
        y, length = line * row, max(1.5, (width - left - right) * float(value) / longest)
        rough = isinstance(value, Rough)
        drawn = short(int(value) if float(value).is_integer() else float(value))
        told = f"{drawn} {value.of}" if isinstance(value, Partial) else f"≈{drawn}" if rough else drawn
        parts.append(
            f"<text class='ink' x='{left - 8:.1f}' y='{y + 14}' text-anchor='end'>"
            f"<title>{escape(name)}</title>{escape(clip(name, 28))}</text>"
            f"<rect x='{left:.1f}' y='{y + 3}' width='{length:.1f}' height='{row - 7}' rx='2.5' fill='{colour}' "
            f"fill-opacity='{0.4 if rough else 0.82}'><title>{escape(name)}: "
            f"{escape(str(value)) if rough else f'{value:.4g}'}</title></rect>"
            f"<text x='{left + length + 6:.1f}' y='{y + 14}'>{told}</text>"
        )
    more = f"<p style='margin:4px 0 0'>and {len(values) - most} more</p>" if len(values) > most else ""
    return "".join(parts) + "</svg>" + more


def sites(rows: Sequence[Mapping[str, float | str | None]], columns: Mapping[str, str]) -> str:
    """A table of sites, whose ``share`` (in [0, 1]) is drawn as a bar.

    Args:
        rows: with ``node``, ``share`` and the columns.
        columns: key to heading.
    """
    if not rows:
        return empty("no site has answered yet", 430, 60)
    head = "<th>site</th><th>share of rows</th>"
    head += "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    body = []
    for row in rows:
        share, known = float(row.get("share") or 0.0), row.get("share") is not None
        look = f"width:{share * 100:.1f}%;min-width:1px;height:9px;border-radius:2px;background:{BLUE};opacity:.82"
        bar = (
            "<div style='display:flex;align-items:center;gap:6px'><div style='width:70%;max-width:230px'>"
            f"<div style='{look}'></div></div>{share:.0%}</div>"
            if known
            else "unknown"
        )
        values = "".join(f"<td>{escape(_figure(row.get(key)))}</td>" for key in columns)
        node = str(row["node"])
        body.append(f"<tr><td title='{escape(node)}'>{escape(clip(node, 22))}</td><td>{bar}</td>{values}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def short(value: float) -> str:
    """A number for people.

    >>> short(0.98765), short(54.321), short(2983.0), short(1234567.8), short(0.0000321), short(0.0)
    ('0.988', '54.3', '2983', '1.23e+06', '3.21e-05', '0.000')
    """
    if 0 < abs(value) < 0.001:
        return f"{value:.3g}"
    if float(value).is_integer() and (abs(value) >= 10 or isinstance(value, int)):
        return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _figure(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else short(value)


def empty(words: str, width: int, height: int) -> str:
    """A picture (SVG) of ``width`` by ``height`` that says in words why there is none."""
    return (
        f"<svg viewBox='0 0 {width} {height}'><text x='{width / 2}' y='{height / 2}' "
        f"text-anchor='middle'>{escape(words)}</text></svg>"
    )


def clip(text: str, most: int) -> str:
    """The text, of at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
