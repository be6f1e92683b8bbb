"""Σ x / n, as middle + half width · S / n, where S sums how far values are from the middle of the ``range``, in half
widths: so one row changes S by at most 1, as it does n."""

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
    share = total / n
    off = Z * half * deviation * math.sqrt(1 + share**2) / n
    found = min(high, max(low, middle + half * share))
    return found, [max(low, found - off), min(high, found + off)]


NOISED = Noised(
    observe=observe, value=value, size=lambda options: 2, sensitivity=lambda options: math.sqrt(2), kinds=NUMBERS
)
