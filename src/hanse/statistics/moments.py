"""Skewness and kurtosis, from the third and fourth central sums about the mean of all sites.

``skewness`` is the adjusted Fisher-Pearson coefficient G1 and ``kurtosis`` the excess G2, as pandas
and most statistics packages give them; with ``adjusted=False`` the plain g1 and g2. None where they are
undefined (all values equal, too few rows), and where the standard deviation is below 1e-70, since the
fourth powers of such deviations are too small for a float64 (of those beyond 1e77 they are too large,
and the node says so).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Known, Statistic, Values, same, take
from hanse.statistics._powers import about_mean, center, merge, moved
from hanse.statistics._powers import observe as powers

_SMALLEST = 1e-140  # of a variance: the fourth powers of smaller deviations are no float64


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, adjusted=True)
    if not isinstance(found["adjusted"], bool):
        raise ConfigError(f"adjusted is {found['adjusted']!r}; expected true or false")
    return found


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    return powers(values.finite, 4)


def share(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return {"n": arrays["n"], "s": moved(arrays, center(known[0]))}


def of_whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return {**arrays, "pivot": np.asarray(center(known[0]))}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    n = int(arrays["n"])
    found: dict[str, Json] = {"skewness": None, "kurtosis": None}
    if not n:
        return found
    _, _, m2, m3, m4 = (float(v) / n for v in about_mean(n, arrays["s"]))
    if m2 <= _SMALLEST:
        return found
    g1, g2 = m3 / m2 / math.sqrt(m2), m4 / m2 / m2 - 3
    if not options["adjusted"]:
        return {"skewness": g1, "kurtosis": g2}
    if n > 2:
        found["skewness"] = g1 * math.sqrt(n * (n - 1)) / (n - 2)
    if n > 3:
        found["kurtosis"] = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6)
    return found


STATISTIC = Statistic(
    doc="skewness and kurtosis",
    check=check,
    needs=lambda item: (same(item, "mean"),),
    later=True,
    observe=observe,
    merge=merge,
    share=share,
    whole=share,
    of_whole=of_whole,
    final=final,
    scalar=False,
    sums=True,
    filtered=True,
    shown=Shown(
        arguments={"adjusted": "of the sample, as most packages give them"}, cells=lambda options, value: dict(value)
    ),
)
