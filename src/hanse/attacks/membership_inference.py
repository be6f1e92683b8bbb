"""Was this row learned from? Whoever has the model says so of rows on which its loss is small.

Rows that a model learned from have smaller losses than others of the same kind, the more so the more it has learned
them by heart. The number is the AUC of the loss as a classifier of the two: 1/2 is a guess.

Where each row was in by a fair coin of its own, guesses of the coins prove an ε: of the third of the smallest losses
that they were learned from, of that of the largest that they were not. Equal losses tell nothing, so which of them
stand first is drawn, and not the order in which the rows are given.

References: Yeom, Giacomelli, Fredrikson and Jha 2018, "Privacy risk in machine learning: analyzing the connection to
overfitting", adversary 2; Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run".
"""

from __future__ import annotations

import numpy as np

from hanse.attack import Finding, Scene
from hanse.errors import DataError
from hanse.messages import Array
from hanse.privacy.empirical import least_epsilon_of_guesses


def attack(scene: Scene) -> Finding:
    """AUC of -loss, and where rows were in by coins, the least ε that explains how many of two thirds are guessed."""
    members, others = scene.losses()
    if not len(members) or not len(others):
        raise DataError("membership needs rows that the model learned from, and rows that it did not")
    return Finding(
        number=above(-members, -others),
        chance=0.5,
        measure="AUC of telling rows that were learned from and others apart, by their loss",
        epsilon=least_epsilon_of_guesses(*guessed(members, others), 0.95) if scene.by_coins else None,
    )


def guessed(members: Array, others: Array) -> tuple[int, int]:
    """How many guesses of two thirds of the rows are right, and how many guesses there are.

    >>> guessed(np.zeros(3), np.ones(3))
    (4, 4)
    """
    losses = np.concatenate([members, others])
    drawn = np.random.default_rng(0).permutation(len(losses))
    order, third = drawn[np.argsort(losses[drawn], kind="stable")], len(losses) // 3
    right = (order[:third] < len(members)).sum() + (order[len(order) - third :] >= len(members)).sum()
    return int(right), 2 * third


def above(these: Array, those: Array) -> float:
    """The probability that one of ``these`` is above one of ``those``; of equal ones half.

    >>> above(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    order = np.sort(those)
    below = np.searchsorted(order, these, "left") + np.searchsorted(order, these, "right")
    return float(below.mean()) / (2 * len(those))


ATTACK = attack
