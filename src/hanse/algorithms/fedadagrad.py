"""FedAdagrad: federated averaging with Adagrad at the server (:mod:`hanse.learning.adaptive`)::

    v ← v + Δ²

The paper runs it without momentum, so β₁ is 0 unless it is set.

References: Reddi et al. 2021, "Adaptive federated optimization", algorithm 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hanse.learning import adaptive
from hanse.learning.averaging import averaging
from hanse.messages import Array, Json

TAKES = "parameters"
SETTINGS = {
    **adaptive.SETTINGS,
    "server_beta_1": dataclasses.replace(adaptive.SETTINGS["server_beta_1"], default=0.0),
}


def _second(v: Array, squared: Array, settings: Mapping[str, Json]) -> Array:
    return v + squared


ALGORITHM = averaging(__name__, SETTINGS, server=adaptive.adaptive(_second))
