"""The largest value. It is one person's value, so it leaves a node only where ``allow_extremes`` is set."""

from __future__ import annotations

import numpy as np

from hanse.statistics._extreme import extreme

STATISTIC = extreme("max", "largest value", np.maximum, -np.inf, "0.99")
