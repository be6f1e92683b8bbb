"""Bulyan: a trimmed mean, of each coordinate, of the changes that Krum selects one after the other.

Of m sites of which f may lie (``byzantine_sites``), m - 2 f are selected: each time the one of the least score among
those that are left (:mod:`hanse.algorithms.krum`). Then each coordinate changes by the mean of the m - 4 f selected
values that are nearest to their median. So a lie in a single coordinate, which distances over all coordinates do not
show, does not pass either. Sites count once each, whatever their rows.

It needs m ≥ 4 f + 3; a site that gives nothing usable is one of the f, and with fewer the round has failed.

References: El Mhamdi et al. 2018, "The hidden vulnerability of distributed learning in Byzantium", section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.algorithms._krum import LIARS, distances, honest_enough, scores, too_few
from hanse.config import RunConfig
from hanse.kinds import Combine, Gathered
from hanse.learning.aggregation import Aggregation, blockwise
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE
from hanse.messages import Array, Json

TAKES = "parameters"
SETTINGS = {**TRAINING, "server_learning_rate": RATE, "byzantine_sites": LIARS}


def selected(squared: Array, liars: int) -> list[int]:
    """The places of the m - 2 f sites that are selected, ascending, from (m, m) squared distances."""
    left, chosen = list(range(len(squared))), []
    for _ in range(len(squared) - 2 * liars):
        best = left[int(np.argmin(scores(squared[np.ix_(left, left)], liars)))]
        left.remove(best)
        chosen.append(best)
    return sorted(chosen)


def nearest_to_median(sites: Array, count: int) -> Array:
    """(m,) means of the ``count`` numbers of each column of (sites, m) that are nearest to its median."""
    off = np.abs(sites - np.median(sites, axis=0))
    near = np.sort(np.argsort(off, axis=0, kind="stable")[:count], axis=0)
    return np.asarray(np.take_along_axis(sites, near, axis=0).mean(axis=0))


def few(config: RunConfig, sites: int) -> str:
    """Why a run of so many sites cannot be one; "" where it can."""
    return too_few(config, sites, 4, "bulyan")


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    sites, liars = honest_enough(gathered, 4, "bulyan", settings)
    kept, count = [sites[i] for i in selected(distances(sites), liars)], len(sites) - 4 * liars
    return blockwise(kept, lambda stack: nearest_to_median(stack, count))


ALGORITHM = averaging(__name__, SETTINGS, aggregation=Aggregation(Combine.EACH, _together, averages=False))
