"""Table 1: how alike groups or sites are, variable by variable, by standardised mean differences.

For numbers d = (m1 - m2) / sqrt((v1 + v2) / 2); for each level of a categorical variable the same of
its share p, with v = p (1 - p) (Austin 2009, "Balance diagnostics for comparing the distribution of
baseline covariates"). Missing values are left out, variable by variable. Differences are computed here,
of sums and counts that nodes have protected: what was kept back has no share, and no difference.

Each number says on what it rests (:class:`hanse.rough.Rough`), where that is not all rows that were asked. d of two
shares rises with the first and falls with the second, so where they are told in ranges its own ends follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from hanse.experiment import table_one_drawing
from hanse.experiment.listing import Listing
from hanse.queries import Lacking
from hanse.rough import Partial, Rough, Scope, as_json, qualified, spans
from hanse.statistics import smd
from hanse.tabulated import dated


@dataclass(frozen=True, slots=True)
class Part:
    """One variable, or one level of it, in one group. ``spread``: the variance; None for n < 2.

    The mean is ``center`` + ``rest``: of two close means far from 0 the difference would have few digits,
    so it is told from a point between them, as in a t-test (:func:`hanse.statistics.t_test.pair`).

    Args:
        scope: whose rows are in it.
        ends: of a level, between what its share lies; None: it is that share.
        lacking: of a column of numbers, what is known of the rows that are not in it; None: nothing.
    """

    n: int
    center: float
    spread: float | None
    rest: float = 0.0
    scope: Scope = Scope()
    ends: tuple[float, float] | None = None
    lacking: Lacking | None = None

    @property
    def mean(self) -> float:
        """Of the rows of this part; kept as a center and a small rest, so that differences of means lose nothing."""
        return self.center + self.rest

    def about(self, center: float) -> float:
        """The mean, less ``center``."""
        return (self.center - center) + self.rest

    def told(self, value: float | None, ends: Sequence[float | None] | None = None) -> Any:
        """A number of this part, with whose rows are not in it; ``ends``: between what it lies, of these where they are
        known."""
        return qualified(value, ends, self.scope, holds=self.lacking is not None)

    def moments(self) -> smd.Moments:
        """Between what the mean and the squares of all rows lie."""
        squares = (self.spread or 0.0) * (self.n - 1)
        return smd.moments(self.n, self.mean, squares, self.lacking or Lacking(0))


@dataclass(frozen=True, slots=True)
class TableLine:
    """One variable (``level`` empty) or one level of it: group to what is known there. ``date``: its means are days
    since 1970-01-01, which people read as dates."""

    variable: str
    level: str
    parts: Mapping[str, Part | None]
    date: bool = False

    @property
    def name(self) -> str:
        """The variable, and of a category its level: ``sex = f``."""
        return f"{self.variable} = {self.level}" if self.level else self.variable

    def numbers(self, group: str) -> tuple[Any, Any, Any]:
        """Rows, mean and standard deviation of a variable; of a level its rows, their share and None."""
        part = self.parts.get(group)
        if part is None:
            return None, None, None
        if not self.level:
            spread = None if part.spread is None else part.spread**0.5
            if part.lacking is None:
                return part.told(part.n), part.told(part.mean), part.told(spread)
            of = part.moments()
            low, high = (None if end is None else end**0.5 for end in of.variance())
            rows = part.told(part.n, (part.n, part.n + of.rows))
            return rows, part.told(part.mean, of.mean), part.told(spread, (low, high))
        ends = None if part.ends is None else (round(part.n * part.ends[0]), round(part.n * part.ends[1]))
        return part.told(round(part.n * part.mean), ends), part.told(part.mean, part.ends), None

    def difference(self, a: str, b: str) -> Any:
        """The standardised mean difference of two groups; None where it is not known."""
        one, other = self.parts.get(a), self.parts.get(b)
        if one is None or other is None or one.spread is None or other.spread is None:
            return None
        found, ends = smd.difference(one.rest, one.spread, other.about(one.center), other.spread), None
        if one.ends or other.ends:
            (low, high), (least, most) = (part.ends or (part.mean, part.mean) for part in (one, other))
            corners = [smd.difference(p, p * (1 - p), q, q * (1 - q)) for p, q in ((low, most), (high, least))]
            if None in corners or found is None:  # it may be that of shares that do not vary
                return None
            ends = tuple(corners)
        scope, known = one.scope.joined(other.scope), one.lacking is not None and other.lacking is not None
        if scope.missing and known:
            ends = smd.standardised(one.moments(), other.moments())
        return qualified(found, ends, scope, holds=known)


@dataclass(frozen=True, slots=True)
class TableOne:
    """Groups side by side. Draws itself in a notebook, as a table and a love plot.

    Args:
        groups: labels of a column, or sites.
        contrasts: name to the two groups that are compared.
        notes: what was kept back, which site is not in it, and why.
    """

    lines: Sequence[TableLine]
    groups: Sequence[str]
    contrasts: Mapping[str, tuple[str, str]]
    by: str = ""
    notes: Sequence[str] = ()
    simulated: bool = False

    @property
    def smd(self) -> dict[str, dict[str, float | None]]:
        """Contrast to variable (``sex = f`` for a level) to the standardised mean difference."""
        return {
            name: {line.name: line.difference(*pair) for line in self.lines} for name, pair in self.contrasts.items()
        }

    def unbalanced(self, threshold: float = 0.1) -> dict[str, float]:
        """Variable to its largest absolute difference, where that is above ``threshold``; largest first."""
        worst: dict[str, float] = {}
        for found in self.smd.values():
            for name, value in found.items():
                if value is not None and float(abs(value)) > max(threshold, float(worst.get(name, 0.0))):
                    worst[name] = abs(value)
        return dict(sorted(worst.items(), key=lambda pair: -float(pair[1])))

    def to_frame(self) -> Any:
        """A pandas or Polars frame: per group ``n``, ``mean`` and ``sd`` (of a level: its rows and its
        share), then the difference of each contrast."""
        return Listing(self._rows()).to_frame()

    def _rows(self) -> list[dict[str, Any]]:
        differences, rows = self.smd, []
        for line in self.lines:
            row: dict[str, Any] = {"variable": line.variable, "level": line.level or None}
            for group in self.groups:
                n, mean, spread = line.numbers(group)
                row |= {f"n {group}": n, f"mean {group}": mean, f"sd {group}": spread}
            rows.append(row | {f"smd {name}": found[line.name] for name, found in differences.items()})
        return rows

    def listing(self) -> Listing:
        """The same for people: mean (standard deviation), rows (share)."""
        differences, rows = self.smd, []
        for line in self.lines:
            row: dict[str, Any] = {"variable": line.name}
            row |= {group: _text(line, group) for group in self.groups}
            rows.append(row | {f"smd {name}": found[line.name] for name, found in differences.items()})
        return Listing(rows, empty="no variable can be compared")

    def to_json(self) -> dict[str, Any]:
        """Variables with what is known of each group, differences, and notes, as plain JSON. A number that may not be
        that of the pooled rows is an object (:meth:`hanse.rough.Rough.to_json`)."""
        return {
            "groups": list(self.groups),
            "rows": as_json(self._rows()),
            "smd": as_json(self.smd),
            "rests_on": {line.name: {g: p.scope.to_json() for g, p in line.parts.items() if p} for line in self.lines},
            "notes": list(self.notes),
            "simulated": self.simulated,
        }

    def __repr__(self) -> str:
        what = f"groups of {self.by}" if self.by else "sites"
        head = f"Table 1 of {len(self.groups)} {what}{self._asked()}"
        return "\n".join([head, repr(self.listing()), *(f"! {note}" for note in self.notes)])

    def _asked(self) -> str:
        """On how many rows its variables rest, and how many were asked."""
        told = [[p.scope for g in self.groups if (p := line.parts.get(g)) is not None] for line in self.lines]
        return spans([reduce(Scope.joined, scopes) for scopes in told if scopes])

    def _repr_html_(self) -> str:
        beyond = self.unbalanced(table_one_drawing.THRESHOLD)
        tiles = {
            f"groups of {self.by}" if self.by else "sites": str(len(self.groups)),
            "variables": str(len({line.variable for line in self.lines})),
            f"beyond {table_one_drawing.THRESHOLD}": str(len(beyond)),
        }
        plot = table_one_drawing.love(self.smd)
        return table_one_drawing.page(self.groups, tiles, plot, self.listing(), self.notes, self.simulated)

    def plot(self) -> Any:
        """The love plot as a ``matplotlib.figure.Figure``."""
        what = f"groups of {self.by}" if self.by else "sites"
        words = f"Balance of {len(self.groups)} {what}" + (" (simulation)" if self.simulated else "")
        return table_one_drawing.figure(words, self.smd)


def _text(line: TableLine, group: str) -> str:
    n, mean, spread = line.numbers(group)
    if n is None:
        return "kept back"
    if isinstance(mean, Partial):  # said once, of both
        return f"{_two(line, float(n), float(mean), None if spread is None else float(spread))} {mean.of}"
    return _two(line, n, mean, spread)


def _two(line: TableLine, n: Any, mean: Any, spread: Any) -> str:
    if line.level:
        return f"{n:{'.0f' if isinstance(n, float) else ''}} ({mean:.1%})"
    if line.date:
        told = f"{'≈' if isinstance(mean, Rough) else ''}{dated(float(mean))}"
        return told + ("" if spread is None else f" ({spread:.3g} days)")
    return f"{mean:.4g}" + ("" if spread is None else f" ({spread:.3g})")
