"""By performance, with exploration: most of those on which the model does best, and some drawn from all the others.

Of the m nodes to be asked, k = max(1, round(ε m)) are explored and m - k are those with the best latest metric on
their own held-out rows; the k are drawn uniformly from all the rest. So every node is asked with a probability of at
least k/N in every round, however badly the model does there: the best alone (FLOPY-NET's ``top_k``) would never hear of
the others again, and learn for those that are easy. With ε = 0 it is just that. A node that has not been measured yet
goes before all others. To ask where the model does worst, there is ``highest_loss``.

ε-greedy choice; Lai et al. 2021, "Oort: efficient federated learning via guided participant selection", section 4.2.
"""

from __future__ import annotations

import math

from hanse.choice import Choice, Situation
from hanse.config import RunConfig
from hanse.registry import find
from hanse.settings import Setting, number, one_of

SETTINGS = {
    "exploration": Setting(
        0.2, "share of the asked nodes that are drawn from all, whatever their metric", number(0, 1)
    ),
    "performance_metric": Setting(
        "accuracy", "by which nodes are compared, on their own held-out rows", one_of("accuracy", "auc", "loss")
    ),
}


def unfit(config: RunConfig) -> str:
    if find("gathering", config.gathering).HIDES:
        return f"of sums that are gathered by {config.gathering} nobody knows the metrics of a single node"
    return "" if config.test_fraction > 0 else "test_fraction is 0, so that no node knows its metrics"


def choose(situation: Situation) -> Choice:
    """The best of the ``count``, and ``exploration`` of it drawn from the others.

    >>> import numpy as np
    >>> from hanse.choice import Past
    >>> past = [Past(0, 1, "train", ["a", "b", "c"], {n: {"accuracy": s} for n, s in zip("abc", (0.9, 0.8, 0.1))}, {})]
    >>> told = {"exploration": 0.0, "performance_metric": "accuracy"}
    >>> choose(Situation(["a", "b", "c"], 2, np.random.default_rng(0), {}, past, told)).reasons
    {'a': 'accuracy 0.9', 'b': 'accuracy 0.8'}
    """
    metric, share = str(situation.settings["performance_metric"]), float(situation.settings["exploration"])
    sign = -1.0 if metric == "loss" else 1.0
    scores = situation.latest(metric)
    drawn = [situation.eligible[i] for i in situation.rng.permutation(len(situation.eligible))]
    explored = min(situation.count, max(1, round(share * situation.count))) if share else 0
    ranked = sorted(drawn, key=lambda node: -sign * scores[node] if node in scores else -math.inf)
    best, others = ranked[: situation.count - explored], set(ranked[situation.count - explored :])
    tried = [node for node in drawn if node in others][:explored]
    reasons = {n: f"{metric} {scores[n]:g}" if n in scores else f"its {metric} is not known yet" for n in best}
    reasons |= {n: "drawn from all the others" for n in tried}
    nodes = sorted([*best, *tried])
    reason = f"{len(best)} with the best {metric}, {len(tried)} of the others at random"
    return Choice(nodes, reason, {node: reasons[node] for node in nodes})
