"""Who is at risk when, from sums over sites: what the gradient of Cox's partial likelihood needs of all rows.

With δ_i whether row i had an event at its time t_i, and R(t) = Σ exp(F_j) over the rows with t_j >= t, the loss and its
first two derivatives are::

    l = -Σ_i δ_i [F_i - log R(t_i)]            A(t) = Σ_{i: t_i <= t} δ_i / R(t_i)
    g_i = exp(F_i) A(t_i) - δ_i                B(t) = Σ_{i: t_i <= t} δ_i / R(t_i)²
    h_i = exp(F_i) A(t_i) - exp(F_i)² B(t_i)

(Breslow's way with ties.) A and B are steps over time, which the coordinator makes of two sums for each interval of
time: of exp(F) over its rows, in whole numbers, and how many events it has. The intervals come of counting, as bins do
(:mod:`hanse.boosting.edges`): one for each time where there are few enough; rows of one interval count as tied.

Reference: Breslow 1974, "Covariance Analysis of Censored Survival Data", Biometrics 30; XGBoost 3.2,
``src/objective/regression_obj.cu``, ``CoxRegression``, which takes tied rows one after the other, in the order in which
they stand.
"""

from __future__ import annotations

import numpy as np

from hanse.messages import Array


def intervals(time: Array, edges: Array) -> Array:
    """(n,) int64: how many of the (k - 1,) ascending float32 ``edges`` are not above each time, taken as float32.

    >>> intervals(np.array([1.0, 2.0, 9.0]), np.float32([2.0, 5.0])).tolist()
    [0, 1, 2]
    """
    return np.searchsorted(edges, np.asarray(time, np.float32), side="right").astype(np.int64)


def hazard(at: Array, events: Array, unit: float) -> Array:
    """(k, 2) float64 A and B at the end of each interval.

    Args:
        at: (k,) int64, Σ exp(F) over the rows of each interval of all sites, in units of 2^``unit``.
        events: (k,) of all sites, or what they weigh.

    >>> hazard(np.array([2, 1, 1]), np.array([1, 0, 1]), 0).tolist()
    [[0.25, 0.0625], [0.25, 0.0625], [1.25, 1.0625]]
    """
    left = np.ldexp(np.cumsum(at[::-1])[::-1].astype(np.float64), int(unit))
    share = np.divide(1.0, left, out=np.zeros(len(left)), where=(events > 0) & (left > 0))
    return np.cumsum(np.stack([events * share, events * share * share], axis=1), axis=0)
