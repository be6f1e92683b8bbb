"""A run over rows that the auditor has, as it is proposed or without its protections, for attacks to look at.

Sites are simulated: the same algorithm files, gathers, noise and rules as in a federation. Nothing of it leaves this
process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hanse import policy as owners
from hanse.attack import MeanTold
from hanse.config import owners as owners_of
from hanse.errors import ConfigError, DataError
from hanse.experiment.configuring import ALIASES
from hanse.experiment.federation import Federation
from hanse.experiment.results import Result
from hanse.experiment.simulation import Simulation
from hanse.learning import rows as preparation
from hanse.messages import Array, Json, Record
from hanse.table import ColumnKind, Table

_OF_NODES = ("tags", "expected_client_ids", "initial_model", "min_available_nodes", "min_completed", "min_fit_nodes")
_PROTECTIONS = ("privacy", "transforms", "gathering", "gathering_fallback")
_ALONE = 5  # sites of one row
_PERSONS = 8


class Laboratory:
    """A :class:`hanse.attack.Scene`.

    Args:
        table: rows that the auditor has.
        settings: of the run, by their full names.
        sites: over so many of which the rows are spread.
        seed: who is in, and where.
        policy: of the sites' owners, where it is not as a node has it.
    """

    by_coins = True

    def __init__(
        self, table: Table, settings: Mapping[str, Any], sites: int, seed: int, policy: Mapping[str, Json]
    ) -> None:
        self._table, self._sites, self._seed = table, sites, seed
        self._settings, self._policy = settings, policy

    def losses(self) -> tuple[Array, Array]:
        rng = np.random.default_rng([self._seed, 1])
        took = rng.random(self._table.rows) < 0.5  # a fair coin for each row
        members, others = (self._table.take(np.flatnonzero(which)) for which in (took, ~took))
        try:
            result = self._over(self._spread(members)).experiment(**_held_out_nothing(self._settings))
            learned = result.run(progress=False)
        except ConfigError as error:
            raise ConfigError(
                f"membership is tried where every row is learned from, and then {error.message}"
            ) from None
        return losses(learned, members), losses(learned, others)

    def updates(self) -> Sequence[tuple[Array, Sequence[Mapping[str, Array]]]]:
        rng = np.random.default_rng([self._seed, 2])
        order = rng.permutation(self._table.rows)
        alone = {f"alone-{k}": self._table.take(order[k : k + 1]) for k in range(_ALONE)}
        told: dict[str, list[Mapping[str, Array]]] = {name: [] for name in alone}

        def heard(node: str, asked: Record, reply: Record) -> None:
            if node in told:
                told[node].append({name: np.array(array) for name, array in reply.arrays.items()})

        federation = self._over({**self._spread(self._table.take(order[_ALONE:])), **alone}, heard)
        predictor = federation.experiment(**self._settings).run(progress=False).predictor()
        return [(predictor.design(table)[0], told[name]) for name, table in alone.items()]

    def persons(self) -> Sequence[tuple[str, float, str, float, tuple[float, float]]]:
        numbers = {
            name: column.values
            for name, column in self._table.columns.items()
            if column.kind is ColumnKind.NUMERIC and len(column) and not column.missing.any()
        }
        found = []
        for by, reach in numbers.items():
            who = int(np.argmax(reach))
            if (reach == reach[who]).sum() > 1:
                continue
            for name, values in numbers.items():
                if name != by and values.max() > values.min():
                    span = float(values.min()), float(values.max())
                    found.append((by, float(reach[who]), name, float(values[who]), span))
        return found[:_PERSONS]

    def ask(self, column: str, below: tuple[str, float] | None) -> MeanTold:
        where = [] if below is None else [[below[0], "<", below[1]]]
        said = self._asked.analytics(where=where).fetch_stats(["count", "mean"], column)
        rows, mean = said.values("count").get(column), said.values("mean").get(column)
        if rows is None or mean is None:
            raise DataError(f"no site tells the mean of {column!r}")
        return MeanTold(float(rows), float(mean))

    @functools.cached_property
    def _asked(self) -> Federation:
        return self._over(self._spread(self._table))

    def _spread(self, table: Table) -> dict[str, Table]:
        return {f"site-{k}": table.take(np.arange(k, table.rows, self._sites)) for k in range(self._sites)}

    def _over(
        self, tables: Mapping[str, Table], heard: Callable[[str, Record, Record], None] | None = None
    ) -> Federation:
        policy = owners.simulated(self._policy, len(tables))
        return Federation(Simulation(tables, "references", 1, {"seed": self._seed}, policy=policy, heard=heard))


class FinishedModel:
    """A model that is there already, as a :class:`hanse.attack.Scene`: it has losses, and nothing else to see. Who was
    in was not tossed for, so nothing follows about an ε."""

    by_coins = False

    def __init__(self, result: Result, members: Table, others: Table) -> None:
        self._result, self._members, self._others = result, members, others

    def losses(self) -> tuple[Array, Array]:
        return losses(self._result, self._members), losses(self._result, self._others)

    def updates(self) -> Sequence[tuple[Array, Sequence[Mapping[str, Array]]]]:
        raise ConfigError("of a finished model nobody sees what sites sent; audit the proposal")

    def persons(self) -> Sequence[tuple[str, float, str, float, tuple[float, float]]]:
        raise ConfigError("a finished model answers no statistics; audit a proposal")

    def ask(self, column: str, below: tuple[str, float] | None) -> MeanTold:
        raise ConfigError("a finished model answers no statistics; audit a proposal")


def losses(result: Result, table: Table) -> Array:
    """(n,) of the rows whose target is known: -log of the probability of their class, or the squared error.

    Raises:
        DataError: the run learned no model of one target.
    """
    predictor = result.predictor()
    kept, y = preparation.target(table, predictor.prepared)
    rows = table.take(kept)
    if predictor.task.classes:
        probabilities = predictor.predict_proba(rows)
        return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(y)), y.astype(int)], 1e-300)))
    if np.ndim(y) != 1:
        raise DataError("the loss of a row is measured of classes and of one number")
    return np.asarray((np.asarray(predictor.predict(rows), np.float64) - y) ** 2)


def proposed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run by their full names, without those of a federation's nodes."""
    full = {ALIASES.get(name, name): value for name, value in settings.items()}
    return {name: value for name, value in full.items() if name not in _OF_NODES}


def _held_out_nothing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A row that is held out is not learned from, and would be taken for one that was."""
    return {**{name: value for name, value in settings.items() if name != "measures"}, "test_fraction": 0.0}


def bare(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same run without what protects it: neither secure sums, noise nor transforms, and where it has noise, the
    usual strategy of its model in place of the one that noise needs.

    >>> bare({"model_name": "logistic_regression", "gathering": "secure"})
    {'model_name': 'logistic_regression'}
    """
    dropped = {*_PROTECTIONS, *(name for name in settings if ("gathering", "secure") in owners_of(name))}
    if settings.get("privacy") is not None and (strategy := settings.get("federated_strategy")):
        dropped |= {"federated_strategy", *(n for n in settings if ("algorithms", strategy) in owners_of(n))}
    return {name: value for name, value in settings.items() if name not in dropped}
