"""A query of statistics, answered by all sites of this process one after the other: the algorithm and the gathering of
a run, without its transport, its loop and its record. What a simulation takes besides is many times as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanse.algorithms.statistics import ALGORITHM
from hanse.features import SettledSource, survey
from hanse.fetched import Fetched
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Ask, Site, Who
from hanse.messages import Record
from hanse.queries import Item, TableSource
from hanse.table import Table

DEFAULT = {"minimum_cell": 10, "allow_extremes": False, "allow_node_statistics": False}


def asked(sites: Mapping[str, Any], items: Sequence[Item], **owner: Any) -> Fetched:
    """What all sites answer to ``items``.

    Args:
        sites: name to rows, as :func:`hanse.simulate` takes them.
        owner: settings of each site's owner; by default those that an owner has who sets nothing.
    """
    config = {"model_options": {"items": [item.to_json() for item in items]}}
    tables = {name: Table.of(rows) for name, rows in sorted(sites.items())}
    kinds = survey({name: table.schema() for name, table in tables.items()}).kinds
    here = {
        name: Site(name, Table(), config, source=SettledSource(TableSource(table), kinds), owner={**DEFAULT, **owner})
        for name, table in tables.items()
    }
    state = ALGORITHM.init(config)
    while isinstance(step := ALGORITHM.ask(state), Ask):
        found = []
        for name in here if isinstance(step.to, Who) else step.to:
            told = ALGORITHM.answer(here[name], step.record)
            arrays = {f"a.{part}": array for part, array in told.record.arrays.items()}  # as they come in a reply
            found.append((Answer(name, told.weight, told.record.data, {}, 0), Record(told.record.data, arrays)))
        state = ALGORITHM.tell(state, Contributions(tuple(found), {}, step.combine))
    rows = {name: table.rows for name, table in tables.items()}
    return Fetched.of(ALGORITHM.result(state), {}, "", rows)
