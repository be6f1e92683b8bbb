"""The variance, Σ(x - μ)² / (n - ddof) about the mean μ of all sites.

Argument ``ddof``: 1 for the sample (the default), 0 for the population. Undefined (None) for
n <= ddof.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Arrays, Bounds, Known, Lacking, Statistic, Values, same, take
from hanse.statistics import _lacking
from hanse.statistics._powers import about_mean, center, merge, moved
from hanse.statistics._powers import observe as powers
from hanse.table import ColumnKind


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, ddof=1)
    if found["ddof"] not in (0, 1) or isinstance(found["ddof"], bool):
        raise ConfigError(f"ddof is {found['ddof']!r}; expected 0 (population) or 1 (sample)")
    return found


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    return powers(values.finite, 2)


def share(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return {"n": arrays["n"], "s": moved(arrays, center(known[0]))}


def mean_of(arrays: Arrays, mean: Arrays) -> tuple[float, float]:
    """A mean as (center, rest), whose sum it is: the center about which the squares were summed, and how far
    the rows of ``arrays`` are from it in the mean. ``mean``: what all sites hold of the mean."""
    return center(mean), float(arrays["s"][0]) / max(int(arrays["n"]), 1)


def of_whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    return {**arrays, "pivot": np.asarray(center(known[0]))}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    n = int(arrays["n"])
    return float(about_mean(n, arrays["s"])[2] / (n - options["ddof"])) if n > options["ddof"] else None


def moments(arrays: Arrays, mean: Arrays, lacking: Lacking) -> _lacking.Moments:
    """Between what mean and sum of squares of all rows lie. ``mean``: what all sites hold of the mean."""
    n, (middle, rest) = int(arrays["n"]), mean_of(arrays, mean)
    return _lacking.moments(n, middle + rest, float(about_mean(n, arrays["s"])[2]) if n else 0.0, lacking)


def pooled(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    return value, moments(arrays, known[0], lacking).variance(options["ddof"])


ARGUMENTS = {"ddof": "1: of the sample; 0: of the population"}

STATISTIC = Statistic(
    doc="variance",
    check=check,
    needs=lambda item: (same(item, "mean"),),
    later=True,
    observe=observe,
    merge=merge,
    share=share,
    whole=share,
    of_whole=of_whole,
    final=final,
    pooled=pooled,
    beside=_lacking.beside,
    sums=True,
    filtered=True,
    follows=lambda item: (same(item, "std", **item.options),),
    shown=Shown(basic=True, arguments=ARGUMENTS, usual=frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN})),
)
