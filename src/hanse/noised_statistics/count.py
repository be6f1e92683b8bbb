"""How many rows have a value; without a column, how many there are."""

from __future__ import annotations

import numpy as np

from hanse.messages import Array
from hanse.noised import Noised, Options, each
from hanse.table import Column


def observe(column: Column | None, of: Array, options: Options) -> Array:
    return np.array([float(of.sum() if column is None else of[column.given].sum())])


NOISED = Noised(observe=observe, value=each, of_all=True)
