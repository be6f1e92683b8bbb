"""Federated averaging with noise whose clipping bound follows the sites: where updates shrink, so does the noise.

A fixed bound is a guess: too large, it asks for more noise than updates are long, too small, it cuts them off. Here the
bound C goes to a quantile q of the lengths of updates, with the same promise and the same number of releases. With Δ a
site's change, b whether ‖Δ‖₂ is at most C, and a small share β, a site sends one vector ::

    x = (√(1 - β²) · Δ / C · min(1, C / ‖Δ‖₂),  β (2 b - 1)),    ‖x‖₂ ≤ 1

which is clipped to 1 and noised as any update is (:mod:`hanse.privacy.release`): who is told C needs no trust in it, as
it changes nothing that noise is made for. From the noised mean of x the coordinator makes ::

    θ ← θ + C / √(1 - β²) · mean of the first part,    b̄ = (mean of the last / β + 1) / 2,    C ← C exp(-η (b̄ - q))

References: Andrew, Thakkar, McMahan and Ramaswamy 2021, "Differentially private learning with adaptive clipping",
algorithm 1 (there b has noise of its own; here it is one more number of the same release).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.config import RunConfig
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep, Named, Said, Visit
from hanse.learning.server import ServerStep, ServerUpdate
from hanse.messages import Array, Json
from hanse.privacy import clipping
from hanse.privacy.guarantee import settled
from hanse.settings import Setting, number
from hanse.training import Arrays, Learned

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "first_bound": Setting(0.1, "C of the first round, of adaptive clipping", number(1e-12, 1e12)),
    "clipped_quantile": Setting(
        0.5, "the share of updates that C goes to be as long as, or longer", number(0, 1, above=True, below=True)
    ),
    "bound_rate": Setting(0.2, "η, how fast C goes there", number(0, 10)),
}
_SHARE = 0.25  # β
_KEPT = math.sqrt(1 - _SHARE**2)
_BOUND, _WITHIN = "bound", "within"


def unfit(config: RunConfig) -> str:
    """Without noise there is no reason for it; and what it sends is of length 1."""
    if config.privacy is None:
        return "adaptive_clipping is for runs with differential privacy; set privacy, or leave federated_strategy out"
    if settled(config.privacy)["clip"] != 1.0:
        return "adaptive_clipping finds its bound itself: leave clip of privacy out, and set first_bound"
    if config.transforms:
        return "a transform would change what the bound follows from; leave transforms out"
    return ""


def _told(visit: Visit, learned: Learned) -> Said:
    bound = float(visit.server[_BOUND][_BOUND][0])
    change = {name: learned.parameters[name].astype(np.float64) - a for name, a in visit.common.items()}
    length = clipping.length(change)
    scale = _KEPT / max(bound, length)
    scaled = {name: (scale * a).astype(visit.common[name].dtype) for name, a in change.items()}
    return Said(change=scaled, numbers={_WITHIN: _SHARE if length <= bound else -_SHARE})


def _init(learned: Arrays, settings: Mapping[str, Json]) -> Named:
    return {_BOUND: {_BOUND: np.array([float(settings["first_bound"])])}}


def _step(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    bound = float(state[_BOUND][_BOUND][0])
    within = (update.numbers[_WITHIN] / _SHARE + 1) / 2
    quantile, rate = update.settings["clipped_quantile"], update.settings["bound_rate"]
    after = clipping.adapted(bound, within, quantile, rate)
    moved = {name: change * (bound / _KEPT) for name, change in update.change.items()}
    return moved, {_BOUND: {_BOUND: np.array([after])}}


ALGORITHM = averaging(
    __name__,
    SETTINGS,
    LocalStep(numbers=(_WITHIN,), told=_told, bounded=True),
    server=ServerStep(_step, _init, sends=(_BOUND,), everything=True),
)
