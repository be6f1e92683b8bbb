"""Uniform client sampling: every eligible node is as likely as any other (McMahan et al. 2017)."""

from __future__ import annotations

from hanse.choice import Choice, Situation


def choose(situation: Situation) -> Choice:
    """``count`` of the ``eligible`` nodes without replacement.

    >>> import numpy as np
    >>> choose(Situation(["a", "b", "c"], 2, np.random.default_rng(0)))
    Choice(nodes=['b', 'c'], reason='2 of 3, each as likely as any other', reasons={}, left_out={})
    """
    drawn = situation.rng.choice(len(situation.eligible), situation.count, replace=False)
    nodes = [situation.eligible[i] for i in sorted(drawn.tolist())]
    return Choice(nodes, f"{len(nodes)} of {len(situation.eligible)}, each as likely as any other")
