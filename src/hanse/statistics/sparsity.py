"""The share of cells that are zero or missing, over several columns together.

Zeros are counted in columns of numbers and booleans, missing values in all; an infinite value is
neither. A share that stands for fewer cells than the owner's minimum is given as 0, one that all but
fewer fill as 1; ``hidden`` then says so. Of groups, those are kept back besides that the share of all rows would
else give away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.messages import Json
from hanse.queries import ANY, Arrays, Bounds, Known, Lacking, Owner, Statistic, Values
from hanse.suppression import hidden_groups
from hanse.table import ColumnKind

_WITH_ZEROS = (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    """``n`` rows; ``cells`` (2,): those that are zero or missing, and those that are not."""
    sparse = 0
    for column in values.columns:
        sparse += int(column.missing.sum())
        if column.kind in _WITH_ZEROS:
            sparse += int((column.values == 0).sum())
    cells = values.rows * len(values.columns)
    return {"n": np.asarray(values.rows, np.int64), "cells": np.array([sparse, cells - sparse], np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    sparse, full = (int(count) for count in arrays["cells"])
    few = 0 < sparse < owner.minimum, 0 < full < owner.minimum
    shown = [0, sparse + full] if few[0] else [sparse + full, 0] if few[1] else [sparse, full]
    unsure = np.array([owner.minimum - 1 if one else 0 for one in few], np.int64)
    flag = np.asarray(int(any(few)), np.int64)
    return {"n": arrays["n"], "cells": np.array(shown, np.int64), "open": unsure, "hidden": flag}


def across(
    found: Sequence[Arrays],
    sent: Sequence[Arrays | None],
    shape: Sequence[int],
    owner: Owner,
    options: Mapping[str, Json],
    known: Known,
) -> list[Arrays | None]:
    """Groups with few cells of either sort are not told, nor what the others leave of all rows."""
    back = np.array([part is not None and not part for part in sent])
    back = hidden_groups(np.stack([part["cells"] for part in found]), back, shape, owner.minimum)
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
