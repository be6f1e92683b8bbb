"""SCAFFOLD: federated averaging whose sites correct their direction by how they differ from all.

The federation keeps a control variate c, the mean of the sites' gradients, and site k its own, c_k. From θ it trains on
f_k(w) + ⟨c - c_k, w⟩, which turns each of its steps into that of all sites together (equation 3). Then, with g_k the
gradient of its own objective, as the model tells it (:attr:`hanse.training.Learned.gradient`)::

    c_k⁺ = g_k          θ ← θ + η Σ_k n_k (θ_k - θ) / Σ_k n_k          c ← c + S/N · Σ_k n_k (c_k⁺ - c_k) / Σ_k n_k

S are the training rows of the sites that answered, N those of all. A gradient at θ is option I of equation 4; the mean
over steps of a constant rate is option II. Sites count by their rows, where the paper counts them alike.

Each site keeps its c_k. Where one has lost it, c and all c_k begin at 0 again, or c would not be the mean of the c_k;
the round's record names the site (``lost``).

References: Karimireddy et al. 2020, "SCAFFOLD: stochastic controlled averaging for federated learning", algorithm 1.
"""

from __future__ import annotations

from hanse.errors import NodeFailed
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Named, Said, Visit
from hanse.learning.server import RATE, ServerStep, ServerUpdate, zeros
from hanse.messages import Array
from hanse.training import Learned, ProximalTerm

TAKES = "parameters"
SETTINGS = {**TRAINING, "server_learning_rate": RATE}


def _term(visit: Visit) -> ProximalTerm:
    common = visit.server["control"]
    own = visit.memory.get("control", {})
    return ProximalTerm(linear={name: c - own[name] if own else c for name, c in common.items()})


def _told(visit: Visit, learned: Learned) -> Said:
    if learned.gradient is None:
        raise NodeFailed("this model tells no gradient, which SCAFFOLD needs; choose another federated_strategy")
    own = visit.memory.get("control", {})
    control = {name: learned.gradient[name] for name in visit.learned}
    change = {name: g - own[name] if own else g for name, g in control.items()}
    return Said(added={"control": change}, kept={"control": control})


def _step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    control = {name: c + update.share * update.added["control"][name] for name, c in state["control"].items()}
    rate = update.settings["server_learning_rate"]
    return {name: rate * change for name, change in update.change.items()}, {"control": control}


ALGORITHM = averaging(
    __name__,
    SETTINGS,
    local=LocalStep(_term, ("control",), told=_told, keeps=True, gradient=True),
    server=ServerStep(_step, zeros("control"), sends=("control",)),
)
