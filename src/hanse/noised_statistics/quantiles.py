"""Where the counts of equal ``bins`` of the ``range``, added up, reach the levels ``at``.

With B_j the noised count below edge j of k bins, B_k = n, and noise of deviation σ in each bin, B_j - q n has the
deviation σ √(j (1 - q)² + (k - j) q²). The interval of a quantile holds the bins at whose lower edge this is not
certainly above 0 (by 1.96 deviations) nor at their upper one below it, and all bins between these.
"""

from __future__ import annotations

import math

import numpy as np

from hanse.messages import Array, Json
from hanse.noised import NUMBERS, RANGE, Noised, Options, Z, binned, bins
from hanse.settings import Check, Setting


def _is_levels(value: Json) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < 1 for v in value
    )


SETTINGS = {
    "range": RANGE,
    "bins": bins(64),
    "at": Setting([0.25, 0.5, 0.75], "levels", Check("a list of numbers between 0 and 1", _is_levels, {})),
}


def value(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    """Where cumulated counts cross the level, on a line within the bin: halfway between the first crossing and the last
    one, as noise makes several."""
    (low, high), size = options["range"], len(sums)
    edges, below = np.linspace(low, high, size + 1), np.concatenate([[0.0], np.cumsum(sums)])
    if below[-1] < 3 * deviation * math.sqrt(size):
        return [None] * len(options["at"]), [[low, high] for _ in options["at"]]
    found, spans, bins = [], [], np.arange(size + 1)
    for level in options["at"]:
        over = below - level * below[-1]
        crossed = np.flatnonzero((over[:-1] < 0) & (over[1:] >= 0))[[0, -1]]
        inside = -over[crossed] / (over[crossed + 1] - over[crossed])
        found.append(float((edges[crossed] + inside * (edges[crossed + 1] - edges[crossed])).mean()))
        off = Z * deviation * np.sqrt(bins * (1 - level) ** 2 + (size - bins) * level**2)
        held = np.flatnonzero((over[:-1] <= off[:-1]) & (over[1:] >= -off[1:]))
        spans.append([float(edges[held[0]]), float(edges[held[-1] + 1])])
    return found, spans


NOISED = Noised(observe=binned, value=value, size=lambda options: int(options["bins"]), kinds=NUMBERS)
