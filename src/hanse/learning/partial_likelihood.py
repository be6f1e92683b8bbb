"""Cox's partial likelihood, stratified by site, as sums from which its exact fit follows.

Each site k has a baseline hazard of its own, and all have the coefficients β in common: h_k(t | x) = h_k(t) exp(xᵀβ).
Its events are compared with the rows of the same site that are at risk, so the loss, its gradient and its Hessian are
sums over sites, and no time leaves. With w = exp(xᵀβ), D the d rows of one site with an event at time t, R the others
of that site still at risk then (rows that leave at t without an event among them), and W their sums of w::

    loss = Σ_t [ Σ_{l < d} log(W_R + φ_l W_D) - Σ_D xᵀβ ],   φ_l = 1 - l / d (Efron) or 1 (Breslow)

The Hessian is Σ_t Σ_l V_l / (W_R + φ_l W_D) with the weighted scatter V_l of R and φ_l D. Rows only enter the set at
risk when time is gone through backwards, and each that enters adds a product to its scatter (West's update), so the
Hessian is a sum of products of real vectors: nothing cancels, and where nobody differs there is no curvature.

References: Cox 1972, "Regression models and life-tables"; Breslow 1974, Biometrics 30; Efron 1977, "The efficiency of
Cox's likelihood function for censored data"; Kalbfleisch and Prentice 2002, "The Statistical Analysis of Failure Time
Data", section 4.4 (strata); West 1979, "Updating mean and variance estimates".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hanse.convex import Convex
from hanse.messages import Array

EFRON, BRESLOW = "efron", "breslow"
_ROWS = 2048  # of one block: its products stay in a core's cache
_APART = -600.0  # scores whose exp is no number beside that of the highest
_ALIKE = 1e-11  # of a column's largest: a difference below it is the rounding of a mean


def alone(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """Raises ``TypeError``: a row's part depends on who else is at risk, so there is none of one row."""
    raise TypeError("the rows of a partial likelihood do not count one by one")


@dataclass(frozen=True, slots=True)
class PartialLikelihood(Convex):
    """The negative logarithm of the partial likelihood of one site's rows, for targets (n, 2): time, event.

    Args:
        ties: ``efron`` or ``breslow``, for events at the same time.
    """

    ties: str = EFRON

    absorbed: ClassVar[bool] = True
    not_estimable: ClassVar[str] = (
        "not estimable: the term follows from the others, or no rows of one site that are at risk together differ in it"
    )
    no_finite: ClassVar[str] = "no finite estimate: at every event the rows at risk with it have the event, or none has"
    without_end: ClassVar[str] = (
        "no finite fit exists: of the rows at risk, those with some value (or with none) of a feature have all events "
        "or none, so its coefficient grows without end (a monotone likelihood); coefficients() names the terms; set a "
        "penalty (alpha), join rare categories or leave features out"
    )

    def unfit(self, y: Array, least: int) -> str:
        """Why a site's rows take no part: targets that are none, or fewer than ``least`` rows with the event, or
        without, whose sums would tell of each. None with the event adds nothing, and tells nothing else."""
        time, event = y.T
        if not (time >= 0).all():
            return "a time is below 0"
        if not np.isin(event, (0, 1)).all():
            return "an event is neither true nor false"
        happened = int(event.sum())
        if any(0 < rows < least for rows in (happened, len(y) - happened)):
            return (
                f"fewer than {least} training rows of this site have the event, or fewer than {least} have not "
                "(minimum_cell): sums over so few tell of each, so the site takes no part"
            )
        return ""

    def impossible(self, found: Mapping[str, Array]) -> str:
        """Why there is nothing to fit."""
        loss, rows = float(found["loss"][0]), float(found["rows"][0])
        if loss == 0:
            return "no site that answered has an event while another of its rows is at risk, so there is nothing to fit"
        if not found["hessian"].any() and np.abs(found["gradient"]).max() < 1e-9 * rows:  # else a step went too far
            return "no feature differs between rows of one site that are at risk together, so there is nothing to fit"
        if not self.penalty and 0 <= loss < self.separated * rows:
            return (
                "the features tell before every event whose it is, so no unpenalised fit exists; set a penalty (alpha) "
                "or leave features out"
            )
        return ""

    def sums(self, theta: Array, X: Array, y: Array, progress: Callable[[], None] = lambda: None) -> dict[str, Array]:
        """As :meth:`hanse.convex.Convex.sums`; the place of the intercept, which the baseline hazard has, is 0.

        >>> y = np.array([[1.0, 1], [2.0, 0], [3.0, 1]])  # the loss is log 3 and log 1 where nothing is known
        >>> found = PartialLikelihood(alone, 1, 1).sums(np.zeros((1, 2)), np.array([[0.0], [1.0], [2.0]]), y)
        >>> found["loss"].round(3).tolist(), found["gradient"].round(3).tolist(), found["hessian"].round(3).tolist()
        ([1.099], [1.0, 0.0], [[0.667, 0.0], [0.0, 0.0]])
        """
        gradient, hessian = np.zeros(self.size), np.zeros((self.size, self.size))
        loss = 0.0
        if len(y) and y[:, 1].any():
            loss, gradient[:-1], hessian[:-1, :-1] = _sums(theta[0, :-1], X, y, self.ties, progress)
        rows = np.array([float(len(y))])
        return {"loss": np.array([loss]), "gradient": gradient, "hessian": hessian, "rows": rows}


def _sums(beta: Array, X: Array, y: Array, ties: str, progress: Callable[[], None]) -> tuple[float, Array, Array]:
    """Loss, gradient (f,) and Hessian (f, f) of a site with an event; sums of w by their logarithms."""
    order = np.lexsort((y[:, 1], -y[:, 0]))  # backwards in time; at one time first those without an event
    X, time, happened = X[order], y[order, 0], y[order, 1] == 1
    X = X - X[:1]  # a column in which the rows do not differ becomes 0 and stays so
    z = X @ beta
    total, means = _running(z - z.max(), X)  # of the rows that entered before the i-th
    total += z.max()

    dead = np.flatnonzero(happened)
    when = time[dead]
    first = np.flatnonzero(np.concatenate([[True], when[1:] != when[:-1]]))  # of each tie, among the dead
    starts, many = dead[first], np.diff(first, append=len(dead))
    tie = np.repeat(np.arange(len(first)), many)
    risk, dying = total[starts], np.logaddexp.reduceat(z[dead], first)
    left = np.log(1 - (np.arange(len(dead)) - first[tie]) / many[tie]) if ties == EFRON else np.zeros(len(dead))
    both = np.logaddexp(risk[tie], left + dying[tie])
    loss = float((both - z[dead]).sum())
    own = np.exp(z[dead] + np.logaddexp.reduceat(left - both, first)[tie])  # what each of the dead had to expect then
    between = np.bincount(tie, np.exp(risk[tie] + left + dying[tie] - 2 * both), len(first))

    hazard = np.logaddexp.reduceat(-both, first)
    later = np.append(np.logaddexp.accumulate(hazard[::-1])[::-1], -np.inf)  # of the ties that a row outlives, and of
    before = np.exp(z + later[np.searchsorted(starts, np.arange(len(z)), side="right")])  # its own if it is not dead
    expected = before.copy()
    expected[dead] += own
    gradient = X.T @ (expected - happened)

    share = np.exp(z[dead] - dying[tie])
    centre = np.add.reduceat(share[:, None] * X[dead], first)
    least = _ALIKE * np.abs(X).max(0)
    hessian = _products(X - means[:-1], before * np.exp(total[:-1] - total[1:]), least, progress)
    hessian += _products(X[dead] - centre[tie], own, least, progress)
    hessian += _products(means[starts] - centre, between, least, progress)
    return loss, gradient, hessian


def _running(z: Array, X: Array) -> tuple[Array, Array]:
    """Logarithms (n + 1,) of Σ w over the first rows, and their weighted means (n + 1, f). ``z`` is 0 at most."""
    total, means = np.full(len(z) + 1, -np.inf), np.zeros((len(z) + 1, X.shape[1]))
    if z.min() > _APART:
        w = np.exp(z)
        sums = np.cumsum(w)
        total[1:], means[1:] = np.log(sums), np.cumsum(w[:, None] * X, axis=0) / sums[:, None]
        return total, means
    total[1:] = np.logaddexp.accumulate(z)
    for i, share in enumerate(np.exp(z - total[1:])):
        means[i + 1] = means[i] + share * (X[i] - means[i])
    return total, means


def _products(vectors: Array, weights: Array, least: Array, progress: Callable[[], None]) -> Array:
    """Σ weight · v vᵀ, where less than ``least`` (f,) is the rounding of a mean."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _ROWS):
        part = vectors[start : start + _ROWS]
        part = np.where(np.abs(part) > least, part, 0.0)
        total += (part * weights[start : start + _ROWS, None]).T @ part
        progress()
    return total
