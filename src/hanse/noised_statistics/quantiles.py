"""Where the counts of equal ``bins`` of the ``range``, added up, reach the levels ``at``."""

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
    """Where cumulated counts cross the level, within the bin as on a line; the interval takes the noise of all bins
    below it and of the total, and the width of a bin."""
    (low, high), levels, size = options["range"], options["at"], len(sums)
    edges = np.linspace(low, high, size + 1)
    below = np.concatenate([[0.0], np.cumsum(sums)])
    total = float(below[-1])
    if total < 3 * deviation * math.sqrt(size):
        return [None] * len(levels), [[low, high] for _ in levels]
    rising = np.maximum.accumulate(np.clip(below, 0.0, None))

    def at(count: float) -> float:
        place = int(np.clip(np.searchsorted(rising, count) - 1, 0, size - 1))
        step = rising[place + 1] - rising[place]
        inside = (count - rising[place]) / step if step > 0 else 0.5
        return float(edges[place] + min(1.0, max(0.0, inside)) * (edges[place + 1] - edges[place]))

    found, spans, width = [], [], float(edges[1] - edges[0])
    for level in levels:
        count = level * total
        many = max(1.0, (at(count) - low) / width)
        off = Z * deviation * math.sqrt(many * (1 - level) ** 2 + (size - many) * level**2)
        found.append(at(count))
        spans.append([max(low, at(count - off) - width), min(high, at(count + off) + width)])
    return found, spans


NOISED = Noised(observe=binned, value=value, size=lambda options: int(options["bins"]), kinds=NUMBERS)
