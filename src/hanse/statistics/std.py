"""The standard deviation: the square root of the variance; derived, never sent."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.messages import Json
from hanse.presentation import Shown, Summary
from hanse.queries import NUMBERS, Arrays, Bounds, Known, Lacking, Statistic, same
from hanse.statistics import _lacking, variance


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    found = variance.final(known[0], options, known)
    return None if found is None else math.sqrt(max(found, 0.0))


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    ends = variance.moments(known[0], known[1], lacking).variance(options["ddof"])
    return value, tuple(None if end is None else math.sqrt(end) for end in ends)


STATISTIC = Statistic(
    doc="standard deviation",
    check=variance.check,
    needs=lambda item: (same(item, "variance", **item.options), same(item, "mean")),
    final=final,
    pooled=pooled,
    beside=_lacking.beside,
    filtered=True,
    shown=Shown(arguments=variance.ARGUMENTS, summary=Summary(NUMBERS, 3)),
)
