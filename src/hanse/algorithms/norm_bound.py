"""Federated averaging of changes that are no longer than a bound.

The change Δ_k of site k counts as Δ_k · min(1, B / |Δ_k|), with |·| over all parameters, in the mean weighted by rows.
Where B is not set, it is the median of the |Δ_k| of the round. A lying site can then turn the mean no further than an
honest one could; what it says within the bound still counts.

References: Sun et al. 2019, "Can you really backdoor federated learning?", section 4 (norm thresholding of updates).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.kinds import Combine, Gathered
from hanse.learning.aggregation import Aggregation, blockwise, trained
from hanse.learning.averaging import TRAINING, averaging
from hanse.learning.local_training import norm
from hanse.learning.server import RATE
from hanse.messages import Array, Json
from hanse.settings import Setting, maybe, number

TAKES = "parameters"
SETTINGS = {
    **TRAINING,
    "server_learning_rate": RATE,
    "norm_bound": Setting(None, "longest change that a site may make; null: the median", maybe(number(0, above=True))),
}


def _together(gathered: Gathered, settings: Mapping[str, Json]) -> dict[str, Array]:
    found = trained(gathered)
    lengths = np.array([norm(record.arrays) for _, record in found])
    bound = settings["norm_bound"] or float(np.median(lengths))
    weights = np.array([answer.weight for answer, _ in found])
    factors = np.minimum(1.0, np.divide(bound, lengths, out=np.ones_like(lengths), where=lengths > 0))
    shares = weights / weights.sum() * factors
    return blockwise([record.arrays for _, record in found], lambda sites: shares @ sites)


ALGORITHM = averaging(__name__, SETTINGS, aggregation=Aggregation(Combine.EACH, _together))
