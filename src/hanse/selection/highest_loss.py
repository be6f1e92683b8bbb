"""Power of choice: of some nodes drawn at random, those on which the model is worst.

Of the N eligible nodes d = min(N, 2 m) are drawn uniformly; asked are the m of them with the highest latest
loss. It converges sooner than a uniform draw and is biased: nodes that are hard to learn count for more
(Cho, Wang and Joshi 2022, "Towards understanding biased client selection in federated learning", algorithm 1).
A node whose loss is not known yet goes before all others. The loss is the one of the held-out rows, of the
last step that the node answered.
"""

from __future__ import annotations

import math

from hanse.choice import Choice, Situation
from hanse.config import RunConfig
from hanse.registry import find

CANDIDATES = 2  # d / m


def unfit(config: RunConfig) -> str:
    if find("gathering", config.gathering).HIDES:
        return f"of sums that are gathered by {config.gathering} nobody knows the loss of a single node"
    return "" if config.test_fraction > 0 else "test_fraction is 0, so that no node knows its loss"


def choose(situation: Situation) -> Choice:
    """The ``count`` candidates of the highest loss; of equal ones, those that were drawn first.

    >>> import numpy as np
    >>> from hanse.choice import Past
    >>> past = [Past(0, 1, "train", ["a", "b"], {"a": {"loss": 0.2}, "b": {"loss": 0.7}}, {})]
    >>> choose(Situation(["a", "b"], 1, np.random.default_rng(0), {}, past)).reasons
    {'b': 'loss 0.7'}
    """
    losses = situation.latest("loss")
    count = min(len(situation.eligible), CANDIDATES * situation.count)
    drawn = [situation.eligible[i] for i in situation.rng.choice(len(situation.eligible), count, replace=False)]
    nodes = sorted(sorted(drawn, key=lambda node: -losses.get(node, math.inf))[: situation.count])
    reasons = {node: f"loss {losses[node]:g}" if node in losses else "its loss is not known yet" for node in nodes}
    return Choice(nodes, f"{len(nodes)} of {count} candidates with the highest loss", reasons)
