"""FedAdam: federated averaging with Adam at the server (:mod:`hanse.learning.adaptive`)::

    v ← β₂ v + (1 - β₂) Δ²

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
    beta: float = settings["server_beta_2"]
    return np.asarray(beta * v + (1 - beta) * squared)


ALGORITHM = averaging(__name__, SETTINGS, server=adaptive.adaptive(_second))
