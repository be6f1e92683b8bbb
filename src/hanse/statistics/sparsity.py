"""The share of cells that are zero or missing, over several columns together.

Zeros are counted in columns of numbers and booleans, missing values in all; an infinite value is
neither. The share of a column that stands for fewer cells than the owner's minimum is given as 0, one that all but
fewer fill as 1; ``hidden`` then says so, and the bounds how far that may move it. Of groups, those are kept back
besides that the share of all rows would else give away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Json
from hanse.queries import ANY, Arrays, Bounds, Known, Lacking, Owner, Statistic, Values
from hanse.suppression import hidden_groups
from hanse.table import ColumnKind

CELLS = 1 << 16  # of columns that are looked at together: of few rows, going from one to the next takes longer
_WITH_ZEROS = (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    """``n`` rows; ``cells`` (2, columns): those of each that are zero or missing, and those that are not."""
    sparse = np.zeros(len(values.columns), np.int64)
    numbers = [place for place, column in enumerate(values.columns) if column.kind in _WITH_ZEROS]
    for place, column in enumerate(values.columns):
        if column.kind not in _WITH_ZEROS:
            sparse[place] = np.count_nonzero(column.missing)  # the sum of truths takes four times as long
    at_once = max(1, CELLS // max(values.rows, 1))
    for first in range(0, len(numbers), at_once):
        places = numbers[first : first + at_once]
        alone = values.columns[places[0]].values[None]
        cells = alone if len(places) == 1 else np.stack([values.columns[place].values for place in places])
        sparse[places] = np.count_nonzero(np.isnan(cells) | (cells == 0), axis=1)
    return {"n": np.asarray(values.rows, np.int64), "cells": np.stack([sparse, values.rows - sparse])}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    """``cells`` (2,) of all columns together, the sum of what each tells by itself: so whoever asks for other sets of
    them learns no more."""
    sparse, full = arrays["cells"]
    few = (arrays["cells"] > 0) & (arrays["cells"] < owner.minimum)
    none, every = few[0], few[1] & ~few[0]
    shown = np.where(none, [0 * sparse, sparse + full], np.where(every, [sparse + full, 0 * full], arrays["cells"]))
    unsure = few.sum(1) * (owner.minimum - 1)
    flag = np.asarray(int(few.any()), np.int64)
    return {"n": arrays["n"], "cells": shown.sum(1), "open": unsure.astype(np.int64), "hidden": flag}


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """Groups with few cells of either sort are not told, nor what the others leave of all rows; of several columns
    those are told that none of them keeps back, so that no two sets of columns differ by a group."""
    back = np.array([part is not None and not part for part in sent])
    counts = np.stack([part["cells"] for part in found])
    of_each = [hidden_groups(counts[..., column], back, shape, owner.minimum) for column in range(counts.shape[-1])]
    back = np.logical_or.reduce([back, *of_each])
    return [{} if part is not None and back[g] else part for g, part in enumerate(sent)]


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    total = int(arrays["cells"].sum())
    return float(arrays["cells"][0] / total) if total else None


def bounds(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Bounds:
    """Of each site that gives few cells as none, or as all, there are one at least and fewer than its minimum."""
    total, sparse, (more, fewer) = int(arrays["cells"].sum()), int(arrays["cells"][0]), arrays["open"].tolist()
    return ((sparse - fewer) / total, (sparse + more) / total) if total else (None, None)


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """A row that is lacking has as many cells as any other, all or none of which may be zero or missing."""
    total, rows = int(arrays["cells"].sum()), int(arrays["n"])
    least, most = bounds(arrays, options, known)
    more = lacking.rows * (total // rows) if rows else 0
    return value, (least * total / (total + more), (most * total + more) / (total + more))


STATISTIC = Statistic(
    doc="share of cells that are zero or missing",
    kinds=ANY,
    columns=0,
    observe=observe,
    protect=protect,
    across=across,
    final=final,
    bounds=bounds,
    pooled=pooled,
)
