"""What each hospital would have learned alone, and what pooled rows would have given.

All are judged on the same rows: those that every site held out in the federated run. What is held out is keyed by
the seed, so it can be done again here, where the demo plays all four hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hanse
from hanse import algorithms
from hanse.config import RunConfig
from hanse.experiment.results import Result
from hanse.kinds import Site
from hanse.learning.rows import Agreed, parted, target, unpack
from hanse.readers import read
from hanse.table import Column, ColumnKind, Table


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison."""

    what: str
    rows: int
    auc: float
    accuracy: float
    loss: float


def compare(files: Mapping[str, Path], config: RunConfig, federated: Result) -> list[Row]:
    """Each site alone, their mean, the federation and the pooled rows, on the same held-out rows."""
    train, held = {}, []
    prepared, given = unpack(federated.record), algorithms.settled(config).to_json()
    for name, file in files.items():
        table = read(file)
        kept, y = target(table, prepared)
        fit, test = parted(Site(name, table, given), kept, y, Agreed.of(prepared).columns)
        train[name] = table.take(kept[fit])
        held.append(table.take(kept[test]))
    judge = stack(held)
    settings = {**config.to_json(), "test_fraction": 0.0, "tags": [], "expected_client_ids": None}

    def alone(name: str, table: Table) -> Row:
        with hanse.simulate({name: table}) as federation:
            result = federation.experiment(**settings).run(progress=False)
        return row(name, table.rows, result.evaluate(judge))

    sites = [alone(f"{name} alone", table) for name, table in train.items()]
    mean = Row(
        "mean of the single sites",
        round(np.mean([s.rows for s in sites])),
        *(float(np.mean([getattr(s, m) for s in sites])) for m in ("auc", "accuracy", "loss")),
    )
    total = sum(s.rows for s in sites)
    together = row("federated", total, federated.evaluate(judge))
    return [*sites, mean, together, alone("pooled", stack(list(train.values())))]


def row(what: str, rows: int, found: Mapping[str, float]) -> Row:
    return Row(what, rows, float(found["auc"]), float(found["accuracy"]), float(found["loss"]))


def stack(tables: list[Table]) -> Table:
    """The rows of all tables in one."""
    columns = {}
    for name in tables[0].names:
        parts = [table[name] for table in tables]
        if any(part.kind is ColumnKind.CATEGORICAL for part in parts):
            columns[name] = Column.categorical(label for part in parts for label in part.labels())
        else:
            kinds = {part.kind for part in parts}
            kind = kinds.pop() if len(kinds) == 1 else ColumnKind.NUMERIC
            columns[name] = Column(kind, np.concatenate([part.values for part in parts]))
    return Table(columns)
