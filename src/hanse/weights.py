"""How much one node may count for: never more than it declared, never more than the run allows.

Weights and counts of rows are self-reported. What makes them more than a claim is the proposal: it
names, for each node, the most rows that its dataset has, by the node's own registration; all owners
read it before they accept, and its hash binds it. A contribution that says more is left out of the
step, with the reason. Beside that, a run may bound the share of one node (``max_weight_share``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hanse.errors import Unusable
from hanse.kinds import Ask, Gathered


def checked(ask: Ask, gathered: Gathered, rows: Mapping[str, float], share: float) -> Gathered:
    """The contributions with the weights that they count for.

    Args:
        rows: node to the most rows that it declared; nodes that are not in it are not bounded.
        share: of all weight that one node may have in a training round, in (0, 1].

    Raises:
        Unusable: names the nodes that claim more than they declared.
    """
    wrong = {}
    for answer in gathered.answers if "weights" not in gathered.unchecked else ():
        most = max(1.0, rows.get(answer.node, math.inf))  # one: what does not count rows weighs one
        if answer.weight > most:
            wrong[answer.node] = (
                f"claims a weight of {answer.weight:g}; with the rows that it declared for this "
                f"run it is at most {most:g}"
            )
    if ask.counts and rows:
        wrong = {**gathered.beyond(ask.counts, rows), **wrong}
    if wrong:
        raise Unusable(wrong)
    if ask.round is None or share >= 1:
        return gathered
    return gathered.weighted(capped([answer.weight for answer in gathered.answers], share))


def capped(weights: Sequence[float], share: float) -> list[float]:
    """``weights`` with the largest ones lowered until none is more than ``share`` of their sum.

    The m largest become c = share · r / (1 - m · share), with r the sum of the others, for the
    smallest m that leaves nobody above c. Where fewer than 1 / share weights are above zero, there is
    no such m: then all of those are alike, which is as close as one can get.

    >>> capped([90.0, 5.0, 5.0], 0.5), capped([1e12, 60.0, 60.0], 0.4), capped([8.0, 2.0], 0.3)
    ([10.0, 5.0, 5.0], [80.0, 60.0, 60.0], [2.0, 2.0])
    """
    order = sorted((w for w in weights if w > 0), reverse=True)
    for m in range(len(order)):
        if m * share >= 1:
            break
        most = share * math.fsum(order[m:]) / (1 - m * share)
        if order[m] <= most:
            return [min(w, most) for w in weights]
    least = order[-1] if order else 0.0
    return [min(w, least) for w in weights]
