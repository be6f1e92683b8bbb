"""The sum: derived from what the mean needs, never sent by itself."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.queries import Arrays, Known, Statistic, same


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return float(known[0]["sum"])


STATISTIC = Statistic(doc="sum", needs=lambda item: (same(item, "mean"),), final=final, filtered=True)
