"""The labels of a column: those that stand in at least the owner's minimum of rows at some site.

Other statistics need it, to count the same labels at all sites. Rare labels never leave a node. A column of more than
100,000 different values (names, numbers of patients) has no labels: they would fill the memory of the node.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.errors import DataError
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import (
    LABELS,
    MOST_LABELS,
    Arrays,
    Known,
    Owner,
    Statistic,
    Values,
    Withheld,
    labelled,
    ordered,
    pack,
    unpack,
)

MOST_VALUES = 100 * MOST_LABELS  # that a node counts one by one


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    code, labels = labelled(values.columns[0])
    counts = np.bincount(code[code >= 0], minlength=len(labels))
    found = {label: int(c) for label, c in zip(labels, counts, strict=True) if c}
    return _packed(found)


def merge(a: Arrays, b: Arrays) -> Arrays:
    if any("over" in part and part["over"] for part in (a, b)):
        return _over(int(a["n"] + b["n"]))
    found = _counted(a)
    for label, count in _counted(b).items():
        found[label] = found.get(label, 0) + count
    return _packed(found)


def _counted(arrays: Arrays) -> dict[str, int]:
    """Labels and their counts, which zeros may follow where groups have others. Raises ``ValueError`` where they do not
    belong together."""
    labels, counts = unpack(arrays["labels"]), arrays["counts"].tolist()
    if any(counts[len(labels) :]):
        raise ValueError("there are more counts than labels")
    return dict(zip(labels, counts[: len(labels)], strict=True))


def _packed(found: Mapping[str, int]) -> Arrays:
    if len(found) > MOST_VALUES:
        return _over(sum(found.values()))
    labels = ordered(list(found))
    counts = np.array([found[label] for label in labels], np.int64)
    return {"n": counts.sum(dtype=np.int64), "labels": pack(labels), "counts": counts, "over": np.asarray(0, np.int64)}


def _over(rows: int) -> Arrays:
    return {
        "n": np.asarray(rows, np.int64),
        "labels": pack([]),
        "counts": np.zeros(0, np.int64),
        "over": np.asarray(1, np.int64),
    }


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    """Only names leave, each with the count 1; never how often it stands there."""
    if arrays["over"]:
        raise Withheld("the column has too many different values to be labels; ask for a histogram")
    kept = [label for label, count in _counted(arrays).items() if count >= owner.minimum]
    if len(kept) > MOST_LABELS:
        raise DataError(f"the column has more than {MOST_LABELS} labels; use a histogram")
    return {
        "n": np.asarray(len(kept), np.int64),
        "labels": pack(kept),
        "counts": np.ones(len(kept), np.int64),
        "over": arrays["over"],
    }


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return list(unpack(arrays["labels"]))


STATISTIC = Statistic(
    doc="labels",
    kinds=LABELS,
    observe=observe,
    merge=merge,
    protect=protect,
    combine=Combine.MERGE,
    counts=("n", "counts"),
    final=final,
    scalar=False,
    shown=Shown(offered=False),
)
