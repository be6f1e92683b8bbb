"""What a Newton method needs of a symmetric matrix that may be singular: steps, ranks, covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hanse.messages import Array


@dataclass(frozen=True, slots=True)
class Curvature:
    """A positive semidefinite (p, p) matrix H as V diag(values) Vᵀ over its range.

    Args:
        vectors: (p, r) in the units of D H D with D = diag(``scale``), which makes the diagonal one.
        values: (r,) above zero.
        scale: (p,); 0 where a parameter is in no row.
        null: (p, p - r) spans what H does not see, in the units of H.
    """

    vectors: Array
    values: Array
    scale: Array
    null: Array

    @staticmethod
    def of(matrix: Array) -> Curvature:
        """The decomposition, with the rank by the rule of LAPACK's least squares: eigenvalues below
        p · eps · the largest are none. Balancing by the diagonal first keeps units out of the decision."""
        diagonal = np.diag(matrix)
        alive = diagonal > 0
        scale = np.where(alive, 1.0 / np.sqrt(np.where(alive, diagonal, 1.0)), 0.0)
        values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale)
        kept = values > len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
        spans = vectors[:, ~kept] * np.where(alive, scale, 1.0)[:, None]
        null = np.linalg.qr(spans)[0] if spans.shape[1] else spans
        return Curvature(vectors[:, kept], values[kept], scale, null)

    @property
    def rank(self) -> int:
        """How many directions the rows determine."""
        return len(self.values)

    def solve(self, right: Array) -> Array:
        """A solution of H x = ``right`` (for a right side in the range of H).

        >>> Curvature.of(np.diag([2.0, 4.0])).solve(np.array([2.0, 2.0])).round(12).tolist()
        [1.0, 0.5]
        """
        inner = self.vectors.T @ (self.scale * right)
        return np.asarray(self.scale * (self.vectors @ (inner / self.values)))

    def variance(self, combinations: Array) -> tuple[Array, Array]:
        """(m,) variances L H⁻ Lᵀ of linear combinations (m, p) of the parameters, and (m,) bool, which of
        them are determined at all: those without a part that H does not see.

        >>> Curvature.of(np.diag([4.0, 0.0])).variance(np.eye(2))
        (array([0.25, 0.  ]), array([ True, False]))
        """
        root = (combinations * self.scale) @ (self.vectors / np.sqrt(self.values))
        seen = np.ones(len(combinations), bool)
        if self.null.shape[1]:
            length = np.linalg.norm(combinations, axis=1)
            seen = np.linalg.norm(combinations @ self.null, axis=1) <= 1e-7 * np.where(length > 0, length, 1.0)
        return np.asarray((root**2).sum(1)), seen

    def shortest(self, point: Array, counted: Array) -> Array:
        """The point with the same image under H whose ``counted`` (p,) bool part is shortest."""
        if not self.null.shape[1]:
            return point
        part = np.linalg.lstsq(self.null[counted], point[counted], rcond=None)[0]
        return np.asarray(point - self.null @ part)
