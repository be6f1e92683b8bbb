"""The coordinate-wise trimmed mean of what the sites changed, in place of their mean.

Of m sites, for each coordinate the ⌈β m⌉ least and the ⌈β m⌉ greatest changes are left out, and the others averaged; so
that many sites may lie. At least one remains: of three sites one is left out at each end. Each site counts once,
whatever its rows: a weight is what a lying site would claim first.

References: Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal statistical rates",
definition 2 and algorithm 1, option II.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.learning.aggregation import coordinatewise
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE
from hanse.messages import Array, Json
from hanse.settings import Setting, number

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "trimmed_share": Setting(0.2, "share of the sites that is left out at each end", number(0, 0.5, below=True)),
}


def _trimmed(sites: Array, settings: Mapping[str, Json]) -> Array:
    count = len(sites)
    out = min(math.ceil(settings["trimmed_share"] * count - 1e-9), (count - 1) // 2)
    return np.asarray(np.sort(sites, axis=0)[out : count - out].mean(axis=0))


ALGORITHM = averaging(__name__, SETTINGS, aggregation=coordinatewise(_trimmed))
