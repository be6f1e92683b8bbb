"""Federated averaging: each site trains from the common parameters, their changes are averaged.

With parameters θ, sites k of n_k training rows and the server's learning rate η (1: plain)::

    θ ← θ + η · Σ_k n_k (θ_k - θ) / Σ_k n_k

References: McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", algorithm 1.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE

TAKES = "parameters"
DEFAULT = True
SETTINGS = {**TRAINING, "server_learning_rate": RATE}
ALGORITHM = averaging(__name__, SETTINGS)
