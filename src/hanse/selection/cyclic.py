"""Cyclic transfer: the sites in turn, in the order of their ids, and from the beginning again.

With one site a round (``fraction`` at most 1 / sites), the parameters go from site to site; each trains from where the
last one left them: no average at all. The last sites of a turn are remembered best.

References: Chang et al. 2018, "Distributed deep learning networks among institutions for medical imaging", cyclical
weight transfer.
"""

from __future__ import annotations

from hanse.choice import Choice, Situation


def choose(situation: Situation) -> Choice:
    """The ``count`` eligible nodes that follow the last ones that were asked to train.

    >>> import numpy as np
    >>> from hanse.choice import Past
    >>> nodes, draw = ["a", "b", "c"], np.random.default_rng(0)
    >>> asked = [Past(4, 1, "train", ["b", "c"], {}, {}), Past(5, None, "evaluate", nodes, {}, {})]
    >>> choose(Situation(nodes, 2, draw, {}, asked)).nodes, choose(Situation(nodes, 1, draw, {}, asked[1:])).nodes
    (['a', 'b'], ['a'])
    """
    before = next((step for step in reversed(situation.past) if step.round is not None), None)
    eligible = list(situation.eligible)
    start = 0
    if before is not None and before.asked:
        start = _after(eligible, sorted(before.asked))
    turn = [*eligible[start:], *eligible[:start]][: situation.count]
    return Choice(sorted(turn), f"{len(turn)} of {len(eligible)}, in turn")


def _after(eligible: list[str], asked: list[str]) -> int:
    """The place of the first eligible node after the last of ``asked``, in a circle.

    Those that were asked are a run of the circle, which may go round: it ends where the next node was not asked.
    """
    ends = [i for i, node in enumerate(asked) if i + 1 == len(asked) or _between(eligible, node, asked[i + 1])]
    last = asked[ends[0]]
    return next((i for i, node in enumerate(eligible) if node > last), 0)


def _between(eligible: list[str], low: str, high: str) -> bool:
    return any(low < node < high for node in eligible)
