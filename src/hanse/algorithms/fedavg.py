"""Federated averaging: each site trains from the common parameters, their changes are averaged.

With parameters θ, weights p_k of the sites and the server's learning rate η (1: plain)::

    θ ← θ + η · Σ_k p_k (θ_k - θ) / Σ_k p_k

p_k is the number of training rows of site k, or what ``site_weights`` gives it: numbers from 0 to 1, for every site of
the run, which owners read and accept with the run. A site without training rows counts for nothing either way, and one
that claims another weight than it was given is left out.

References: McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hanse.config import RunConfig
from hanse.errors import NodeFailed, Unusable
from hanse.kinds import Combine, Gathered
from hanse.learning.aggregation import Aggregation
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local import LocalStep
from hanse.learning.server import RATE
from hanse.messages import Array, Json
from hanse.settings import Check, Setting, maybe


def _are_weights(value: Json) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w <= 1 for w in value.values())
        and math.fsum(value.values()) > 0
    )


_WEIGHTS = Check(
    "an object of site to a number from 0 to 1, not all 0",
    _are_weights,
    {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
)
TAKES = "parameters"
DEFAULT = True
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "site_weights": Setting(None, "what each site counts for, by node; null: its training rows", maybe(_WEIGHTS)),
}


def unfit(config: RunConfig) -> str:
    """Why a run cannot be proposed: a site of it has no weight, or none counts."""
    given, asked = config.ingredient_settings["site_weights"], config.expected_client_ids
    if given is not None and config.privacy is not None:
        return "every site counts the same in a differentially private run; leave site_weights out"
    missing = sorted(set(asked or ()) - set(given or asked or ()))
    return f"site_weights names no weight for {', '.join(missing)}; give one, which may be 0" if missing else ""


def _weight(node: str, rows: int, settings: Mapping[str, Json]) -> float:
    given = settings["site_weights"]
    if given is None:
        return float(rows)
    if node not in given:
        raise NodeFailed(f"site_weights names no weight for this site; it names {', '.join(sorted(given))}")
    return float(given[node])


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    if settings["site_weights"] is not None:
        _check(gathered, settings["site_weights"])
    return gathered.mean()


def _check(gathered: Gathered, given: Mapping[str, float]) -> None:
    """That rows were declared bounds no weight that does not count rows. Of a sum that nobody saw into, all together
    must weigh what was given to those that say that they count."""
    counting = [answer for answer in gathered.answers if answer.claimed > 0]
    if "weights" in gathered.unchecked:
        whole = math.fsum(given.get(answer.node, 0.0) for answer in counting)
        if not math.isclose(gathered.weight, whole, rel_tol=1e-9):
            why = f"the sites of this sum weigh {gathered.weight:g} together; site_weights gives them {whole:g}"
            raise Unusable({answer.node: why for answer in gathered.answers})
        return
    wrong = {
        answer.node: f"claims a weight of {answer.claimed:g}; site_weights gives it {given.get(answer.node, 0.0):g}"
        for answer in counting
        if answer.claimed != given.get(answer.node)
    }
    if wrong:
        raise Unusable(wrong)


ALGORITHM = averaging(
    __name__, SETTINGS, local=LocalStep(weight=_weight), aggregation=Aggregation(Combine.SUM, _together)
)

__all__ = ["ALGORITHM", "DEFAULT", "SETTINGS", "TAKES", "unfit"]
