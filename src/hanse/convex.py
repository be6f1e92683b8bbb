"""Convex losses of linear scores, as sums over rows from which their exact fit follows.

For parameters θ of shape (k, f + 1), the intercept last, rows x̃ = (x, 1) and scores z = θ x̃, a
:data:`Family` gives for each row the loss ℓ(z, y), its gradient e = ∂ℓ/∂z and its curvature W = ∂²ℓ/∂z². The
contribution of a site is::

    L = Σ ℓ        G = Σ e x̃ᵀ        H[a, b] = Σ W[a, b] x̃ x̃ᵀ

All three add over sites, so one Newton step from their totals is the step that pooled rows would give.

References: McCullagh and Nelder 1989, "Generalized Linear Models", section 2.5; Wu et al. 2012, "Grid binary
logistic regression (GLORE)", for the same sums over institutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hanse.messages import Array

Family = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(n, k) scores and (n,) targets to losses (n,), gradients (n, k) and curvatures (n, k, k)."""

_FAR = 40.0
_ROWS = 2048  # of one block: its products stay in a core's cache


def squared(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """ℓ = (z - y)² / 2, for k = 1.

    >>> [a.ravel().tolist() for a in squared(np.array([[3.0]]), np.array([1.0]))]
    [[2.0], [2.0], [1.0]]
    """
    error = z - y[:, None]
    return error[:, 0] ** 2 / 2, error, np.ones((len(y), 1, 1))


def logistic(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """ℓ = log(1 + exp z) - y z with y in {0, 1}, for k = 1.

    >>> [a.ravel().round(3).tolist() for a in logistic(np.array([[0.0]]), np.array([1]))]
    [[0.693], [-0.5], [0.25]]
    """
    score = z[:, 0]
    small = np.exp(-np.abs(score))
    probability = np.where(score >= 0, 1.0, small) / (1.0 + small)
    loss = np.maximum(score, 0.0) + np.log1p(small) - y * score
    curvature = small / (1.0 + small) ** 2
    return loss, (probability - y)[:, None], curvature[:, None, None]


def multinomial(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """ℓ = log Σ_c exp z_c - z_y with y a class index, for k classes.

    >>> [a.ravel().round(2).tolist() for a in multinomial(np.zeros((1, 2)), np.array([0]))]
    [[0.69], [-0.5, 0.5], [0.25, -0.25, -0.25, 0.25]]
    """
    rows = np.arange(len(y))
    shifted = z - z.max(1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(1, keepdims=True)
    probability = powers / total
    loss = np.log(total[:, 0]) - shifted[rows, y]
    error = probability.copy()
    error[rows, y] -= 1.0
    curvature = -probability[:, :, None] * probability[:, None, :]
    diagonal = np.arange(z.shape[1])
    curvature[:, diagonal, diagonal] += probability
    return loss, error, curvature


def poisson(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """ℓ = exp z - y z with counts y, for k = 1 (the log likelihood without its constant). A step that went much too far
    has a loss and a gradient, too, by which that is seen: beyond z = 40, a mean of 2.4e17, exp z goes on as a line.

    >>> [a.ravel().tolist() for a in poisson(np.zeros((1, 1)), np.array([3.0]))]
    [[1.0], [-2.0], [1.0]]
    """
    score = z[:, 0]
    mean = np.exp(np.minimum(score, _FAR))
    return mean * (1.0 + np.maximum(score - _FAR, 0.0)) - y * score, (mean - y)[:, None], mean[:, None, None]


@dataclass(frozen=True, slots=True)
class Convex:
    """What a model of capability ``sums`` is learned from.

    Args:
        family: its loss.
        outputs, features: k and f.
        penalty: Λ of Λ/2 · |coef|², over all rows of all sites together; intercepts go free.
        per_row: Λ counts once for each row.
        effect: the ratio that the exponential of a coefficient is (``odds_ratio``, ...); "": none.
        intercept: whether there is one; else it stays 0.
        dispersed: whether the variance about the fit is estimated too (least squares), for standard errors.
        scaled: whether a number is learned at mean 0 and scale 1, which a loss must allow (least squares does).
        lowest: of the targets.
        starts: the intercept that a fit begins with, from the mean of the targets; None: 0. Where scores are
            logarithms, a step from 0 towards a mean of thousands goes further than numbers do.
    """

    family: Family
    outputs: int
    features: int
    penalty: float = 0.0
    intercept: bool = True
    dispersed: bool = False
    scaled: bool = False
    lowest: float = -math.inf
    per_row: bool = False
    effect: str = ""
    starts: Callable[[float], float] | None = None

    absorbed: ClassVar[bool] = False  # whether the loss has a constant term of its own, as an intercept would be
    separated: ClassVar[float] = 1e-5  # loss of a row: a fit that tells all rows apart so surely goes on without end
    not_estimable: ClassVar[str] = "not estimable: the term follows from the others"
    no_finite: ClassVar[str] = "no finite estimate: its rows have one outcome"
    without_end: ClassVar[str] = (
        "no finite fit exists: among rows with some value (or with none) of a feature all have the same outcome, so "
        "its coefficient grows without end and predictions for such rows are as good as certain; coefficients() names "
        "the terms (there is none of rows without a category); set a penalty, join rare categories or leave features "
        "out"
    )

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return self.outputs * (self.features + 1)

    def learned(self) -> Array:
        """(k, f + 1) bool: the parameters that may move."""
        moving = np.ones((self.outputs, self.features + 1), bool)
        moving[:, -1] = self.intercept
        return moving

    def start(self, mean: float) -> Array:
        """(k, f + 1): the parameters that a fit begins with, from the mean of the targets."""
        found = np.zeros((self.outputs, self.features + 1))
        if self.starts is not None and self.intercept and mean > 0:
            found[:, -1] = self.starts(mean)
        return found

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name to dtype and shape of what :meth:`sums` gives."""
        return {
            "loss": ("float64", (1,)),
            "gradient": ("float64", (self.size,)),
            "hessian": ("float64", (self.size, self.size)),
            "rows": ("float64", (1,)),
        }

    def unfit(self, y: Array, least: int) -> str:
        """Why a site's targets take no part, or ""; of fewer than ``least`` rows nothing may be told apart."""
        return "the target has values below zero, which is no count and no rate" if (y < self.lowest).any() else ""

    def impossible(self, found: Mapping[str, Array]) -> str:
        """Why the sums of all sites have no fit, or ""."""
        loss, rows = float(found["loss"][0]), float(found["rows"][0])
        if not self.penalty and not self.dispersed and 0 <= loss < self.separated * rows:
            return (
                "the features separate the classes without an error, so no unpenalised fit exists; set a penalty (C) "
                "or leave features out"
            )
        return ""

    def sums(self, theta: Array, X: Array, y: Array, progress: Callable[[], None] = lambda: None) -> dict[str, Array]:
        """The sums over rows at ``theta``.

        Args:
            theta: (k, f + 1).
            X, y: (n, f), and (n,) or what else of n rows the family takes; n may be 0.
            progress: called once a block of rows.

        Returns:
            ``loss`` (1,), ``gradient`` (size,), ``hessian`` (size, size), parameters in the order of
            ``theta.ravel()``, and ``rows`` (1,), how many they are of.
        """
        width = self.features + 1
        loss, gradient = 0.0, np.zeros((self.outputs, width))
        hessian = np.zeros((self.outputs, width, self.outputs, width))
        for start in range(0, len(y), _ROWS):
            part = X[start : start + _ROWS]
            extended = np.column_stack([part, np.ones(len(part))])
            losses, error, curvature = self.family(extended @ theta.T, y[start : start + _ROWS])
            loss += float(losses.sum())
            gradient += error.T @ extended
            for a in range(self.outputs):
                for b in range(a + 1):
                    hessian[a, :, b] += (extended * curvature[:, a, b, None]).T @ extended
            progress()
        for a in range(self.outputs):
            for b in range(a):
                hessian[b, :, a] = hessian[a, :, b].T
        return {
            "loss": np.array([loss]),
            "gradient": gradient.ravel(),
            "hessian": hessian.reshape(self.size, self.size),
            "rows": np.array([float(len(y))]),
        }

    def objective(self, found: Mapping[str, Array], theta: Array) -> tuple[float, Array, Array]:
        """Loss, gradient and Hessian of all rows with the penalty, zero for what may not move."""
        flat, moving = theta.ravel(), self.learned().ravel()
        strength = self.penalty * (float(found["rows"][0]) if self.per_row else 1.0)
        weights = np.tile(np.append(np.full(self.features, strength), 0.0), self.outputs)
        loss = float(found["loss"][0]) + float(weights @ flat**2) / 2
        gradient = found["gradient"] + weights * flat
        hessian = found["hessian"] + np.diag(weights)
        return loss, np.where(moving, gradient, 0.0), np.where(moving[:, None] & moving, hessian, 0.0)
