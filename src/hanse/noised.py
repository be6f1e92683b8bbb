"""Statistics that are told with noise: what one row changes of each, and what follows from noised sums.

A question is a list of entries ``{stat, column, ...}``. Each turns rows into a vector v of which one row changes at
most Δ (L2 norm), and a node sends v / Δ of all of them: with k entries one row changes √k of the whole. Values have an
``interval`` of 95 % for the noise alone; how far rows that were drawn are from those that were not is another matter.

==============  =================================================  ==========  ==================================
stat            entry                                              Δ           value
==============  =================================================  ==========  ==================================
``count``       ``column`` (rows that have a value; none: all)     1           how many rows
``sum``         ``range`` [lowest, highest]: beyond counts as it   max |end|   Σ x
``mean``        ``range``                                          √2          middle + half width · S / n
``histogram``   ``range``, ``bins``                                1           counts of equal bins
``labels``      ``values``: the labels to count                    1           counts, and ``other``
``quantiles``   ``range``, ``bins``, ``at``                        1           where the counts of bins reach them
==============  =================================================  ==========  ==================================

Ranges, bins and labels stand in the question, so none of them follows from rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.messages import Array, Json
from hanse.settings import Check, Setting, checked, is_span, texts, whole
from hanse.table import Column, ColumnKind

_Z = 1.959963984540054  # of a normal distribution, for 95 %
_MOST_BINS = 10_000


def _is_levels(value: Json) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < 1 for v in value
    )


_RANGE = Setting([0.0, 1.0], "lowest and highest", Check("[lowest, highest]", is_span, {"type": "array"}))
_BINS = Setting(20, "equal bins", whole(1, _MOST_BINS))
STATS: Mapping[str, Mapping[str, Setting]] = {
    "count": {},
    "sum": {"range": _RANGE},
    "mean": {"range": _RANGE},
    "histogram": {"range": _RANGE, "bins": _BINS},
    "labels": {"values": Setting([], "labels to count", texts(_MOST_BINS))},
    "quantiles": {
        "range": _RANGE,
        "bins": Setting(64, "equal bins", whole(1, _MOST_BINS)),
        "at": Setting([0.25, 0.5, 0.75], "levels", Check("a list of numbers between 0 and 1", _is_levels, {})),
    },
}


@dataclass(frozen=True, slots=True)
class NoisedEntry:
    """One entry of a question, checked."""

    stat: str
    column: str
    options: Mapping[str, Json]

    @property
    def size(self) -> int:
        """How many numbers it sends."""
        if self.stat in ("histogram", "quantiles"):
            return int(self.options["bins"])
        return {"mean": 2, "labels": len(self.options.get("values", ())) + 1}.get(self.stat, 1)

    @property
    def sensitivity(self) -> float:
        """Δ."""
        if self.stat == "sum":
            return float(max(abs(end) for end in self.options["range"]))
        return math.sqrt(2) if self.stat == "mean" else 1.0

    def observe(self, column: Column | None, rows: int, shares: Array | None = None) -> Array:
        """v of these rows. ``column`` is None where the site has none, or the entry needs none.

        Args:
            shares: what each row counts for, where one person has several (:mod:`hanse.subjects`); None: 1.
        """
        of = np.ones(rows) if shares is None else shares
        if self.stat == "count":
            return np.array([float(of.sum() if not self.column else 0 if column is None else of[_given(column)].sum())])
        if column is None:
            return np.zeros(self.size)
        if self.stat == "labels":
            return self._labels(column, of)
        if column.kind not in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATE):
            raise DataError(f"column {self.column!r} is {column.kind} here; {self.stat} takes numbers")
        low, high = self.options["range"]
        fine = np.isfinite(column.values)
        x, of = np.clip(column.values[fine], low, high), of[fine]
        if self.stat == "sum":
            return np.array([float((of * x).sum())])
        if self.stat == "mean":
            return np.array([float(of.sum()), float((of * ((x - (low + high) / 2) / ((high - low) / 2))).sum())])
        bins = self.size
        place = np.minimum(((x - low) / (high - low) * bins).astype(np.int64), bins - 1)
        return np.bincount(place, of, minlength=bins).astype(np.float64)

    def _labels(self, column: Column, of: Array) -> Array:
        places = {label: i for i, label in enumerate(self.options["values"])}
        found = np.zeros(self.size)
        for label, share in zip(column.labels(), of.tolist(), strict=True):
            if label is not None:
                found[places.get(label, len(places))] += share
        return found

    def value(self, sums: Array, deviation: float) -> tuple[Json, Json]:
        """What people read, and its interval.

        Args:
            sums: v of all rows, with noise.
            deviation: of the noise of each of its numbers.
        """
        wide = _Z * deviation
        if self.stat == "mean":
            return self._mean(sums, deviation)
        if self.stat == "quantiles":
            return self._quantiles(sums, deviation)
        told = [float(v) for v in sums]
        spans = [[v - wide, v + wide] for v in told]
        if self.stat == "labels":
            names = [*self.options["values"], "other"]
            return dict(zip(names, told, strict=True)), dict(zip(names, spans, strict=True))
        return (told, spans) if self.stat == "histogram" else (told[0], spans[0])

    def _mean(self, sums: Array, deviation: float) -> tuple[Json, Json]:
        low, high = self.options["range"]
        middle, half, (n, total) = (low + high) / 2, (high - low) / 2, (float(v) for v in sums)
        if n < 3 * deviation:  # as likely noise as rows
            return None, [low, high]
        share = total / n
        off = _Z * half * deviation * math.sqrt(1 + share**2) / n
        found = min(high, max(low, middle + half * share))
        return found, [max(low, found - off), min(high, found + off)]

    def _quantiles(self, sums: Array, deviation: float) -> tuple[Json, Json]:
        """Where cumulated counts cross the level, within the bin as on a line; the interval takes the noise of all bins
        below it and of the total, and the width of a bin."""
        low, high = self.options["range"]
        edges = np.linspace(low, high, self.size + 1)
        below = np.concatenate([[0.0], np.cumsum(sums)])
        total = float(below[-1])
        if total < 3 * deviation * math.sqrt(self.size):
            nothing = [None] * len(self.options["at"])
            return nothing, [[low, high] for _ in nothing]
        rising = np.maximum.accumulate(np.clip(below, 0.0, None))

        def at(count: float) -> float:
            place = int(np.clip(np.searchsorted(rising, count) - 1, 0, self.size - 1))
            step = rising[place + 1] - rising[place]
            inside = (count - rising[place]) / step if step > 0 else 0.5
            return float(edges[place] + min(1.0, max(0.0, inside)) * (edges[place + 1] - edges[place]))

        found, spans, width = [], [], float(edges[1] - edges[0])
        for level in self.options["at"]:
            count = level * total
            bins = max(1.0, (at(count) - low) / width)
            off = _Z * deviation * math.sqrt(bins * (1 - level) ** 2 + (self.size - bins) * level**2)
            found.append(at(count))
            spans.append([max(low, at(count - off) - width), min(high, at(count + off) + width)])
        return found, spans


def entries(raw: Json) -> tuple[NoisedEntry, ...]:
    """The entries of a question. Raises ``ConfigError``.

    >>> [entry.size for entry in entries([{"stat": "mean", "column": "age", "range": [0, 120]}, {"stat": "count"}])]
    [2, 1]
    """
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError("a question has a list of entries, each {stat, column, ...}")
    found = []
    for entry in raw:
        if not isinstance(entry, Mapping) or entry.get("stat") not in STATS:
            raise ConfigError(f"{str(entry)[:80]!r} is no entry; stat is one of {', '.join(STATS)}")
        stat, column = str(entry["stat"]), entry.get("column", "")
        if not isinstance(column, str) or (not column and stat != "count"):
            raise ConfigError(f"{stat} has the column {column!r}; expected the name of one")
        if "range" in STATS[stat] and "range" not in entry:
            raise ConfigError(f"{stat} of {column}: name its range, as in [0, 120]; it must not follow from the rows")
        given = {name: value for name, value in entry.items() if name not in ("stat", "column")}
        found.append(NoisedEntry(stat, column, checked(given, STATS[stat], of=f"{stat} of {column}")))
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


def _given(column: Column) -> Array:
    return column.values >= 0 if column.kind is ColumnKind.CATEGORICAL else np.isfinite(column.values)
