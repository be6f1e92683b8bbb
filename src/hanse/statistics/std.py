"""The standard deviation: the square root of the variance; derived, never sent."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.messages import Json
from hanse.presentation import Shown, Summary
from hanse.queries import NUMBERS, Arrays, Known, Statistic, same
from hanse.statistics import variance


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    found = variance.final(known[0], options, known)
    return None if found is None else math.sqrt(max(found, 0.0))


STATISTIC = Statistic(
    doc="standard deviation",
    check=variance.check,
    needs=lambda item: (same(item, "variance", **item.options),),
    final=final,
    filtered=True,
    shown=Shown(arguments=variance.ARGUMENTS, summary=Summary(NUMBERS, 3)),
)
