"""FedRep: the sites learn a representation together, and each its own last layers upon it.

With θ the layers in common and v_k those of site k (``own_layers``), each round site k first trains v_k alone, with θ
held fast, for ``own_epochs``; then θ alone, with v_k held fast, for ``local_epochs``. The changes of θ are averaged by
rows. v_k never leaves the site; what is measured, at each site, is its own model (θ, v_k). It differs from FedPer in
the order: v_k is near its optimum before θ moves.

The result holds θ, and the first parameters in place of the v_k: it predicts for no site. Where a site lost its v_k (a
restarted worker), it begins with them anew, and the round's record names the site (``lost``).

References: Collins et al. 2021, "Exploiting shared representations for personalized federated learning", algorithm 1.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Visit
from hanse.learning.personal import OWN_LAYERS, own_model, own_names, told, unfit
from hanse.learning.server import RATE
from hanse.settings import Setting, whole
from hanse.training import Learned

TAKES = "parameters"
PERSONAL = True
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "own_layers": OWN_LAYERS,
    "own_epochs": Setting(5, "passes over a site's rows per round, for its own layers", whole(1, 10_000)),
}


def _trained(visit: Visit) -> Learned:
    own = own_names(visit)
    others = visit.common.keys() - own
    head = visit.train(own_model(visit), frozen=others, name="own", epochs=visit.settings["own_epochs"])
    return visit.train(head.parameters, frozen=own)


ALGORITHM = averaging(
    __name__, SETTINGS, local=LocalStep(told=told, keeps=True, personal=True, measured=own_model, trained=_trained)
)

__all__ = ["ALGORITHM", "PERSONAL", "SETTINGS", "TAKES", "unfit"]
