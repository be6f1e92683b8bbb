"""The sum: derived from what the mean needs, never sent by itself."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Known, Lacking, Statistic, same
from hanse.statistics import _lacking
from hanse.table import ColumnKind


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return float(known[0]["sum"])


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """Rows add their deviations from the told mean, and this mean as often as there are more of them."""
    n = int(known[0]["n"])
    return value, _lacking.total(n, value / n if n else 0.0, lacking)


STATISTIC = Statistic(
    doc="sum",
    needs=lambda item: (same(item, "mean"),),
    final=final,
    pooled=pooled,
    beside=_lacking.beside,
    filtered=True,
    shown=Shown(usual=frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN})),
)
