"""The smallest or the largest value: one person's, so it leaves a node only where ``allow_extremes`` is set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.kinds import Combine
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Known, Lacking, Owner, Statistic, Values, Withheld, same


def extreme(name: str, doc: str, of: np.ufunc, none: float, instead: str) -> Statistic:
    """A statistic.

    Args:
        name: of its array.
        of: the binary function, associative and commutative, that leaves the extreme of two.
        none: its unit, the extreme of no values.
        instead: the quantile to ask for where nobody may see single sites.
    """

    def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
        x = values.finite
        found = of.reduce(x) if len(x) else none
        return {"n": np.asarray(len(x), np.int64), name: np.asarray(found, np.float64)}

    def merge(a: Arrays, b: Arrays) -> Arrays:
        return {"n": a["n"] + b["n"], name: of(a[name], b[name])}

    def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
        return float(arrays[name]) if np.isfinite(arrays[name]) else None

    def pooled(
        value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
    ) -> tuple[Json, Bounds]:
        """No row that is lacking makes the extreme of all less extreme."""
        span = lacking.span or (None, None)
        return value, (span[0], value) if none > 0 else (value, span[1])

    return Statistic(
        doc=doc,
        needs=lambda item: (same(item, "count"),),
        observe=observe,
        merge=merge,
        protect=_protect,
        combine=Combine.MERGE,
        no_sum=f"it is one person's value; ask for quantiles, such as {instead}",
        final=final,
        pooled=pooled,
        shown=Shown(on_scale=True),
    )


def _protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if not owner.extremes:
        raise Withheld("exact extremes do not leave this node; ask for quantiles, such as 0.01 and 0.99")
    return arrays
