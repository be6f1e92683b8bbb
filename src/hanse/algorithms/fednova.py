"""FedNova: federated averaging that a site does not win by taking more steps than the others.

Site k takes τ_k local steps from θ, and says how far they led it by step, d_k = (θ_k - θ) / τ_k, with p_k its share of
the training rows::

    θ ← θ + η τ Σ_k p_k d_k          τ = Σ_k p_k τ_k

so each site pulls by its rows alone. In FedAvg it pulls by p_k τ_k, and a site with more batches an epoch moves the
optimum towards its own. Where all τ_k are the same, this is FedAvg.

τ_k counts what the model's solver counts: mini-batches, rows, iterations (:attr:`hanse.training.Learned.steps`). For
plain gradient steps this is the paper's |a_k|₁; of solvers with momentum or moments the paper has other weights, which
are not told here. Running means change by their plain mean.

References: Wang et al. 2020, "Tackling the objective inconsistency problem in heterogeneous federated optimization",
equation 7 and section 4.2.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Named, Said, Visit
from hanse.learning.server import RATE, ServerStep, ServerUpdate
from hanse.messages import Array
from hanse.training import Learned

TAKES = "parameters"
SETTINGS = {**TRAINING, "server_learning_rate": RATE}


def _told(visit: Visit, learned: Learned) -> Said:
    steps = max(1, learned.steps)
    each = {name: (learned.parameters[name] - before) / steps for name, before in visit.learned.items()}
    return Said(each, numbers={"steps": float(steps)})


def _step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    far = update.settings["server_learning_rate"] * update.numbers["steps"]
    return {name: far * each for name, each in update.change.items()}, state


ALGORITHM = averaging(__name__, SETTINGS, local=LocalStep(numbers=("steps",), told=_told), server=ServerStep(_step))
