"""Clipping: a vector that is spread over several arrays, no longer than a bound.

With all arrays x together as one vector, x ← x · min(1, C / ‖x‖₂): what one contribution can change a sum by is then
at most C, whatever its arrays are. To bound each array by itself bounds the whole by C √L for L arrays only.

References: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1; Andrew et al. 2021,
"Differentially private learning with adaptive clipping", algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hanse.messages import Array

_BLOCK = 1 << 16


def length(arrays: Mapping[str, Array]) -> float:
    """‖x‖₂ over all arrays together, in float64; NaN or infinite where a number is.

    >>> length({"a": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    return math.sqrt(math.fsum(_squares(arrays[name]) for name in arrays))


def scaled(arrays: Mapping[str, Array], scale: float) -> dict[str, Array]:
    """Each array times ``scale``, in its own type."""
    return {name: (arrays[name] * scale).astype(arrays[name].dtype) for name in arrays}


def factors(lengths: Array, bound: float) -> Array:
    """(n,) min(1, C / ‖x_i‖₂) of n vectors, so that none of them is longer than C; 0 of one that has no finite length.

    >>> factors(np.array([0.5, 4.0, 0.0, np.inf]), 2.0).tolist()
    [1.0, 0.5, 1.0, 0.0]
    """
    fine = np.isfinite(lengths)
    whole = np.ones_like(lengths)
    return np.where(fine, np.minimum(1.0, np.divide(bound, lengths, out=whole, where=fine & (lengths > 0))), 0.0)


def adapted(bound: float, within: float, quantile: float = 0.5, rate: float = 0.2) -> float:
    """The next bound C exp(-rate (b - quantile)), of which in the long run a share ``quantile`` of all contributions is
    within (Andrew et al., algorithm 1, geometric update).

    Args:
        within: b, the share of contributions that were no longer than ``bound``; noised, it may leave [0, 1].

    >>> round(adapted(1.0, 1.0), 3), round(adapted(1.0, 0.0), 3), adapted(1.0, 0.5)
    (0.905, 1.105, 1.0)
    """
    return bound * math.exp(-rate * (min(1.0, max(0.0, within)) - quantile))


def _squares(array: Array) -> float:
    flat = np.asarray(array).reshape(-1)
    parts = (flat[low : low + _BLOCK].astype(np.float64) for low in range(0, flat.size, _BLOCK))
    return math.fsum(float(part @ part) for part in parts)
