"""How many values are there (finite, for numbers)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Json
from hanse.presentation import Shown, Summary
from hanse.queries import ANY, Arrays, Known, Statistic, Values
from hanse.statistics import _lacking
from hanse.table import ColumnKind


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    column = values.columns[0]
    n = int((column.values >= 0).sum()) if column.kind is ColumnKind.CATEGORICAL else len(values.finite)
    return {"n": np.asarray(n, np.int64)}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return int(arrays["n"])


STATISTIC = Statistic(
    doc="values that are there",
    kinds=ANY,
    observe=observe,
    final=final,
    pooled=_lacking.counted,
    filtered=True,
    shown=Shown(basic=True, summary=Summary(ANY, 0)),
)
