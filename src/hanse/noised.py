"""Statistics that are told with noise: what one row changes of each, and what follows from noised sums.

A question is a list of entries ``{stat, column, ...}``, each of a file of :mod:`hanse.noised_statistics`. It turns rows
into a vector v of which one row changes at most Δ (L2 norm), and a node sends v / Δ of all of them: with k entries one
row changes √k of the whole. Values have an ``interval`` of 95 % for the noise alone; how far rows that were drawn are
from those that were not is another matter.

Ranges, bins and labels stand in the question, so none of them follows from rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.messages import Array, Json
from hanse.registry import find, names, settings
from hanse.settings import Check, Setting, checked, is_span, whole
from hanse.table import Column, ColumnKind

FOLDER = "noised_statistics"
Z = 1.959963984540054  # of a normal distribution, for 95 %
MOST = 10_000  # bins, or labels
NUMBERS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATE})
RANGE = Setting([0.0, 1.0], "lowest and highest", Check("[lowest, highest]", is_span, {"type": "array"}))
Options = Mapping[str, Any]


def bins(usual: int) -> Setting:
    """How many equal bins a range is cut into."""
    return Setting(usual, "equal bins", whole(1, MOST))


@dataclass(frozen=True, slots=True, kw_only=True)
class Noised:
    """All halves of a statistic that is told with noise.

    Args:
        observe: (column, s, options) to v, (size,): Σ over rows of what each adds, s (n,) times; s is 1, or less where
            one person has several rows (:mod:`hanse.subjects`), so v must be such a sum.
        value: (v of all rows, with noise; the deviation of the noise in each of its numbers; options) to what people
            read, and its interval.
        size: how many numbers v has.
        sensitivity: Δ, the L2 norm of what one row adds to v, at most.
        kinds: of columns that it takes; None: all.
        of_all: whether it may be asked without a column, of all rows; ``column`` is None then.
        beside: the setting that names a second column; ``observe`` gets both then, as a pair.
        notes: of what ``value`` told, sentences about what is odd with the rows; no more is known of them.
    """

    observe: Callable[[Any, Array, Options], Array]
    value: Callable[[Array, float, Options], tuple[Json, Json]]
    size: Callable[[Options], int] = lambda options: 1
    sensitivity: Callable[[Options], float] = lambda options: 1.0
    kinds: frozenset[ColumnKind] | None = None
    of_all: bool = False
    beside: str = ""
    notes: Callable[[Any], Sequence[str]] = lambda value: ()


@dataclass(frozen=True, slots=True)
class NoisedEntry:
    """One entry of a question, checked."""

    stat: str
    column: str
    options: Options

    @property
    def of(self) -> Noised:
        """What it is an entry of."""
        found: Noised = find(FOLDER, self.stat).NOISED
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that it is of: none, one, or two."""
        other = str(self.options[self.of.beside]) if self.of.beside else ""
        return tuple(name for name in (self.column, other) if name)

    @property
    def size(self) -> int:
        """How many numbers it sends."""
        return self.of.size(self.options)

    @property
    def sensitivity(self) -> float:
        """Δ."""
        return self.of.sensitivity(self.options)

    def observe(self, found: Mapping[str, Column], rows: int, shares: Array | None = None) -> Array:
        """v of these rows; zeros where a column is not among those that the site has.

        Args:
            found: column by name.
            shares: what each row counts for, where one person has several (:mod:`hanse.subjects`); None: 1.
        """
        stat, columns = self.of, [found.get(name) for name in self.columns]
        have = [column for column in columns if column is not None]
        if len(have) < len(columns):
            return np.zeros(self.size)
        for name, column in zip(self.columns, have, strict=True):
            if stat.kinds is not None and column.kind not in stat.kinds:
                raise DataError(f"column {name!r} is {column.kind} here; {self.stat} takes numbers")
        of = tuple(have) if stat.beside else have[0] if have else None
        return stat.observe(of, np.ones(rows) if shares is None else shares, self.options)

    def value(self, sums: Array, deviation: float) -> tuple[Json, Json]:
        """What people read, and its interval.

        Args:
            sums: v of all rows, with noise.
            deviation: of the noise of each of its numbers.
        """
        return self.of.value(sums, deviation, self.options)


def within(column: Column, of: Array, options: Options) -> tuple[Array, Array]:
    """The values that there are, those beyond the range at its end, and what each counts for."""
    fine = np.isfinite(column.values)
    return np.clip(column.values[fine], *options["range"]), of[fine]


def binned(column: Column, of: Array, options: Options) -> Array:
    """(bins,) how many values lie in each of the equal bins of the range."""
    (low, high), count = options["range"], int(options["bins"])
    x, of = within(column, of, options)
    place = np.minimum(((x - low) / (high - low) * count).astype(np.int64), count - 1)
    return np.bincount(place, of, minlength=count).astype(np.float64)


def intervals(sums: Array, deviation: float) -> list[list[float]]:
    """Where each number lies but for 5 %, for its noise."""
    return [[float(v) - Z * deviation, float(v) + Z * deviation] for v in sums]


def each(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    """The one number, and its interval."""
    return float(sums[0]), intervals(sums, deviation)[0]


def entries(raw: Json) -> tuple[NoisedEntry, ...]:
    """The entries of a question. Raises ``ConfigError``.

    >>> [entry.size for entry in entries([{"stat": "mean", "column": "age", "range": [0, 120]}, {"stat": "count"}])]
    [2, 1]
    """
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError("a question has a list of entries, each {stat, column, ...}")
    found = []
    for entry in raw:
        if not isinstance(entry, Mapping) or entry.get("stat") not in names(FOLDER):
            raise ConfigError(f"{str(entry)[:80]!r} is no entry; stat is one of {', '.join(names(FOLDER))}")
        stat, column = str(entry["stat"]), entry.get("column", "")
        taken = settings(FOLDER, stat)
        of: Noised = find(FOLDER, stat).NOISED
        if not isinstance(column, str) or (not column and not of.of_all):
            raise ConfigError(f"{stat} has the column {column!r}; expected the name of one")
        if of.beside and entry.get(of.beside) in (None, "", column):
            raise ConfigError(f"{stat} of {column}: name another column as {of.beside}")
        if "range" in taken and "range" not in entry:
            raise ConfigError(f"{stat} of {column}: name its range, as in [0, 120]; it must not follow from the rows")
        given = {name: value for name, value in entry.items() if name not in ("stat", "column")}
        found.append(NoisedEntry(stat, column, checked(given, taken, of=f"{stat} of {column}")))
    return tuple(found)


def vector(question: Sequence[NoisedEntry], parts: Sequence[Array]) -> Array:
    """v / Δ of all entries, one after the other."""
    return np.concatenate([part / entry.sensitivity for entry, part in zip(question, parts, strict=True)])


def sensitivity(question: Sequence[NoisedEntry]) -> float:
    """√k: what one row changes of :func:`vector`."""
    return math.sqrt(len(question))


def told(question: Sequence[NoisedEntry], sums: Array, deviation: float) -> list[dict[str, Json]]:
    """Value and interval of each entry, from the noised sum of all nodes' :func:`vector` and the deviation of the noise
    in it."""
    found, at = [], 0
    for entry in question:
        part = sums[at : at + entry.size] * entry.sensitivity
        at += entry.size
        value, interval = entry.value(part, deviation * entry.sensitivity)
        found.append({"stat": entry.stat, "column": entry.column, "value": value, "interval": interval})
    return found


def notes(question: Sequence[NoisedEntry], rows: Sequence[Mapping[str, Json]]) -> list[str]:
    """What people should know of what :func:`told` says."""
    pairs = zip(question, rows, strict=True)
    return [f"{entry.stat} of {entry.column}: {said}" for entry, row in pairs for said in entry.of.notes(row["value"])]
