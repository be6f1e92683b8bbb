"""FedProx: federated averaging of sites that are held back from going their own way.

Site k starts from the common θ and lessens, instead of its objective f_k::

    h_k(w; θ) = f_k(w) + μ/2 · |w - θ|²

What the sites learned is averaged as in FedAvg, which is μ = 0. A larger μ lets sites of different data train longer.

References: Li et al. 2020, "Federated optimization in heterogeneous networks", equation 2 and algorithm 2.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Visit
from hanse.learning.server import RATE
from hanse.settings import Setting, number
from hanse.training import ProximalTerm

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "proximal_mu": Setting(0.01, "how strongly each site is drawn towards the common parameters", number(0, 1e6)),
}


def _term(visit: Visit) -> ProximalTerm:
    return ProximalTerm(visit.settings["proximal_mu"], visit.common)


ALGORITHM = averaging(__name__, SETTINGS, local=LocalStep(_term))
