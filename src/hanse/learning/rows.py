"""A site's rows as a model sees them, by what all sites agreed on: design matrix, targets, and which are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.errors import DataError
from hanse.kinds import Site
from hanse.learning.sampling import drawn, lumped, row_keys
from hanse.messages import Array, Json, Record, digest
from hanse.registry import find
from hanse.settings import Setting, maybe, one_of, text
from hanse.table import Column, ColumnKind, Table
from hanse.task import Settling, Task

SETTINGS = {  # of algorithms whose model is the same for every way to divide the rows, if it learns from the same ones
    "hold_out": Setting(
        "rows",
        "what a row is held out by (test_fraction): rows: what it holds, so that the same rows are at whatever sites "
        "they lie; sites: each site draws its share, of each class",
        one_of("rows", "sites"),
    ),
    "weight_column": Setting(
        None, "the column that says what each row counts for, a number from 0; never a feature; null: 1", maybe(text())
    ),
}
_MOST = float(np.finfo(np.float32).max)
_ROWS = 1 << 16  # that are looked at at a time
STANDARDISED, RAW, CODED = "standardised", "raw", "coded"  # what a model needs (:mod:`hanse.models`)


@dataclass(frozen=True, slots=True)
class Described:
    """A column that all sites have, as they agreed on it.

    Args:
        categories: of all sites, sorted; empty where it has none.
        missing: whether values are missing at any site.
        shape: of an image.
    """

    name: str
    kind: ColumnKind
    categories: tuple[str, ...] = ()
    missing: bool = False
    shape: tuple[int, ...] | None = None

    @property
    def numeric(self) -> bool:
        """Whether it stands in the design matrix as one number."""
        return self.kind not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE)

    @staticmethod
    def of(entry: Mapping[str, Json]) -> Described:
        """From the JSON of a result, or of a site that may not tell the truth. Raises ``KeyError``, ``TypeError`` or
        ``ValueError`` for what is none."""
        name, categories, missing, shape = entry["name"], entry["categories"], entry["missing"], entry.get("shape")
        if not isinstance(name, str) or not isinstance(missing, bool):
            raise TypeError("a column needs a name and whether values are missing")
        if not isinstance(categories, list) or not all(isinstance(t, str) for t in categories):
            raise TypeError("categories must be lists of text")
        whole = isinstance(shape, list) and all(type(n) is int and 0 < n < 1 << 20 for n in shape)
        if shape is not None and not (whole and len(shape) <= 3):
            raise TypeError("the shape of images is a list of whole numbers")
        shaped = None if shape is None else tuple(shape)
        return Described(name, ColumnKind(entry["kind"]), tuple(categories), missing, shaped)

    def to_json(self) -> dict[str, Json]:
        """As it stands in a result."""
        shape = {} if self.shape is None else {"shape": list(self.shape)}
        found: dict[str, Json] = {"name": self.name, "kind": str(self.kind), "categories": list(self.categories)}
        return {**found, "missing": self.missing, **shape}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What is learned from what, before anybody counts: the task, its target, the columns, and what the model needs of
    them (``NEEDS`` of :mod:`hanse.models`)."""

    task: Task
    target: str
    columns: tuple[Described, ...]
    needs: str

    @staticmethod
    def of(prepared: Record) -> Agreed:
        """As it stands in the result of a preparation."""
        data = prepared.data
        return Agreed(task(prepared), data["target"], _COLUMNS.of(data["columns"], data["columns"]), data["needs"])

    @property
    def standardised(self) -> bool:
        """Whether rows have numbers of mean 0 and scale 1, without gaps."""
        return self.needs == STANDARDISED


class _Last:
    """What was made of the last object: the sites of one process are asked with the very same one."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._known: tuple[Any, Any] = (None, None)

    def of(self, key: Any, given: Any) -> Any:
        """What is made of ``given``, of which ``key`` is a part that nobody changes or has in another one."""
        known, found = self._known
        if known is not key:
            found = self._make(given)
            self._known = (key, found)
        return found


_TASK, _DIGEST = _Last(Task.of_json), _Last(digest)
_COLUMNS = _Last(lambda columns: tuple(map(Described.of, columns)))


def task(prepared: Record) -> Task:
    """The task that was settled."""
    found: Task = _TASK.of(prepared.data["task"], prepared.data["task"])
    return found


def feature_names(columns: Sequence[Described], needs: str) -> list[str]:
    """Names of the design matrix: ``age``, ``age is missing``, ``cp=typical angina``."""
    names: list[str] = []
    for column in columns:
        if column.kind is ColumnKind.CATEGORICAL and needs != CODED:
            names += [f"{column.name}={c}" for c in column.categories]
        else:
            names.append(column.name)
            if needs == STANDARDISED and column.missing:
                names.append(f"{column.name} is missing")
    return names


def design(table: Table, prepared: Record) -> Array:
    """The design matrix of a table.

    Args:
        table: has the features; further columns are ignored, rows are kept as they are.
        prepared: the result of the preparation, whose ``needs`` say what is made of them. ``standardised``: numbers
            and dates minus the mean over the scale, what is missing at the mean, marked in a column of its own if any
            site has missing values there; else raw values with NaN for what is missing. Booleans are 0 and 1, dates
            days since 1970, categories one column each (an unknown one is 0 in all); where ``coded``, the number of
            their place among all, in one column (an unknown one is missing). Raw and coded numbers that are not below
            the largest of float32, as which trees take them, count as missing, too.

    Returns:
        (n, f) float64; for images (n, height, width, channels) float32 in [0, 1].
    """
    columns = Agreed.of(prepared).columns
    if any(c.kind is ColumnKind.IMAGE for c in columns):
        image = _column(table, columns[0])
        return np.asarray(image.values, np.float32) / np.float32(255)
    return np.concatenate(list(design_columns(table, prepared)), axis=1, dtype=np.float64)


def design_columns(table: Table, prepared: Record, rows: Array | None = None) -> Iterator[Array]:
    """The :func:`design` matrix of numbers, (n, k) float64 of one column of the table after the other, so that not all
    of them are in memory at once.

    Args:
        rows: these alone, by position; None: all.
    """
    place = -1
    for entry in Agreed.of(prepared).columns:
        place += entry.numeric
        yield from design_column(table, prepared, entry, place, rows)


def design_column(
    table: Table, prepared: Record, entry: Described, place: int, rows: Array | None = None
) -> Iterator[Array]:
    """The same of one column of the table.

    Args:
        place: how many columns of numbers stand before it.
    """
    needs = prepared.data["needs"]
    column = _column(table, entry)
    column = column if rows is None else column.take(rows)
    if column.kind is ColumnKind.CATEGORICAL:
        if needs == CODED:
            codes = _codes(column, entry.categories)
            yield np.where(codes < 0, np.nan, codes)[:, None]
        else:
            yield _one_hot(column, entry.categories, needs == STANDARDISED)
    elif needs != STANDARDISED:
        yield _float32_or_missing(column.values)[:, None]
    else:
        mean, scale = prepared.arrays["mean"][place], prepared.arrays["scale"][place]
        missing = ~np.isfinite(column.values)
        values = np.where(missing, mean, column.values)
        if entry.kind is not ColumnKind.BOOLEAN:
            values = (values - mean) / scale
        yield values[:, None]
        if entry.missing:
            yield missing[:, None]


def _float32_or_missing(values: Array) -> Array:
    """(n,) float64, NaN where a value is missing or, as float32, not below the largest one."""
    found = values
    for low in range(0, len(values), _ROWS):
        part = values[low : low + _ROWS]
        with np.errstate(over="ignore"):
            large = np.abs(np.asarray(part, np.float32)) >= np.float32(_MOST)
        if large.any():
            found = values.copy() if found is values else found
            found[low : low + _ROWS][large] = np.nan
    return found


def check_task(site: Site, settled: Task) -> None:
    """A node learns nothing else than its owner agreed to. Raises ``DataError`` where it is to."""
    wanted = site.config["task_type"]
    if wanted != settled.kind and hasattr(find("tasks", wanted).TASK, "target"):
        raise DataError(f"the run was agreed on for a {wanted} task, and is asked to learn a {settled.kind} one")


def target(table: Table, prepared: Record) -> tuple[Array, Array]:
    """The rows that have a usable target, (m,) int32, and their targets, as the task takes them."""
    return usable(table, task(prepared), prepared.data["target"])


def usable(table: Table, settled: Task, target: str) -> tuple[Array, Array]:
    """The same for a task and the name of its target."""
    kept, y = settled.of.target(target_columns(table, settled.of, target), settled)
    return kept.astype(np.int32), y


def target_columns(table: Table, settling: Settling, target: str) -> list[Column]:
    """The columns that the target stands in. Raises ``DataError`` for one that is not there."""
    names = settling.columns(target)
    for name in names:
        if name not in table.columns:
            raise DataError(f"the target column {name!r} is not in the dataset of this site")
    return [table[name] for name in names]


def split(y: Array, rng: np.random.Generator, test_fraction: float) -> tuple[Array, Array]:
    """Positions for training and for evaluation, each sorted.

    Args:
        y: (n,) or (n, c) targets. Whole numbers, one a row (class indices), are stratified: each class is held out in
            the same proportion, to the nearest row over all classes.
        rng: ``site.rng("split")``: keyed by seed and node, so a site splits alike in every run step.
        test_fraction: in [0, 1). At least one row is left for training, if there is any.

    >>> train, test = split(np.array([0] * 8 + [1] * 4), np.random.default_rng(0), 0.25)
    >>> len(train), len(test), int((test >= 8).sum())
    (9, 3, 1)
    >>> split(np.array([1, 0]), np.random.default_rng(0), 0.0)[0].tolist()
    [0, 1]
    """
    if not test_fraction:
        return np.arange(len(y), dtype=np.int32), np.arange(0)  # what follows takes 60 bytes a row meanwhile
    order = rng.permutation(len(y))
    if y.ndim == 1 and y.dtype.kind in "iub":
        order = order[np.argsort(y[order], kind="stable")]
    steps = np.floor(np.arange(len(y) + 1) * test_fraction + 0.5)
    held = np.diff(steps) > 0
    if len(y) and held.all():
        held[0] = False
    return np.sort(order[~held]), np.sort(order[held])


def parted(site: Site, kept: Array, y: Array, columns: Sequence[Described]) -> tuple[Array, Array]:
    """Positions for training and for evaluation, as the run holds rows out (``hold_out``).

    Args:
        kept: the rows with a usable target; ``y``: their targets.
        columns: what is learned from.

    Where rows are held out by what they hold, the site's cache says whether these are not like the others (``lumped``).
    """
    fraction = float(site.config["test_fraction"])
    if site.config.get("hold_out", "sites") == "sites" or not fraction:
        return split(y, site.rng("split"), fraction)
    known: tuple[tuple[Described, ...], Array] | None = site.cache.get("held out")
    if known is None or known[0] != tuple(columns):
        keys = row_keys(_plain(site.table, columns, kept), y)
        known = tuple(columns), drawn(keys, fraction, int(site.config["seed"]), "held out")
        site.cache["held out"], site.cache["lumped"] = known, lumped(keys)
    return np.flatnonzero(~known[1]), np.flatnonzero(known[1])


@dataclass(frozen=True, slots=True)
class Targets:
    """A site's usable rows without their features: targets ``y`` (class indices in as few bytes as hold them) and what
    each row counts for (``weight_column``; None: 1), the positions among them that are ``learned`` from (None: all) and
    those for ``test``, and how many rows were ``dropped`` for want of a target. ``kept``: which rows of the table they
    are; None: all."""

    y: Array
    learned: Array | None
    test: Array
    dropped: int
    weight: Array | None = None
    kept: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def train(self) -> Array:
        """(m,) int32, the positions for training; made anew where these are all."""
        return np.arange(len(self.y), dtype=np.int32) if self.learned is None else self.learned

    @property
    def trained(self) -> Array | slice:
        """The same as an index, with which no copy is made where these are all."""
        return slice(None) if self.learned is None else self.learned

    @property
    def size(self) -> int:
        """How many there are for training, m."""
        return len(self.y) if self.learned is None else len(self.learned)

    @property
    def standing(self) -> Array | None:
        """Where these stand in the table; None: all of its rows are for training."""
        return self.kept if self.learned is None else self.at(self.learned)

    def at(self, rows: Array) -> Array:
        """Where these usable rows stand in the table."""
        return rows if self.kept is None else self.kept[rows]


@dataclass(frozen=True, slots=True)
class Rows:
    """A site's rows, ready for a model: the design matrix ``X`` of all usable rows, and what :class:`Targets` has."""

    X: Array
    y: Array
    train: Array
    test: Array
    dropped: int
    weight: Array | None = None


def targets(site: Site, prepared: Record) -> Targets:
    """The site's rows as this preparation sees them, without their features; made once and kept in the site's cache."""
    key = _DIGEST.of(prepared.data, prepared)
    found: tuple[str, Targets] | None = site.cache.get("targets")
    if found is not None and found[0] == key:
        return found[1]
    check_task(site, task(prepared))
    kept, y = target(site.table, prepared)
    train, test = parted(site, kept, y, Agreed.of(prepared).columns)
    weight = _weights(site.table, site.config.get("weight_column"), kept)
    rows = site.table.rows
    some = None if len(kept) == rows else kept
    if y.dtype.kind == "i":  # class indices
        y = y.astype(np.min_scalar_type(max(len(task(prepared).classes) - 1, 0)))
    learned = train.astype(np.int32) if len(test) else None
    made = Targets(y, learned, test.astype(np.int32), rows - len(kept), weight, some)
    site.cache["targets"] = (key, made)
    return made


def rows(site: Site, prepared: Record) -> Rows:
    """The same, with their features."""
    key = _DIGEST.of(prepared.data, prepared)
    found: tuple[str, Rows] | None = site.cache.get("rows")
    if found is not None and found[0] == key:
        return found[1]
    own = targets(site, prepared)
    table = site.table if own.kept is None else site.table.take(own.kept)
    y = own.y.astype(np.int64) if own.y.dtype.kind == "u" else own.y
    made = Rows(design(table, prepared), y, own.train, own.test, own.dropped, own.weight)
    site.cache["rows"] = (key, made)
    return made


def unpack(record: Record) -> Record:
    """The result of the preparation in the result of a run: ``data["prepared"]`` and arrays ``prepared.*``."""
    arrays = {n.removeprefix("prepared."): record.arrays[n] for n in record.arrays if n.startswith("prepared.")}
    return Record(record.data["prepared"], arrays)


# ---------------------------------------------------------------- columns to numbers


def _column(table: Table, entry: Described) -> Column:
    column = table[entry.name]
    numeric = (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
    if column.kind is not entry.kind and not (column.kind in numeric and entry.kind in numeric):
        raise DataError(f"column {entry.name!r} is {column.kind} here; the model was prepared for {entry.kind}")
    if column.kind is ColumnKind.IMAGE and column.values.shape[1:] != entry.shape:
        expected = list(entry.shape or ())
        raise DataError(f"images {entry.name!r} have shape {column.values.shape[1:]}, expected {expected}")
    return column


def numbers(table: Table, entry: Described) -> Array:
    """(n,) a numeric, boolean or date column as it is."""
    return _column(table, entry).values


def untold(table: Table, entry: Described, rows: Array) -> bool:
    """Whether some of these ``rows`` (n,) bool have a category that is none of those agreed on."""
    if not entry.categories:
        return False
    column = _column(table, entry)
    others = [category not in entry.categories for category in column.categories]
    return any(others) and bool(np.array([*others, False])[column.values[rows]].any())


def _plain(table: Table, columns: Sequence[Described], rows: Array) -> Iterator[Array]:
    """(n,) what these ``rows`` hold in one column after the other: numbers, the places of categories; NaN where nothing
    usable is. Images are left out."""
    for entry in columns:
        column = _column(table, entry)
        if entry.numeric:
            yield _float32_or_missing(column.values if len(rows) == len(column) else column.values[rows])
        elif column.kind is ColumnKind.CATEGORICAL:
            codes = _codes(column, entry.categories)[rows]
            yield np.where(codes < 0, np.nan, codes)


def _weights(table: Table, name: str | None, rows: Array) -> Array | None:
    """(n,) float32 weights of these ``rows``. Raises ``DataError`` where one is none."""
    if name is None:
        return None
    if name not in table.columns:
        raise DataError(f"the column of weights {name!r} is not in the dataset of this site")
    column = table[name]
    if column.kind not in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.OPEN):
        raise DataError(f"the column of weights {name!r} is {column.kind} at this site; expected numbers from 0")
    with np.errstate(over="ignore"):
        found = np.asarray(column.values[rows], np.float32)
    wrong = int((~np.isfinite(found) | (found < 0)).sum())
    if wrong:
        raise DataError(
            f"{wrong} rows have a weight in {name!r} that is missing, below 0 or beyond float32; expected numbers from "
            "0 (0: the row does not count)"
        )
    return found


def _codes(column: Column, categories: Sequence[str]) -> Array:
    """(n,) int64: the place of each row's category; -1 where it is missing or not one of them."""
    index = {c: i for i, c in enumerate(categories)}
    common = np.array([index.get(c, -1) for c in column.categories] + [-1], np.int64)
    return np.asarray(common[column.values])


def _one_hot(column: Column, categories: Sequence[str], standardise: bool) -> Array:
    hot: Array = (_codes(column, categories)[:, None] == np.arange(len(categories))).astype(np.float64)
    if not standardise:
        hot[column.values < 0] = np.nan
    return hot
