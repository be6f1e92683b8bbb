"""Σ x / n, as middle + half width · S / n, where S sums how far values are from the middle of the ``range``, in half
widths: so one row changes S by at most 1, as it does n.

The interval is Fieller's: with noise of deviation σ in both, it holds each r for which |S - r n| ≤ 1.96 σ √(1 + r²),
however few rows there are.

References: Fieller 1954, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16.
"""

from __future__ import annotations

import math

import numpy as np

from hanse.messages import Array, Json
from hanse.noised import NUMBERS, RANGE, Noised, Options, Z, within
from hanse.table import Column

SETTINGS = {"range": RANGE}


def observe(column: Column, of: Array, options: Options) -> Array:
    low, high = options["range"]
    x, of = within(column, of, options)
    return np.array([float(of.sum()), float((of * ((x - (low + high) / 2) / ((high - low) / 2))).sum())])


def value(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    low, high = options["range"]
    middle, half, (n, total) = (low + high) / 2, (high - low) / 2, (float(v) for v in sums)
    if n < 3 * deviation:  # as likely noise as rows
        return None, [low, high]
    noise = (Z * deviation) ** 2
    centre, off = n * total, math.sqrt(noise * (n * n + total * total - noise))
    found, *ends = (middle + half * r for r in (total / n, *((centre + s * off) / (n * n - noise) for s in (-1, 1))))
    return min(high, max(low, found)), [min(high, max(low, end)) for end in ends]


NOISED = Noised(
    observe=observe, value=value, size=lambda options: 2, sensitivity=lambda options: math.sqrt(2), kinds=NUMBERS
)
