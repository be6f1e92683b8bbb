"""FedDyn: each site's term makes the optimum of its objective that of all sites, as the rounds go on.

Site k keeps a vector g_k, the server h, both 0 at first. With α the strength of the regularisation, Δ the mean change
by rows, and S/N the share of all training rows that the sites that answered have::

    θ_k = argmin_w f_k(w) - ⟨g_k, w⟩ + α/2 |w - θ|²        g_k ← g_k - α (θ_k - θ)
    h ← h - α S/N Δ                                        θ ← θ + Δ - h/α

Where a site trains to its optimum, g_k becomes its own gradient there, and where nothing moves any more, the sum of
these gradients is 0. The fewer local steps, the further off is g_k. Sites count by their rows, where the paper counts
them alike.

Each site keeps its g_k. Where one has lost it, h and all g_k begin at 0 again; the round's record names the site
(``lost``).

References: Acar et al. 2021, "Federated learning based on dynamic regularization", algorithm 1.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Named, Said, Visit
from hanse.learning.server import ServerStep, ServerUpdate, zeros
from hanse.messages import Array
from hanse.settings import Setting, number
from hanse.training import Learned, ProximalTerm

TAKES = "parameters"
SETTINGS = {**TRAINING, "feddyn_alpha": Setting(0.5, "strength of the regularisation", number(0, 1e6, above=True))}


def _term(visit: Visit) -> ProximalTerm:
    own = visit.memory.get("gradient", {})
    return ProximalTerm(visit.settings["feddyn_alpha"], visit.common, {name: -g for name, g in own.items()})


def _told(visit: Visit, learned: Learned) -> Said:
    alpha, own = visit.settings["feddyn_alpha"], visit.memory.get("gradient", {})
    moved = {name: learned.parameters[name] - before for name, before in visit.learned.items()}
    return Said(kept={"gradient": {name: (own[name] if own else 0.0) - alpha * d for name, d in moved.items()}})


def _step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    alpha = update.settings["feddyn_alpha"]
    h = {name: state["h"][name] - alpha * update.share * d for name, d in update.change.items()}
    return {name: d - h[name] / alpha for name, d in update.change.items()}, {"h": h}


ALGORITHM = averaging(
    __name__, SETTINGS, local=LocalStep(_term, told=_told, keeps=True), server=ServerStep(_step, zeros("h"))
)
