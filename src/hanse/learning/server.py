"""The server's step of averaging: how the parameters change by what the sites changed. A value of pure functions and
named state, as in optax: ``init`` gives the state, ``step`` a change and the next state, and the change is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hanse import spans
from hanse.learning.local import Named
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.training import Arrays

RATE = Setting(1.0, "of the server's step; 1: the plain average (FedAvg)", number(0, 100, above=True))


@dataclass(frozen=True, slots=True)
class ServerUpdate:
    """What a server's step is made from.

    Args:
        change: what the sites changed, together; new arrays, which may be used up.
        added: the same of what they sent besides, by name (:attr:`hanse.learning.local.LocalStep.adds`).
        share: how much of all training rows the sites that answered have, from 0 to 1.
        settings: those of the run.
        numbers: the single numbers that they sent, together.
    """

    change: dict[str, Array]
    added: Mapping[str, dict[str, Array]]
    share: float
    settings: Mapping[str, Json]
    numbers: Mapping[str, float] = field(default_factory=dict)


def _stateless(learned: Arrays, settings: Mapping[str, Json]) -> Named:
    return {}


@dataclass(frozen=True, slots=True)
class ServerStep:
    """The server's part of a strategy.

    Args:
        step: from an update and the state, what is added to the parameters, and the next state.
        init: the state before the first round, from the parameters that are learned and the run's settings.
        sends: names of the state that go to the sites with the parameters.
        everything: whether it also steps what is kept and not learned (running means, counters). These change by their
            plain mean otherwise: a variance that a momentum carries on may turn negative.
    """

    step: Callable[[ServerUpdate, Named], tuple[dict[str, Array], Named]]
    init: Callable[[Arrays, Mapping[str, Json]], Named] = _stateless
    sends: tuple[str, ...] = ()
    everything: bool = False


def _scaled(update: ServerUpdate, state: Named) -> tuple[dict[str, Array], Named]:
    rate = update.settings["server_learning_rate"]
    if rate != 1.0:
        for change in update.change.values():
            np.multiply(change, rate, out=change)
    return update.change, state


plain = ServerStep(_scaled, everything=True)
"""θ ← θ + η · change (setting ``server_learning_rate``)."""


def zeros(name: str) -> Callable[[Arrays, Mapping[str, Json]], Named]:
    """A state that begins with zeros, under this name."""
    return lambda learned, settings: {name: {n: np.zeros_like(a) for n, a in learned.items()}}


def applied(common: Arrays, change: Mapping[str, Array]) -> dict[str, Array]:
    """θ + change, in the dtypes of θ; whole numbers are rounded. ``change`` is used up."""
    found = {}
    for name, before in common.items():
        if before.dtype.kind in "iu":
            found[name] = np.asarray(before + np.rint(change[name]).astype(before.dtype))  # also of one number
        else:
            spans.add(change[name], before)
            found[name] = change[name].astype(before.dtype, copy=False)
    return found
