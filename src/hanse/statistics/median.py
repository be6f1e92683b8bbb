"""The median: the quantile at one half."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.queries import Item, Statistic, same, take
from hanse.statistics import quantile


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, depth=1)
    quantile.check({"depth": found["depth"]})
    return found


def _item(item: Item) -> Item:
    return same(item, "quantile", q=0.5, depth=item.options["depth"])


STATISTIC = Statistic(
    doc="median",
    check=check,
    needs=lambda item: quantile.needs(_item(item)),
    before=-1,
    final=lambda arrays, options, known: quantile.value(known, 0.5),
)
