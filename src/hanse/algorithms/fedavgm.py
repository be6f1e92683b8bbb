"""FedAvgM: federated averaging with momentum at the server.

With Δ the average change of the sites, β the momentum and η the server's learning rate::

    v ← β v + Δ          θ ← θ + η v

References: Hsu et al. 2019, "Measuring the effects of non-identical data distribution for federated visual
classification", section 4.3.
"""

from __future__ import annotations

from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import Named
from hanse.learning.server import RATE, ServerStep, ServerUpdate, zeros
from hanse.messages import Array
from hanse.settings import Setting, number

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "server_momentum": Setting(0.9, "share of the step before that is added to this one", number(0, 1, below=True)),
}


def _step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    rate, beta = update.settings["server_learning_rate"], update.settings["server_momentum"]
    velocity = {name: beta * state["velocity"][name] + change for name, change in update.change.items()}
    return {name: rate * v for name, v in velocity.items()}, {"velocity": velocity}


ALGORITHM = averaging(__name__, SETTINGS, server=ServerStep(_step, zeros("velocity")))
