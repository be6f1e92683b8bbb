"""Krum and multi-Krum: the change of the site that is nearest to its neighbours, or the mean of some such changes.

Of m sites of which f may lie (``byzantine_sites``), the score of a site is the sum of its m - f - 2 least squared
distances to the others. Krum takes the change of the least score; multi-Krum the mean of those of the c least scores
(``krum_kept``, but no more than m - f: the next may be a liar's). Of equal scores the first by node id counts. Sites
count once each, whatever their rows.

It needs m ≥ 2 f + 3; a site that gives nothing usable is one of the f, and with fewer the round has failed. Where
honest sites differ, Krum learns from one of them alone, and what others know is lost: multi-Krum with c = m - f loses
least.

References: Blanchard et al. 2017, "Machine learning with adversaries: Byzantine tolerant gradient descent", section 4.
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
from hanse.settings import Setting, whole

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "byzantine_sites": LIARS,
    "krum_kept": Setting(
        1, "so many sites are averaged, and no more than cannot lie; 1: Krum, more: multi-Krum", whole(1, 100_000)
    ),
}


def few(config: RunConfig, sites: int) -> str:
    """Why a run of so many sites cannot be one; "" where it can."""
    return too_few(config, sites, 2, "krum")


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    sites, liars = honest_enough(gathered, 2, "krum", settings)
    kept = min(settings["krum_kept"], len(sites) - liars)
    order = np.argsort(scores(distances(sites), liars), kind="stable")[:kept]
    return blockwise([sites[i] for i in sorted(order)], lambda kept: np.asarray(kept.mean(axis=0)))


ALGORITHM = averaging(__name__, SETTINGS, aggregation=Aggregation(Combine.EACH, _together, averages=False))
