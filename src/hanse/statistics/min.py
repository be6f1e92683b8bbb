"""The smallest value. It is one person's value, so it leaves a node only where ``allow_extremes`` is set."""

from __future__ import annotations

import numpy as np

from hanse.statistics._extreme import extreme

STATISTIC = extreme("min", "smallest value", np.minimum, np.inf, "0.01")
