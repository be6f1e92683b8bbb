"""The median: the quantile at one half."""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.presentation import Shown
from hanse.queries import Item, Known, Statistic, same, take
from hanse.statistics import cells, quantile


def check(options: Mapping[str, Json]) -> dict[str, Json]:
    found = take(options, depth=1)
    quantile.check({"depth": found["depth"]})
    return found


def _item(item: Item) -> Item:
    return same(item, "quantile", q=0.5, depth=item.options["depth"])


def finer(item: Item, known: Known) -> Item | None:
    better = quantile.finer(_item(item), known)
    return None if better is None else same(item, item.stat, depth=better.options["depth"])


STATISTIC = Statistic(
    doc="median",
    check=check,
    needs=lambda item: quantile.needs(_item(item)),
    before=-1,
    final=lambda arrays, options, known: quantile.value(known, 0.5),
    bounds=lambda arrays, options, known: quantile.between(known, 0.5),
    pooled=lambda value, arrays, options, known, lacking: (value, quantile.between(known, 0.5, lacking)),
    why=lambda found, options, arrays, known: quantile.untold([(0.5, *quantile.between(known, 0.5))]),
    finer=finer,
    shown=Shown(on_scale=True, arguments=cells.ARGUMENTS),
)
