"""FedPer: the sites share the base of a network, and each keeps its last layers for itself.

With θ the layers in common and v_k those of site k (``own_layers``), each round site k trains both together from (θ,
v_k), keeps its v_k, and the changes of θ are averaged by rows as in FedAvg. v_k never leaves the site, and starts at
the model's first parameters. What is measured, at each site, is its own model (θ, v_k).

The result holds θ, and the first parameters in place of the v_k: it predicts for no site. Where a site lost its v_k (a
restarted worker), it begins with them anew, and the round's record names the site (``lost``).

References: Arivazhagan et al. 2019, "Federated learning with personalization layers", section 3.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Visit
from hanse.learning.personal import OWN_LAYERS, own_model, told, unfit
from hanse.learning.server import RATE
from hanse.training import Learned

TAKES = "parameters"
PERSONAL = True
SETTINGS = {**TRAINING, "server_learning_rate": RATE, "own_layers": OWN_LAYERS}


def _trained(visit: Visit) -> Learned:
    return visit.train(own_model(visit))


ALGORITHM = averaging(
    __name__, SETTINGS, local=LocalStep(told=told, keeps=True, personal=True, measured=own_model, trained=_trained)
)

__all__ = ["ALGORITHM", "PERSONAL", "SETTINGS", "TAKES", "unfit"]
