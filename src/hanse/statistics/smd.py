"""The standardised mean difference of two groups, (m1 - m2) / sqrt((v1 + v2) / 2), as "table 1" gives
it. Arguments: ``group``, the column with the groups; ``groups``, the two of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Known, Lacking, Statistic
from hanse.statistics import _groups, t_test
from hanse.statistics._lacking import Moments, beside, moments, standardised


def difference(m1: float, v1: float, m2: float, v2: float) -> float | None:
    """Of means and variances. None where nothing varies.

    >>> difference(3.0, 4.0, 1.0, 4.0), difference(0.5, 0.0, 0.5, 0.0)
    (1.0, None)
    """
    return (m1 - m2) / math.sqrt((v1 + v2) / 2) if v1 + v2 > 0 else None


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    _, _, (m1, m2), (v1, v2) = t_test.pair(options, known)
    return difference(m1, v1, m2, v2)


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    return value, standardised(*t_test.moments(options, known, lacking))


STATISTIC = Statistic(
    doc="standardised mean difference of two groups",
    check=_groups.check,
    needs=t_test.needs,
    final=final,
    pooled=pooled,
    beside=beside,
    why=lambda found, options, arrays, known: (
        "there is no difference in standard deviations of groups that do not vary"
    ),
    shown=Shown(first=("group", "groups"), arguments=_groups.ARGUMENTS),
)

__all__ = ["STATISTIC", "Moments", "difference", "moments", "standardised"]
