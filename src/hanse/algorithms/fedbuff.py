"""FedBuff: buffered asynchronous averaging. Nobody waits for the slowest site.

All sites train at once, each from the parameters that there were when it was asked. As soon as K of them have answered
(``buffer_size``), their changes become a step, and those that are free train on from the new parameters; a site that is
still at work answers into a later step. A change that was made from parameters τ steps old counts less::

    θ ← θ + η Σ_k n_k s(τ_k) Δ_k / Σ_k n_k          s(τ) = 1 / (1 + τ)^a

with a = ½ (``staleness_exponent``) as in the paper, and sites counting by their rows, where the paper counts them
alike. A site trains once from each θ at most. Sites that answer more often count for more in θ: where quick sites
differ from slow ones, θ is nearer to what the quick ones have. The result depends on who came when, so a run that is
repeated gives other bytes. The metrics of a round rest on the sites that measured its own θ; after the last one all
sites are asked, and what was still under way is left.

References: Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation", algorithm 1 and section 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from hanse.config import RunConfig
from hanse.kinds import Combine, Gathered
from hanse.learning.aggregation import Aggregation
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.server import RATE
from hanse.messages import Array, Json
from hanse.privacy import guarantee
from hanse.registry import find
from hanse.settings import Setting, number, whole

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "buffer_size": Setting(2, "a step is taken when so many sites have answered", whole(1, 100_000)),
    "staleness_exponent": Setting(0.5, "how fast a change loses weight with its age in steps", number(0, 100)),
}


def unfit(config: RunConfig) -> str:
    """What does not go with answers that come late."""
    buffer = config.ingredient_settings["buffer_size"]
    if find("gathering", config.gathering).HIDES:
        return f"fedbuff counts late answers, which {config.gathering} gathering cannot add to a later sum"
    if config.privacy is not None and guarantee.settled(config.privacy)["mode"] == guarantee.CENTRAL:
        return "fedbuff weighs each answer by its age, which a sum with noise does not tell apart; set privacy to local"
    if config.fraction < 1:
        return "fedbuff asks every site that is free; leave fraction at 1"
    if config.min_completed > buffer:
        return f"min_completed ({config.min_completed}) is more than buffer_size ({buffer}): no step would succeed"
    return ""


def _needed(settings: Mapping[str, Json]) -> int:
    size: int = settings["buffer_size"]
    return size


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    ages = [gathered.step - answer.asked for answer in gathered.answers]
    weights = [
        answer.weight / (1 + age) ** settings["staleness_exponent"]
        for answer, age in zip(gathered.answers, ages, strict=True)
    ]
    discounted = gathered.weighted(weights)
    found, left = discounted.mean(), discounted.weight / gathered.weight
    return {name: array * array.dtype.type(left) for name, array in found.items()}


ALGORITHM = averaging(__name__, SETTINGS, aggregation=Aggregation(Combine.SUM, _together, needed=_needed))
