"""What a node says about its data when it registers, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.suppression import hidden
from hanse.table import Column, ColumnKind, Table

MIN_COUNT = 10
CLASSES = 20  # a numeric target with more distinct values is a measurement, not a class


def summary(
    table: Table, target: str | None, min_count: int = MIN_COUNT, metadata_columns: Collection[str] = ()
) -> dict[str, Any]:
    """The registration summary.

    - ``num_samples``: rows, 0 below ``min_count``. ``num_features``, ``features``: the columns that are
      neither the target nor in ``metadata_columns``.
    - ``data_sparsity``: (zeros + missing) / (num_samples * num_features), in [0, 1], two decimals.
      Zeros are counted in numeric and boolean columns; images have neither. A share that stands for
      fewer than ``min_count`` cells (or all but fewer) is given as 0 (or 1). 0 without cells.
    - ``feature_coverage``: the mean share of features that a sample has, 1 - data_sparsity; 0 without
      cells.
    - ``class_distribution``: label to count, see :func:`suppress`. Rows without a label count for
      nothing. Empty for a target that is a measurement, a date or an image, and without a target.

    >>> from hanse.table import Column
    >>> t = Table({"x": Column.numeric([0.0] * 10 + [1.0] * 10), "y": Column.categorical(["a", "b"] * 10)})
    >>> summary(t, "y")["class_distribution"], summary(t, "y")["data_sparsity"]
    ({'a': 10, 'b': 10}, 0.5)

    Raises:
        DataError: there is no column ``target``.
        ConfigError: ``min_count`` is below 1.
    """
    return summary_of([table], target, min_count, metadata_columns)


def summary_of(
    batches: Iterable[Table], target: str | None, min_count: int = MIN_COUNT, metadata_columns: Collection[str] = ()
) -> dict[str, Any]:
    """:func:`summary` of a table in batches (at least one), in bounded memory."""
    if min_count < 1:
        raise ConfigError(f"min_count is {min_count}; expected 1 or more")
    rows, sparse = 0, 0
    names: tuple[str, ...] = ()
    not_features = {target, *metadata_columns}
    counts: Counter[str] | None = None if target is None else Counter()
    for batch in batches:
        rows, names = rows + batch.rows, batch.names
        sparse += sum(_sparse(batch[name]) for name in names if name not in not_features)
        if target is not None:
            counts = _classes(batch[target], counts)
    features = [name for name in names if name not in not_features]
    enough = rows >= min_count
    sparsity = _sparsity(sparse, rows * len(features), min_count) if enough else None
    return {
        "num_samples": rows if enough else 0,
        "num_features": len(features),
        "data_sparsity": 0.0 if sparsity is None else sparsity,
        "class_distribution": suppress(counts or {}, min_count),
        "feature_coverage": 0.0 if sparsity is None else round(1.0 - sparsity, 2),
        "features": features,
        "metadata_columns": [name for name in names if name in not_features],
    }


def suppress(counts: Mapping[str, int], min_count: int) -> dict[str, int]:
    """``counts`` without the cells below ``min_count``, and without so many more that the total does
    not give them away: among those left out is one of at least ``min_count``, and together they reach
    twice that, if there are so many.

    Which ones go along must not depend on their size, or "the smallest of the rest" would bound what is
    hidden: it is the next label in sorted order, around the end. A test plays the attacker who knows
    the labels, the total and this rule: for ``min_count`` above 2 no small cell has one value only,
    unless each label has one row.

    >>> suppress({"common": 80, "rare": 3, "usual": 40}, 10)
    {'common': 80}
    """
    labels = sorted(counts)
    back = hidden(np.array([counts[label] for label in labels], np.int64), min_count)
    return {label: counts[label] for label, gone in zip(labels, back, strict=True) if not gone and counts[label]}


def _classes(column: Column, before: Counter[str] | None) -> Counter[str] | None:
    """The labels ``before`` and those of one more batch; None once it is clear that the target has no classes."""
    if before is None or column.kind in (ColumnKind.IMAGE, ColumnKind.DATE):
        return None
    if column.kind is ColumnKind.NUMERIC:
        present = column.values[~column.missing]
        if not np.isfinite(present).all() or len(np.unique(present)) > CLASSES:
            return None
    found = before + Counter(label for label in column.labels() if label is not None)
    return None if column.kind is ColumnKind.NUMERIC and len(found) > CLASSES else found


def _sparse(column: Column) -> int:
    zeros = column.kind in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN) and int((column.values == 0).sum())
    return int(column.missing.sum()) + int(zeros)


def _sparsity(sparse: int, cells: int, min_count: int) -> float | None:
    if not cells:
        return None
    if sparse < min_count:
        return 0.0
    return 1.0 if cells - sparse < min_count else round(sparse / cells, 2)
