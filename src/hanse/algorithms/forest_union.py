"""A random forest over all sites: each grows trees on its own rows, the forest is their union.

There are no parameters to average. The model's ``n_estimators`` trees (T) are shared out over R rounds
and over the sites by their training rows, q_k = T·n_k/N, by the largest remainder: site k gives floor(q_k) trees, and
one more where its remainder is among the largest, so that all together are T. Up to the last round a site has grown
floor(q_k·r/R) of them; in the last it grows all that it may owe, and of those that are one too many the coordinator
takes none. (N is known from the preparation; sites that are not asked in a round grow none, and the forest is
smaller.) All trees count alike, so a site counts by its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.pooling import Growth, Question, State, Trees, class_shares, pooling
from hanse.messages import Array, Record
from hanse.settings import Setting
from hanse.task import NUMBER

TAKES = "trees"
DEFAULT = True
SETTINGS: dict[str, Setting] = {}


def _predict(model: Any, ask: Question, X: Array) -> Array:
    """Of the forest so far; an empty one predicts the training rows' shares of classes, or their mean."""
    if len(ask.model["size"]):
        predicted: Array = model.predict(ask.model, X)
        return predicted
    task = preparation.task(ask.prepared)
    if task.predicts == NUMBER:
        return np.full(len(X), ask.prepared.arrays["target_mean"][0])
    shares = class_shares(ask.prepared)
    return np.full(len(X), shares[1]) if task.outputs == 1 else np.tile(shares, (len(X), 1))


def _grow(model: Any, site: Site, ask: Question, rows: preparation.Rows) -> tuple[Trees, list[float]]:
    quota = owed(model, ask.prepared, len(rows.train))
    count = share(quota, ask.round, ask.rounds)
    if not count:
        return model.empty(), []
    new: Trees = model.grow(
        count,
        rows.X[rows.train],
        rows.y[rows.train],
        site.rng("train", ask.round),
        min_leaf=int(site.owner.get("minimum_count", 1)),
        progress=site.progress,
    )
    return new, []


def _most(model: Any, state: State, rows: float) -> int:
    return share(owed(model, state.prepared, rows), state.schedule.round + 1, state.schedule.rounds)


def _joined(model: Any, state: State, found: list[tuple[float, Trees]]) -> Trees:
    new = [trees for _, trees in found]
    if state.schedule.round + 1 == state.schedule.rounds:
        quotas = [owed(model, state.prepared, rows) for rows, _ in found]
        before = [share_before(quota, state.schedule.rounds, state.schedule.rounds) for quota in quotas]
        kept = apportioned([quota - done for quota, done in zip(quotas, before, strict=True)])
        new = [model.first(trees, most) for trees, most in zip(new, kept, strict=True)]
    joined: Trees = model.merge([state.model, *new])
    return joined


def owed(model: Any, prepared: Record, rows: float) -> Fraction:
    """Trees of a site of so many training rows, exactly."""
    return Fraction(model.options["n_estimators"] * int(rows), int(prepared.data["rows"]))


def share(quota: Fraction, round: int, rounds: int) -> int:
    """Trees that a site grows in this round (from 1), of ``quota`` in all rounds: in the last one all that it may owe.

    >>> [share(Fraction(5, 2), r, 4) for r in (1, 2, 3, 4)]
    [0, 1, 0, 2]
    """
    upto = ceil(quota) if round == rounds else share_before(quota, round + 1, rounds)
    return upto - share_before(quota, round, rounds)


def share_before(quota: Fraction, round: int, rounds: int) -> int:
    """Trees that a site has grown before a round (from 1)."""
    return floor(quota * (round - 1) / rounds)


def apportioned(quotas: Sequence[Fraction]) -> list[int]:
    """Whole numbers that add up to the sum of ``quotas``, rounded, each of them rounded down, or up where its remainder
    is among the largest (of equal ones, the first).

    >>> apportioned([Fraction(5, 2), Fraction(5, 2), Fraction(1, 3), Fraction(14, 3)])
    [3, 2, 0, 5]
    """
    down = [floor(quota) for quota in quotas]
    left = round(sum(quotas, Fraction())) - sum(down)
    order = sorted(range(len(quotas)), key=lambda i: (down[i] - quotas[i], i))
    return [n + (i in order[:left]) for i, n in enumerate(down)]


# all trees count alike, so a weight decides nothing
ALGORITHM = pooling(
    __name__, SETTINGS, Growth(lambda prepared: None, _predict, _grow, _most, _joined, averages=lambda options: False)
)
