"""FedYogi: as FedAdam, with a second moment that falls as slowly as it rises (:mod:`hanse.learning.adaptive`)::

    v ← v - (1 - β₂) Δ² sign(v - Δ²)

References: Reddi et al. 2021, "Adaptive federated optimization", algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.learning import adaptive
from hanse.learning.averaging import averaging
from hanse.messages import Array, Json

TAKES = "parameters"
SETTINGS = {**adaptive.SETTINGS, "server_beta_2": adaptive.BETA_2}


def _second(v: Array, squared: Array, settings: Mapping[str, Json]) -> Array:
    return np.asarray(v - (1 - settings["server_beta_2"]) * squared * np.sign(v - squared))


ALGORITHM = averaging(__name__, SETTINGS, server=adaptive.adaptive(_second))
