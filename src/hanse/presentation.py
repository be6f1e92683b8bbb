"""How a statistic shows itself: plain values in; a row, a table or a picture's description out.

A description says what is to be seen, not how: a notebook draws it as SVG, a paper with matplotlib, a page in the
browser. So a statistic brings its pictures along in its own file, and no drawing knows a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hanse.messages import Json

Options = Mapping[str, Json]
Row = dict[str, Json]


# ---------------------------------------------------------------- what is to be seen


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar for each label, the longest first."""

    caption: str
    values: Mapping[str, float]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Bins:
    """Counts between edges. ``unsure``: the bins whose count is an estimate."""

    caption: str
    edges: Sequence[float]
    counts: Sequence[float | None]
    unsure: Sequence[bool] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class StepCurve:
    """A step curve that stands at ``values[i]`` from ``at[i]`` on, with its band; None: unknown."""

    at: Sequence[float]
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class StepCurves:
    """Step curves of a share in [0, 1] that begin at ``start``, by name, in one picture."""

    caption: str
    curves: Mapping[str, StepCurve]
    start: float = 1.0
    group: str = ""


Picture = Bars | Bins | StepCurves


# ---------------------------------------------------------------- the statistic's own part


@dataclass(frozen=True, slots=True)
class Summary:
    """The place of a statistic in the overview of all columns.

    Args:
        kinds: of columns that it is told of there.
        place: order of the rows' cells, from 0.
        options: its arguments there.
        drawn: only in the overview with pictures.
    """

    kinds: frozenset[str]
    place: int
    options: Options = field(default_factory=dict)
    drawn: bool = False


def _named(columns: Sequence[str], options: Options, value: Json) -> list[Row]:
    """A table of any value: of a matrix its rows, of lists of equal length side by side, else one row."""
    if isinstance(value, list) and len(value) == len(columns) and all(isinstance(row, list) for row in value):
        return [{"column": a, **dict(zip(columns, row, strict=True))} for a, row in zip(columns, value, strict=True)]
    if not isinstance(value, Mapping):
        return [{"value": value}]
    plain: Row = {k: v for k, v in value.items() if not isinstance(v, Mapping)}
    return [plain] if plain else [{"value": dict(value)}]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What people see of a statistic, and how they ask for it by its name.

    Args:
        offered: whether people ask for it; others are parts of some that they do ask for.
        arguments: name to a line of help, in order.
        roles: what its columns are called where they have parts to play (``time``, ``event``).
        first: the arguments that come before the columns where it is called by its name.
        usual: kinds of columns that are meant where none is named, and of which it is listed where it comes with
            others; None: all that it takes.
        asked: arguments where it is called by its name and they are left out.
        basic: told where nothing is named, and where others needed it.
        on_scale: its numbers stand on the column's own scale, so those of dates are dates.
        summary: its place in the overview of all columns, if it has one.
        cells: (arguments, value) to its cells in a row per column; None: one cell where it is one number.
        table: (columns, arguments, value) to a table of its own.
        dated: columns of that table which stand on the column's own scale, and so are dates where it is one of dates.
        pictures: (arguments, group to value; the group is empty where there are none) to pictures.
    """

    offered: bool = True
    arguments: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    usual: frozenset[str] | None = None
    asked: Options = field(default_factory=dict)
    basic: bool = False
    on_scale: bool = False
    summary: Summary | None = None
    cells: Callable[[Options, Any], Row] | None = None
    table: Callable[[Sequence[str], Options, Any], list[Row]] = _named
    dated: tuple[str, ...] = ()
    pictures: Callable[[Options, Mapping[str, Any]], Sequence[Picture]] | None = None
