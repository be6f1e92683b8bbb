"""From the labels of one target column to a task: what a site says of its column, and what all reports come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind, label_values
from hanse.task import Settled

MAX_WHOLE_CLASSES = 20  # a whole-number target with more distinct values is a quantity
MAX_CLASSES = 1000
_ROWS = 1 << 16  # that are looked at at a time
QUANTITIES = (ColumnKind.NUMERIC, ColumnKind.DATE)


def tell(column: Column, atleast: int, *, labels: bool = True, auto: bool = True) -> dict[str, Json]:
    """What a site says of its target: whether it has rows, whether they are numbers, or text, and its labels with
    at least ``atleast`` rows. ``auto``: of a quantity no labels, only that there are ``many``."""
    said: dict[str, Json] = {"rows": bool(column.given.any()), "numeric": column.kind in QUANTITIES, "many": False}
    said["text"] = column.kind is ColumnKind.CATEGORICAL
    named: list[str] = []
    if labels and said["rows"]:
        values, counts = _different(column)
        whole = column.kind is not ColumnKind.NUMERIC or bool(np.all(values % 1 == 0))
        quantity = column.kind in QUANTITIES and (not whole or len(values) > MAX_WHOLE_CLASSES)
        said["many"] = (auto and quantity) or len(values) > MAX_CLASSES
        if not said["many"]:
            named = [label for label, n in zip(_named(column, values), counts, strict=True) if n >= atleast]
    said["labels"] = named
    return said


def check(said: Mapping[str, Json]) -> None:
    """Raises ``TypeError``, ``ValueError`` or ``KeyError`` for what is no report."""
    for flag in ("rows", "numeric", "many", "text"):
        if not isinstance(said[flag], bool):
            raise TypeError(f"{flag} is not true or false")
    if not isinstance(said["labels"], list) or not all(isinstance(t, str) for t in said["labels"]):
        raise TypeError("labels must be a list of text")
    if len(said["labels"]) > MAX_CLASSES:
        raise ValueError("more labels than a site tells")


def settle(wanted: str, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
    """The kind of task and its classes, from what the sites said about their target.

    Raises:
        ConfigError: nothing is known, only one class, or ``wanted`` contradicts the labels.
    """
    said = [s for s in said if s["rows"]]
    if not said:
        raise ConfigError(f"no site has a row with a value of the target {target!r}")
    text = not all(s["numeric"] for s in said)
    if wanted == "regression":
        if text:
            raise ConfigError(
                f"task_type is regression, but the target {target!r} is text or true/false at some site; "
                "is it the right column? Classes take task_type auto, and a model of classes"
            )
        return Settled("regression")
    classes = order_labels({label for s in said for label in s["labels"]})
    many = any(s["many"] for s in said)
    if wanted == "auto" and not text and (many or len(classes) > MAX_WHOLE_CLASSES):
        return Settled("regression")
    if many or len(classes) > MAX_CLASSES:
        raise ConfigError(
            f"the target {target!r} has more than {MAX_CLASSES} classes, or is a number at some sites "
            "and text at others; is it the right column?"
        )
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    if len(classes) < 2:
        raise ConfigError(
            f"the target {target!r} has {len(classes)} classes over all sites ({shown or 'none named'}); "
            "at least two are needed to learn anything"
        )
    found = "binary" if len(classes) == 2 else "multiclass"
    if wanted not in ("auto", found):
        raise ConfigError(
            f"task_type is {wanted}, but the target {target!r} has {len(classes)} classes over all sites "
            f"({shown}); use {found} or auto"
        )
    numbers = label_values(classes).dtype.kind != "U"
    return Settled(found, tuple(classes), numbers and any(s["text"] for s in said))


def order_labels(labels: set[str]) -> list[str]:
    """Sorted; by value where all are distinct numbers.

    >>> order_labels({"10", "9", "-1"}), order_labels({"b", "a", "10"})
    (['-1', '9', '10'], ['10', 'a', 'b'])
    """
    listed = sorted(labels)
    values = label_values(listed)
    return listed if values.dtype.kind == "U" else [listed[i] for i in np.argsort(values)]


def codes(column: Column, labels: Sequence[str]) -> Array:
    """(n,) the place of each row's label among these, in as few bytes as hold it; -1: missing, or not one of them.

    >>> codes(Column.numeric([2, 0, float("nan"), 7]), ["0", "2"]).tolist()
    [1, 0, -1, -1]
    """
    index, low = {label: i for i, label in enumerate(labels)}, 0
    found = np.full(len(column), -1, np.min_scalar_type(-1 - len(index)))
    for part in _parts(column):
        there = part.given
        values, place = np.unique(part.values[there], return_inverse=True)
        places = np.array([index.get(label, -1) for label in _named(column, values)], found.dtype)
        found[low : (low := low + len(part))][there] = places[place]
    return found


def _different(column: Column) -> tuple[Array, Array]:
    """The values that occur in a column, ascending, and in how many rows each does; where they are more than
    :data:`MAX_CLASSES`, some of them."""
    values, counts = np.zeros(0, column.values.dtype), np.zeros(0, np.int64)
    for part in _parts(column):
        more, rows = np.unique(part.values[part.given], return_counts=True)
        values, place = np.unique(np.concatenate([values, more]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, rows]), len(values)).astype(np.int64)
        if len(values) > MAX_CLASSES:
            break
    return values, counts


def _named(column: Column, values: Array) -> list[str]:
    """The labels of some values of a column, none of them missing."""
    kind = column.kind if column.kind is ColumnKind.CATEGORICAL else ColumnKind.NUMERIC
    return [str(label) for label in Column(kind, values, column.categories).labels()]


def _parts(column: Column) -> Iterator[Column]:
    """Some of its rows after the other, so that what is made of them stays small."""
    parts = (column.values[low : low + _ROWS] for low in range(0, len(column), _ROWS))
    return (Column(column.kind, values, column.categories) for values in parts)
