"""How many values are missing, and how many are infinite (which counts as missing everywhere else).

A number of missing or of infinite values below the owner's minimum is kept back, as 0 with ``hidden``, the number of
sites that keep theirs back. What is told is then the least that there can be: one at each of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown, Summary
from hanse.queries import ANY, Arrays, Bounds, Known, Lacking, Owner, Statistic, Values
from hanse.rough import total
from hanse.table import ColumnKind


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    column = values.columns[0]
    missing = int(column.missing.sum())
    infinite = 0 if column.kind is ColumnKind.CATEGORICAL else values.rows - missing - len(values.finite)
    return {"n": np.asarray(values.rows, np.int64), "gone": np.array([missing, infinite], np.int64)}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    gone = arrays["gone"]
    few = (gone > 0) & (gone < owner.minimum)
    unsure = np.where(few, owner.minimum - 1, 0)
    return {"n": arrays["n"], "gone": np.where(few, 0, gone), "hidden": few.astype(np.int64), "open": unsure}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    missing, infinite = (
        None if back and not gone else int(gone + back)
        for gone, back in zip(arrays["gone"], arrays["hidden"], strict=True)
    )
    found: dict[str, Json] = {"rows": int(arrays["n"]), "missing": missing, "infinite": infinite}
    hidden = int(arrays["hidden"].max())
    return {**found, "hidden": hidden} if hidden else found


def bounds(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Bounds:
    """A site that keeps its number back has one at least, and fewer than its minimum."""
    pairs = zip(arrays["gone"].tolist(), arrays["hidden"].tolist(), arrays["open"].tolist(), strict=True)
    return dict(zip(("missing", "infinite"), ((n + back, n + more) for n, back, more in pairs), strict=True))


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    ends = bounds(arrays, options, known) | {"rows": (value["rows"], value["rows"])}
    return value, {name: (least, most + lacking.rows) for name, (least, most) in ends.items()}


def cells(options: Mapping[str, Json], value: Any) -> dict[str, Json]:
    """Infinite values count as missing."""
    both = value["missing"], value["infinite"]
    if None not in both:
        return {"missing": total(both)}
    told = sum(float(part) for part in both if part is not None)
    return {"missing": f"{told + float(value['hidden']):.0f} or more"}


STATISTIC = Statistic(
    doc="values that are missing or infinite",
    kinds=ANY,
    observe=observe,
    protect=protect,
    counts=("n", "gone"),
    final=final,
    bounds=bounds,
    pooled=pooled,
    scalar=False,
    shown=Shown(summary=Summary(ANY, 1), cells=cells),
)
