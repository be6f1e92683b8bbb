"""How many rows have each of the labels ``values``, which are named, and how many another one (``other``, or
``any other`` where that is a label that is named)."""

from __future__ import annotations

import numpy as np

from hanse.messages import Array, Json
from hanse.noised import MOST, Noised, Options, intervals
from hanse.settings import Setting, texts
from hanse.table import Column

SETTINGS = {"values": Setting([], "labels to count", texts(MOST))}


def observe(column: Column, of: Array, options: Options) -> Array:
    places = {label: i for i, label in enumerate(options["values"])}
    found = np.zeros(len(places) + 1)
    for label, share, given in zip(column.labels(), of.tolist(), column.given.tolist(), strict=True):
        if label is not None and given:
            found[places.get(label, len(places))] += share
    return found


def value(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    rest = "other"
    while rest in options["values"]:
        rest = f"any {rest}"
    names = [*options["values"], rest]
    told, spans = [float(v) for v in sums], intervals(sums, deviation)
    return dict(zip(names, told, strict=True)), dict(zip(names, spans, strict=True))


NOISED = Noised(observe=observe, value=value, size=lambda options: len(options["values"]) + 1)
