"""Ditto: beside the model of all, each site learns one of its own that stays near it.

θ is learned as in FedAvg. With it site k trains a model v_k of its own, which it keeps, from where v_k was::

    min_v f_k(v) + λ/2 |v - θ|²

λ (``ditto_lambda``) says how near: 0 is learning alone, a large one is FedAvg. What is measured, at each site, is v_k;
it never leaves the site. The result is θ. Where a site lost its v_k (a restarted worker), it begins at θ anew, and the
round's record names the site (``lost``).

References: Li et al. 2021, "Ditto: fair and robust federated learning through personalization", algorithm 1.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Said, Visit
from hanse.learning.server import RATE
from hanse.settings import Setting, number
from hanse.training import Arrays, Learned, ProximalTerm

TAKES = "parameters"
PERSONAL = True
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "ditto_lambda": Setting(1.0, "how strongly a site's own model is drawn to the common one", number(0, 1e6)),
}


def _own(visit: Visit) -> Arrays:
    return visit.memory.get("own") or visit.common


def _told(visit: Visit, learned: Learned) -> Said:
    term = ProximalTerm(visit.settings["ditto_lambda"], visit.common)
    return Said(kept={"own": visit.train(_own(visit), term, name="own").parameters})


ALGORITHM = averaging(__name__, SETTINGS, local=LocalStep(told=_told, keeps=True, personal=True, measured=_own))
