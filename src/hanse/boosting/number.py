"""What objectives of one number share: a margin that is the prediction, or its logarithm."""

from __future__ import annotations

import math

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.objective import steady
from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.task import NUMBER, Task


def predicts_number(task: Task) -> bool:
    """Whether the task predicts a number."""
    return task.predicts == NUMBER


class IdentityLink:
    """The half of a :class:`hanse.boosting.objective.Objective` whose predictions are its margins F, which begin from
    the mean of the targets. An objective adds its ``name``, ``document``, ``gradients`` and ``bounds``, and what it
    does otherwise."""

    __slots__ = ()
    outputs = 1
    intervals = 0

    @property
    def quantile(self) -> float | None:
        """None: leaves are Newton's steps."""
        return None

    def unfit(self, y: Array) -> str:
        """Every number will do."""
        return ""

    def begin(self, y: Array) -> Array:
        """(n, 1): the targets."""
        return y.astype(np.float64)[:, None]

    def base(self, totals: Array, rows: float) -> Array:
        """Their mean."""
        return np.array([totals[0] / rows if rows else 0.0], np.float32)

    def stated(self, base: float) -> Array:
        """As it is."""
        return np.array([base], np.float32)

    def margin(self, base: Array) -> Array:
        """As it is."""
        return np.asarray(base, np.float32)

    def predict(self, margin: Array) -> Array:
        """(n,) float64: F."""
        return margin[:, 0].astype(np.float64)


class LogLink(IdentityLink):
    """The same for predictions exp(F), which are above 0. They begin from the mean too, or from 1 where none above 0 is
    known."""

    __slots__ = ()

    def base(self, totals: Array, rows: float) -> Array:
        """The mean, moved to where every library gives its logarithm the same bits."""
        mean = float(totals[0]) / rows if rows and totals[0] > 0 else 1.0
        return np.array([steady(mean, _log)], np.float32)

    def stated(self, base: float) -> Array:
        """The same of a number above 0. Raises ``ConfigError`` for another one."""
        if base <= 0:
            raise ConfigError(f"base_score is {base}; expected a number above 0")
        return np.array([steady(base, _log)], np.float32)

    def margin(self, base: Array) -> Array:
        """Its logarithm."""
        return np.array([_log(base[0])], np.float32)

    def predict(self, margin: Array) -> Array:
        """(n,) float64: exp(F), rounded to float32 as XGBoost's."""
        return exp(margin[:, 0]).astype(np.float64)


class QuantileLeaves(IdentityLink):
    """The same where the first margin, too, is a quantile of the targets, which no sum gives: it is counted."""

    __slots__ = ()

    def begin(self, y: Array) -> Array:
        """(n, 0): nothing is summed."""
        return np.zeros((len(y), 0))

    def base(self, totals: Array, rows: float) -> Array:
        """That quantile, which is all that ``totals`` hold."""
        return np.array([totals[0] if rows else 0.0], np.float32)


def _log(base: np.float32 | float) -> float:
    return math.log(float(base))
