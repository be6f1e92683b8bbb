"""Queries: which statistics of which columns, and in what order they can be asked for.

A :class:`Statistic` is a commutative monoid with two ends: the node half ``observe`` turns rows into
arrays, ``merge`` joins the arrays of two sets of rows (the law: ``observe(A ∪ B)`` equals
``merge(observe(A), observe(B))``, and the arrays of no rows are the unit), and ``final`` turns what
all nodes hold together into values. An :class:`Item` is one statistic of certain columns, and a
:class:`Plan` puts the items of a query, with all that they need, into as few asks as possible.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.kinds import Combine
from hanse.messages import Array, Json, dumps
from hanse.presentation import Shown
from hanse.registry import find, names
from hanse.table import Column, ColumnKind, Table, canonical_name

Arrays = Mapping[str, Array]
NUMBERS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATE})
LABELS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.CATEGORICAL})
ANY = NUMBERS | LABELS
MOST_LABELS = 1000  # a column with more is no category
MOST_GROUPS = 2000
MINIMUM = 10  # rows: no cell of fewer leaves a node unless its owner says so


class Withheld(Exception):
    """Raised by ``protect``: the owner's settings keep this back. The text crosses the wire, so it
    holds no count and no value."""


@dataclass(frozen=True, slots=True)
class Item:
    """One statistic of certain columns.

    Args:
        stat: a file of :mod:`hanse.statistics`.
        columns: one for most; those that belong together for a covariance or a table.
        args: canonical JSON of its arguments.
        by: grouping columns, none to two.
    """

    stat: str
    columns: tuple[str, ...]
    args: str = "{}"
    by: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Json]:
        """The arguments of the statistic, defaults included."""
        return dict(json.loads(self.args))

    @property
    def name(self) -> str:
        """For people: ``mean of age by sex``."""
        return f"{self.stat} of {', '.join(self.columns)}" + (f" by {', '.join(self.by)}" if self.by else "")

    def to_json(self) -> list[Json]:
        """As it stands in the question of a run: statistic, columns, options, groups."""
        return [self.stat, list(self.columns), self.options, list(self.by)]


@dataclass(frozen=True, slots=True)
class Owner:
    """What the node's owner allows. ``minimum``: rows of the smallest cell that may leave."""

    minimum: int = MINIMUM
    extremes: bool = False
    cuts: tuple[float, ...] = ()  # as of the values: edges at which rows were counted besides an item's own
    shown: tuple[float, ...] = ()  # edges of these columns and this group that were shown before
    others: tuple[tuple[float, ...], ...] = ()  # those that were shown of the same rows in other breakdowns
    used: list[float] = field(default_factory=list)  # edges that this one shows
    grouped: bool = False  # whether ``across`` sees all groups after this one
    total: bool = False  # whether the rows are those of all sites, and their minimum holds on the total
    rare: bool = True  # whether sums may leave that tell how few rows have a value


class Values:
    """The rows of one group in one batch, as a statistic sees them.

    Args:
        columns: equally long.
        cuts: edges of the first column at which rows are counted besides an item's own.
    """

    __slots__ = ("_finite", "columns", "cuts", "rows")

    def __init__(self, columns: Sequence[Column], cuts: tuple[float, ...] = ()) -> None:
        self.columns = tuple(columns)
        self.rows = len(self.columns[0])
        self.cuts = cuts
        self._finite: Array | None = None

    @property
    def finite(self) -> Array:
        """(n,) float64: the values of the first column that are there. An infinite value is no
        measurement: it counts as missing (and is counted by ``missing``)."""
        if self._finite is None:
            values = self.columns[0].values
            with np.errstate(over="ignore", invalid="ignore"):
                total = float(np.add.reduce(values)) if len(values) else 0.0  # NaN and inf survive a sum
            self._finite = values if np.isfinite(total) else values[np.isfinite(values)]
        return self._finite

    def codes(self, labels: Sequence[str], which: int = 0) -> Array:
        """(n,) index into ``labels`` per row; ``len(labels)`` for any other label, -1 where missing."""
        return codes(self.columns[which], labels)


def labelled(column: Column) -> tuple[Array, list[str]]:
    """(n,) code per row and the labels in use; -1 where missing. Numbers become text as in
    :meth:`hanse.table.Column.labels`; infinite ones count as missing."""
    if column.kind is ColumnKind.CATEGORICAL:
        return column.values.astype(np.int64), list(column.categories)
    found, inverse = np.unique(column.values, return_inverse=True)
    fine = np.isfinite(found)
    code = np.where(fine, np.cumsum(fine) - 1, -1)[inverse.reshape(-1)]
    return code, [label for label in Column(column.kind, found[fine]).labels() if label is not None]


def codes(column: Column, labels: Sequence[str]) -> Array:
    """See :meth:`Values.codes`."""
    code, own = labelled(column)
    index = {label: i for i, label in enumerate(labels)}
    place = np.array([index.get(label, len(labels)) for label in own] + [-1], np.int64)
    return np.asarray(place[code])


def ordered(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels in the order that people expect: numbers by size, else by text.

    >>> ordered(["10", "9"]), ordered(["b", "a", "9"])
    (('9', '10'), ('9', 'a', 'b'))
    """
    try:
        return tuple(sorted(set(labels), key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(set(labels)))


def pack(labels: Sequence[str]) -> Array:
    """Labels as bytes, since text does not travel as an array."""
    return np.frombuffer(json.dumps(list(labels)).encode(), np.uint8)


def unpack(packed: Array) -> tuple[str, ...]:
    """Labels from their bytes (:func:`pack`), which zeros may follow where groups have others. Raises ``ValueError``
    where they are none."""
    found = json.loads(packed.tobytes().rstrip(b"\0") or b"[]")
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise ValueError("labels must be a list of text")
    return tuple(found)


# ---------------------------------------------------------------- statistics


class Known(tuple[Arrays, ...]):
    """What all nodes hold together of each item that is needed, in the order of ``needs``; with a
    place to keep what is computed from it, since a statistic sees many batches."""

    kept: dict[str, Any]

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, computed once for this question and kept under ``name``."""
        if not hasattr(self, "kept"):
            self.kept = {}
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


def _no_options(options: Mapping[str, Json]) -> dict[str, Json]:
    return take(options)


def take(options: Mapping[str, Json], **defaults: Any) -> dict[str, Json]:
    """The options with defaults; raises ``ConfigError`` for one that is not known."""
    for name in options:
        if name not in defaults:
            raise ConfigError(f"there is no argument {name!r}; known are {', '.join(defaults) or 'none'}")
    return {**defaults, **options}


def add(a: Arrays, b: Arrays) -> dict[str, Array]:
    """The merge of everything that adds."""
    return {name: a[name] + b[name] for name in a}


def _none(item: Item) -> tuple[Item, ...]:
    return ()


def _as_it_is(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return arrays


def _nothing_to_hide(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    return arrays


@dataclass(frozen=True, slots=True)
class Lacking:
    """What is known of the rows that a value lacks: sites keep them back, or failed.

    Args:
        rows: so many at most.
        span: between which numbers values of the column are; None: nobody says.
        whole, told: of what :attr:`Statistic.beside` names, what one site with all rows would have observed, and one
            with those of each group that are told; None: it is not known of all sites.
    """

    rows: int
    span: tuple[float, float] | None = None
    whole: Arrays | None = None
    told: Sequence[Arrays] = ()


Bounds = Any  # (least, most), each None where nothing is known; of a list of values, a list of them
Across = Callable[
    [Sequence[Arrays], Sequence[Arrays | None], Sequence[int], Owner, Mapping[str, Json], Known], "list[Arrays | None]"
]


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One statistic: all of its halves.

    Args:
        doc: one line for people.
        kinds: of columns that it can be asked of.
        columns: how many it takes together; 0: any number.
        check: options to options with defaults; raises ``ConfigError``.
        needs: items that this one needs.
        before: as many of the first ``needs`` must be known before rows can be observed.
        later: must all ``needs`` be known before the arrays are shared?
        observe: node half: rows to arrays, one of which is ``n`` (int64, rows that count). None for
            what is derived from ``needs`` alone.
        merge: joins the arrays of two sets of rows.
        share: what of the arrays leaves the node (after ``needs`` are known).
        protect: what the owner's minimum and settings keep back; raises :class:`Withheld`. An array
            ``hidden`` is 1 where a cell was kept back.
        across: what is kept back of groups besides, since what is told of all rows exceeds that of the groups by
            what is not: (observed, protected, shape of the groups with one more of each axis for rows without
            a label, owner, options, known) to protected arrays. None: rows without a label; no arrays: kept back.
        cuts: the edges at which it counts, where it does; others of the same columns have to know them.
        few: what ``hidden`` keeps back, for people.
        combine: whether shared arrays add over nodes (SUM) or are merged (MERGE).
        sums: whether its arrays are sums over rows, which of a column of few values tell how many rows have each.
        counts: the shared arrays that count rows: none of a node is more than the rows that it declared.
        final: (arrays of all nodes, options, known) to a JSON value; None where undefined.
        bounds: (arrays of all nodes, options, known) to between which numbers the pooled value lies, where the value is
            a number, or several, that joined cells may move. None: it is the pooled value itself.
        pooled: (value, arrays of all nodes, options, known, what is known of the rows that these lack) to the value, of
            which parts may be None then, and between which numbers that of all rows lies. None: nothing bounds it.
        fixed: the parts of its value that are no numbers of rows: times and edges at which they are told, sites.
        beside: (everything over all rows, the same by groups), which says more of the rows that a value lacks where
            sites keep groups back; it is asked then.
        fewer: (arrays of all nodes, options, known) to the rows that each number of a matrix rests on of which some
            nodes keep theirs back, and None for the others. None: they are kept back as a whole.
        why: (value, options, arrays of all nodes, known) to why the value, or a part of it, is None, and what would
            help; asked where there is such a part. None: it is kept back, or there are too few rows.
        scalar: whether the value is one number (for tables).
        filtered: whether it may be asked of chosen rows only: what has no cells of its own.
        matrix: whether its value is a number for each pair of its columns, so that a larger one answers a smaller.
        follows: what is known besides, at no cost, where this is known.
        error: (options, known) to a bound on the error of its value, where it has one.
        whole: (observed arrays, options, known) to arrays of the same names and shapes at every site, which add: what a
            node sends where the minimum holds on the total. None: those that were observed add, if ``merge`` does; else
            it is not told of totals.
        of_whole: the other way round: what one site with all rows would have observed, from the sum of ``whole``.
        of_all: (options, needs of all rows, needs as they are told) to the value, where the minimum holds on the total:
            what the coordinator computes from all rows before it keeps small cells back. Of groups that are kept back
            there are no rows in either. None: the value follows from what is told.
        no_sum: why what it merges is no sum, and what to ask for instead, where nobody may see single sites.
        finer: (item, known) to the item that answers better, where the answer is too rough and a better can be had.
        shown: what people see of it, and how they ask for it by its name.
    """

    doc: str
    kinds: frozenset[ColumnKind] = NUMBERS
    columns: int = 1
    check: Callable[[Mapping[str, Json]], dict[str, Json]] = _no_options
    needs: Callable[[Item], tuple[Item, ...]] = _none
    before: int = 0
    later: bool = False
    observe: Callable[[Values, Mapping[str, Json], Known], Arrays] | None = None
    merge: Callable[[Arrays, Arrays], Arrays] = add
    share: Callable[[Arrays, Mapping[str, Json], Known], Arrays] = _as_it_is
    protect: Callable[[Arrays, Mapping[str, Json], Owner, Known], Arrays] = _nothing_to_hide
    across: Across | None = None
    cuts: Callable[[Mapping[str, Json], Known], list[float]] | None = None
    few: str = "cells of few rows, and others with them"
    combine: Combine = Combine.SUM
    sums: bool = False
    counts: tuple[str, ...] = ("n",)
    final: Callable[[Arrays, Mapping[str, Json], Known], Json]
    bounds: Callable[[Arrays, Mapping[str, Json], Known], Bounds] | None = None
    pooled: Callable[[Json, Arrays, Mapping[str, Json], Known, Lacking], tuple[Json, Bounds]] | None = None
    fixed: tuple[str, ...] = ("hidden",)
    beside: Callable[[Item], tuple[Item, ...]] = _none
    fewer: Callable[[Arrays, Mapping[str, Json], Known], Json] | None = None
    why: Callable[[Json, Mapping[str, Json], Arrays, Known], str] | None = None
    scalar: bool = True
    filtered: bool = False
    matrix: bool = False
    follows: Callable[[Item], tuple[Item, ...]] = _none
    error: Callable[[Mapping[str, Json], Known], float] | None = None
    whole: Callable[[Arrays, Mapping[str, Json], Known], Arrays] | None = None
    of_whole: Callable[[Arrays, Mapping[str, Json], Known], Arrays] = _as_it_is
    of_all: Callable[[Mapping[str, Json], Known, Known], Json] | None = None
    no_sum: str = ""
    finer: Callable[[Item, Known], Item | None] | None = None
    shown: Shown = Shown()

    @property
    def ranged(self) -> bool:
        """Whether between which values a column lies bounds what rows that are kept back can change (``beside``)."""
        return self.beside is not _none


def whole(stat: Statistic) -> Callable[[Arrays, Mapping[str, Json], Known], Arrays] | None:
    """How what a statistic observes becomes arrays that add over sites; None where it does not say."""
    return stat.whole or (_as_it_is if stat.merge is add else None)


@functools.lru_cache(256)  # the folder is looked at once for each name
def statistic(name: str) -> Statistic:
    """The statistic of that name. Raises ``ConfigError`` naming those that there are."""
    found: Statistic = find("statistics", name).STATISTIC
    return found


def same(item: Item, stat: str, **options: Json) -> Item:
    """Another statistic of the same columns and groups."""
    return replace(item, stat=stat, args=dumps(statistic(stat).check(options)))


@functools.lru_cache(4096)
def needs(item: Item) -> tuple[Item, ...]:
    """What an item is computed from, the next step down; each is made once, as a result asks for the same again and
    again."""
    return tuple(statistic(item.stat).needs(item))


@functools.lru_cache(4096)
def closure(item: Item) -> tuple[Item, ...]:
    """The item and all that it is computed from; itself the last."""
    found: dict[Item, None] = {}
    for need in needs(item):
        found |= dict.fromkeys(closure(need))
    return *found, item


# ---------------------------------------------------------------- plans


@dataclass(frozen=True)
class Plan:
    """The items of a query in an order in which each comes after what it needs.

    Args:
        items: all of them, needed ones included.
        wanted: those that were asked for.
        asks: (level, combine) of each ask, in order.
        observed, shared: item to the level at which its rows are looked at and its arrays leave;
            derived items are in neither.
    """

    items: tuple[Item, ...]
    wanted: tuple[Item, ...]
    asks: tuple[tuple[int, Combine], ...]
    observed: Mapping[Item, int]
    shared: Mapping[Item, int]

    @functools.cached_property
    def _places(self) -> dict[Item, int]:
        return {item: place for place, item in enumerate(self.items)}

    def place(self, item: Item) -> int:
        """The number by which an item's arrays are named."""
        return self._places[item]

    def has(self, item: Item) -> bool:
        """Whether the item is one of the plan's."""
        return item in self._places

    def asked(self, index: int) -> list[Item]:
        """Items that leave with ask number ``index``."""
        level, combine = self.asks[index]
        return [i for i in self.items if self.shared.get(i) == level and statistic(i.stat).combine is combine]

    def groups(self, item: Item) -> list[Item]:
        """The items that know the labels of the grouping columns."""
        return [levels_of(name) for name in item.by]

    def columns(self) -> list[str]:
        """All columns that are touched."""
        return sorted({c for i in self.items for c in (*i.columns, *i.by)})


def levels_of(column: str) -> Item:
    """The item that finds a column's labels."""
    return Item("levels", (column,))


def make_item(stat: str, columns: Sequence[str], options: Mapping[str, Json], by: Sequence[str] = ()) -> Item:
    """A checked item. Raises ``ConfigError``."""
    found = statistic(stat)
    if not columns or len(set(columns)) != len(columns) or (found.columns and len(columns) != found.columns):
        raise ConfigError(f"{stat} takes {found.columns or 'distinct'} column(s); {list(columns)!r} were given")
    if len(by) > 2 or len(set(by)) != len(by) or set(by) & set(columns):
        raise ConfigError(f"by is {list(by)!r}; expected one or two other columns")
    try:
        return Item(stat, tuple(columns), dumps(found.check(options)), tuple(by))
    except (TypeError, ValueError) as error:
        message = error.message if isinstance(error, ConfigError) else str(error)
        raise ConfigError(f"{stat} of {', '.join(columns)}: {message}") from None


def parse(raw: Json) -> tuple[Item, ...]:
    """Items from what :meth:`Item.to_json` made. Raises ``ConfigError``."""
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError("a query has a list of items, each [statistic, columns, arguments, by]")
    found = []
    for entry in raw:
        if not isinstance(entry, (list, tuple)) or len(entry) != 4 or not isinstance(entry[0], str):
            raise ConfigError(f"{str(entry)[:80]!r} is not [statistic, columns, arguments, by]")
        lists = [entry[1], entry[3]]
        if not all(isinstance(x, (list, tuple)) and all(isinstance(c, str) for c in x) for x in lists):
            raise ConfigError(f"{str(entry)[:80]!r}: columns and by are lists of names")
        if not isinstance(entry[2], Mapping):
            raise ConfigError(f"{str(entry)[:80]!r}: arguments are an object")
        found.append(make_item(entry[0], entry[1], entry[2], entry[3]))
    return tuple(dict.fromkeys(found))


@functools.lru_cache(64)
def plan(wanted: tuple[Item, ...]) -> Plan:
    """The plan for ``wanted`` and all that they need."""
    items: dict[Item, None] = {}

    def visit(item: Item) -> None:
        if item in items:
            return
        for need in (*(levels_of(name) for name in item.by), *needs(item)):
            visit(need)
        items[item] = None

    for item in wanted:
        visit(item)
    observed: dict[Item, int] = {}
    shared: dict[Item, int] = {}
    for item in items:  # what is needed stands before what needs it
        stat = statistic(item.stat)
        if stat.observe is None:
            continue
        below = needs(item)
        early = [shared[levels_of(name)] + 1 for name in item.by] + [shared[n] + 1 for n in below[: stat.before]]
        observed[item] = max(early, default=0)
        late = [shared[n] + 1 for n in below if n in shared] if stat.later else []
        shared[item] = max([observed[item], *late])
    asks = sorted({(level, statistic(i.stat).combine) for i, level in shared.items()}, key=lambda a: (a[0], str(a[1])))
    return Plan(tuple(items), wanted, tuple(asks), observed, shared)


# ---------------------------------------------------------------- filters

OPERATIONS: Mapping[str, Callable[[Array, Any], Array]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
Filter = tuple[tuple[str, str, Any], ...]
_TRUTHS = {"true": 1.0, "false": 0.0}


def parse_filter(raw: Json) -> Filter:
    """``[[column, operation, value], ...]``, all of which must hold. Data, never code.

    Raises:
        ConfigError: an unknown operation, or a value that is neither a number nor text.
    """
    found = []
    if not isinstance(raw, (list, tuple)):
        raise ConfigError("where is a list of [column, operation, value]")
    for entry in raw:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3 or not isinstance(entry[0], str):
            raise ConfigError("where is a list of [column, operation, value]")
        column, operation, value = entry
        if operation not in OPERATIONS:
            raise ConfigError(f"where: there is no operation {operation!r}; known are {', '.join(OPERATIONS)}")
        fine = isinstance(value, (int, float, str)) and (isinstance(value, str) or np.isfinite(value))
        if not fine or (isinstance(value, str) and operation not in ("==", "!=") and days(value) is None):
            raise ConfigError(
                f"where: {value!r} cannot be compared by {operation}; give a finite number, a date as 2024-01-31, or "
                "for == and != text"
            )
        found.append((column, operation, value if isinstance(value, str) else float(value)))
    return tuple(sorted(found, key=repr))


def chosen(table: Table, where: Filter) -> Array:
    """(n,) bool: rows that fulfil all conditions. Missing values fulfil none. Raises ``DataError`` where a column holds
    what cannot be compared so."""
    rows = np.ones(table.rows, bool)
    for name, operation, value in where:
        column = table[name]
        if column.kind is ColumnKind.CATEGORICAL:
            if operation not in ("==", "!="):
                raise DataError(f"where: {name!r} holds text, which is compared by == and !=, not by {operation}")
            if isinstance(value, float):
                value = Column.numeric([value]).labels()[0]
            code = codes(column, [str(value)])
            rows &= (code == 0) if operation == "==" else (code == 1)
        else:
            rows &= OPERATIONS[operation](column.values, _as_held(column, name, value)) & ~np.isnan(column.values)
    return rows


def _as_held(column: Column, name: str, value: float | str) -> float:
    """What a column of numbers is compared with."""
    if not isinstance(value, str) or column.kind is ColumnKind.OPEN:
        return 0.0 if isinstance(value, str) else value
    found = days(value) if column.kind is ColumnKind.DATE else _TRUTHS.get(value.lower())
    if found is None and column.kind is not ColumnKind.DATE:
        with contextlib.suppress(ValueError):
            found = float(value)
    if found is None:
        held = "dates; give one as 2024-01-31" if column.kind is ColumnKind.DATE else "numbers"
        raise DataError(f"where: {value!r} is compared with {name!r}, which holds {held}")
    return found


def days(text: str) -> float | None:
    """Days since 1970-01-01 of a date, or of a date and a time, in UTC where it names no zone; None: it is none.

    >>> days("1970-01-03"), days("1970-01-02T12:00"), days("3")
    (2.0, 1.5, None)
    """
    try:
        there = datetime.fromisoformat(text) if "-" in text else None
    except ValueError:
        return None
    if there is None:
        return None
    return (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp() / 86_400


__all__ = ["Item", "Owner", "Plan", "Statistic", "Values", "Withheld", "make_item", "names", "parse", "plan"]


# ---------------------------------------------------------------- rows


class TableSource:
    """The rows of a table in memory as a :class:`hanse.kinds.Source`."""

    def __init__(self, table: Table, memory: MutableMapping[str, Json] | None = None) -> None:
        self._table = Table({canonical_name(name): column for name, column in table.columns.items()})
        self.schema: Mapping[str, str] = self._table.schema()
        self.rows = table.rows
        self.memory: MutableMapping[str, Json] = {} if memory is None else memory

    def batches(self, columns: Sequence[str], rows: int = 1 << 17) -> Iterator[Table]:
        table = self._table.select(columns)
        for start in range(0, max(self.rows, 1), rows):
            part = slice(start, start + rows)
            yield Table({n: Column(c.kind, c.values[part], c.categories) for n, c in table.columns.items()})
