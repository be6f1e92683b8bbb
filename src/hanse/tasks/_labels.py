"""From the labels of one target column to a task: what a site says of its column, and what all reports come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind, label_values
from hanse.task import Settled

MAX_WHOLE_CLASSES = 20  # a whole-number target with more distinct values is a quantity
MAX_CLASSES = 1000
QUANTITIES = (ColumnKind.NUMERIC, ColumnKind.DATE)


def tell(column: Column, atleast: int, *, labels: bool = True, auto: bool = True) -> dict[str, Json]:
    """What a site says of its target: whether it has rows, whether they are numbers, or text, and its labels with
    at least ``atleast`` rows. ``auto``: of a quantity no labels, only that there are ``many``."""
    there = column.given
    said: dict[str, Json] = {"rows": bool(there.any()), "numeric": column.kind in QUANTITIES, "many": False}
    said["text"] = column.kind is ColumnKind.CATEGORICAL
    named: list[str] = []
    if labels and said["rows"]:
        listed, codes = labelled(column)
        whole = column.kind is not ColumnKind.NUMERIC or bool(np.all(column.values[there] % 1 == 0))
        quantity = column.kind in QUANTITIES and (not whole or len(listed) > MAX_WHOLE_CLASSES)
        said["many"] = (auto and quantity) or len(listed) > MAX_CLASSES
        if not said["many"]:
            counts = np.bincount(codes[codes >= 0], minlength=len(listed))
            named = [label for label, n in zip(listed, counts, strict=True) if n >= atleast]
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


def labelled(column: Column) -> tuple[list[str], Array]:
    """The distinct labels of a column, and each row's index among them (-1: missing)."""
    if column.kind is ColumnKind.CATEGORICAL:
        used = np.unique(column.values[column.values >= 0])
        index = np.full(len(column.categories) + 1, -1, np.int64)
        index[used] = np.arange(len(used))
        return [column.categories[c] for c in used], index[column.values]
    finite = np.isfinite(column.values)
    distinct = np.unique(column.values[finite])
    codes = np.searchsorted(distinct, column.values)
    codes[~finite] = -1
    return [str(label) for label in Column(ColumnKind.NUMERIC, distinct).labels()], codes
