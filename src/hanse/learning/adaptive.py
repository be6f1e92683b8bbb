"""What the three adaptive server's steps have in common, which differ in the second moment v alone.

With Δ the average change of the sites, η the server's learning rate, and τ the degree of adaptivity::

    m ← β₁ m + (1 - β₁) Δ          θ ← θ + η m / (√v + τ)

m begins at 0 and v at τ². As in the paper there is no correction of the first steps' bias. η counts in the units of
the parameters, not of the change: its default is 0.1.

References: Reddi et al. 2021, "Adaptive federated optimization", algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hanse.learning.averaging import TRAINING
from hanse.learning.local import Named
from hanse.learning.server import ServerStep, ServerUpdate
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.training import Arrays

SETTINGS = {
    **TRAINING,
    "server_learning_rate": Setting(0.1, "of the server's step, in units of θ", number(0, 100, above=True)),
    "server_beta_1": Setting(0.9, "how slowly the mean of the changes forgets", number(0, 1, below=True)),
    "server_tau": Setting(1e-3, "changes far below it are not scaled up", number(0, 1, above=True)),
}
BETA_2 = Setting(0.99, "how slowly the mean of the squared changes forgets", number(0, 1, below=True))

Second = Callable[[Array, Array, Mapping[str, Json]], Array]  # (v, Δ², settings) to the next v


def adaptive(second: Second) -> ServerStep:
    """The step with a rule for the second moment."""

    def init(learned: Arrays, settings: Mapping[str, Json]) -> Named:
        least = settings["server_tau"] ** 2
        zeros = {name: np.zeros_like(a) for name, a in learned.items()}
        return {"first": zeros, "second": {name: np.full_like(a, least) for name, a in learned.items()}}

    def step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
        rate, beta, tau = (update.settings[n] for n in ("server_learning_rate", "server_beta_1", "server_tau"))
        first, moments, change = {}, {}, {}
        for name, delta in update.change.items():
            first[name] = beta * state["first"][name] + (1 - beta) * delta
            moments[name] = second(state["second"][name], np.square(delta), update.settings)
            change[name] = rate * first[name] / (np.sqrt(moments[name]) + tau)
        return change, {"first": first, "second": moments}

    return ServerStep(step, init)
