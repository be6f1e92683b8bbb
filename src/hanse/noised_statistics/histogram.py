"""How many values lie in each of so many equal ``bins`` of the ``range``."""

from __future__ import annotations

from hanse.messages import Array, Json
from hanse.noised import NUMBERS, RANGE, Noised, Options, binned, bins, intervals

SETTINGS = {"range": RANGE, "bins": bins(20)}


def value(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    return [float(v) for v in sums], intervals(sums, deviation)


NOISED = Noised(observe=binned, value=value, size=lambda options: int(options["bins"]), kinds=NUMBERS)
