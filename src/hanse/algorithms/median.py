"""The coordinate-wise median of what the sites changed, in place of their mean.

For each coordinate, half of the sites changed it less and half more; so sites that lie, fewer than half, cannot move it
beyond what the honest ones said. Each site counts once, whatever its rows: a weight is what a lying site would claim
first. Where sites differ, the median is not their mean, and learns another model than pooled rows would give.

References: Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal statistical rates",
definition 1 and algorithm 1, option I.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.learning.aggregation import coordinatewise
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE
from hanse.messages import Array, Json

TAKES = "parameters"
SETTINGS = {**TRAINING, "server_learning_rate": RATE}


def _median(sites: Array, settings: Mapping[str, Json]) -> Array:
    return np.asarray(np.median(sites, axis=0))


ALGORITHM = averaging(__name__, SETTINGS, aggregation=coordinatewise(_median))
