"""Σ x. What is beyond the ``range`` counts as its end."""

from __future__ import annotations

import numpy as np

from hanse.messages import Array
from hanse.noised import NUMBERS, RANGE, Noised, Options, each, within
from hanse.table import Column

SETTINGS = {"range": RANGE}


def observe(column: Column, of: Array, options: Options) -> Array:
    x, of = within(column, of, options)
    return np.array([float((of * x).sum())])


def sensitivity(options: Options) -> float:
    return float(max(abs(end) for end in options["range"]))


NOISED = Noised(observe=observe, value=each, sensitivity=sensitivity, kinds=NUMBERS)
