"""Training that goes on from a model that is there, instead of from the beginning.

What is taken over is the model: its parameters (or trees) and its preparation, the scales and
categories that they were learned with. So the model before the first round predicts what it predicted
before. All else, who takes part, rounds, rates, is of the new run. Target, columns, classes, names and
shapes have to be those of the model, or the run is refused with what differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.kinds import Algorithm, Ask, Awaited, Combine, Contribution, Done, Gathered, Site, State
from hanse.learning import rows as preparation
from hanse.messages import Json, Record
from hanse.stages import anew_of, answers_of

_PREPARED = ("task", "target", "columns", "needs")  # what a model needs to be understood


class Continuable(Algorithm, Protocol):
    """A training stage that can go on from a model."""

    def begun(self, state: State, start: Record) -> State:
        """``state``, which has the first parameters, with those of ``start`` instead. Raises ``ConfigError`` where the
        two do not fit."""
        ...


class Continued:
    """The training stage ``inner``, begun with the model ``start`` (:meth:`hanse.kinds.Algorithm.result`
    of an earlier run)."""

    def __init__(self, inner: Continuable, start: Record) -> None:
        self._inner, self._start = inner, start

    @property
    def combines(self) -> Collection[Combine]:
        return self._inner.combines

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        if previous is None:
            raise ConfigError("a model is continued after the preparation; build the run with hanse.algorithms.build")
        before = preparation.unpack(self._start)
        _same_task(before, previous)
        kept = {name: before.data[name] for name in _PREPARED}
        prepared = Record({**previous.data, **kept}, before.arrays)
        state = self._inner.init(config, prepared)
        return self._begun(state) if _model(state) else state

    def ask(self, state: State) -> Ask | Done | Awaited:
        return self._inner.ask(state)

    def answer(self, site: Site, ask: Record) -> Contribution:
        return self._inner.answer(site, ask)

    def answer_many(self, sites: Sequence[Site], ask: Record) -> Sequence[Contribution]:
        return answers_of(self._inner, sites, ask)

    def tell(self, state: State, gathered: Gathered) -> State:
        told = self._inner.tell(state, gathered)
        return told if _model(state) else self._begun(told)  # the nodes made the first parameters just now

    def anew(self, state: State) -> State | None:
        begun: State | None = anew_of(self._inner, state)
        return begun

    def result(self, state: State) -> Record:
        return self._inner.result(state)

    def metrics(self, state: State) -> Mapping[str, Json]:
        return self._inner.metrics(state)

    def _begun(self, state: State) -> State:
        """The state with the parameters of the model that is continued."""
        return self._inner.begun(state, self._start)


def settings(config: RunConfig, start: Record) -> RunConfig:
    """The configuration that continues ``start``: with its columns, where it names none itself.

    Raises:
        ConfigError: the run is to learn another model, another target or other columns.
    """
    known = ("model_name", "prepared", "algorithm")
    if any(name not in start.data for name in known) or not _model(start):
        raise ConfigError("initial_model is not a model that can be trained on")
    if start.data["model_name"] != config.model_name:
        raise ConfigError(
            f"initial_model is a {start.data['model_name']}, but the run is to learn a {config.model_name}"
        )
    prepared = preparation.unpack(start).data
    if prepared["target"] != config.target_column:
        raise ConfigError(f"initial_model predicts {prepared['target']!r}, not {config.target_column!r}")
    columns = sorted(c["name"] for c in prepared["columns"])
    if config.features is None:
        return dataclasses.replace(config, features=columns)
    if sorted(config.features) != columns:
        differing = sorted(set(config.features) ^ set(columns))
        raise ConfigError(f"initial_model was learned from other columns; it differs in {', '.join(differing[:10])}")
    return config


def _model(record: Record) -> dict[str, Any]:
    return {name: record.arrays[name] for name in record.arrays if name.startswith("model.")}


def _same_task(before: Record, now: Record) -> None:
    old, new = preparation.task(before), preparation.task(now)
    if old.kind != new.kind:
        raise ConfigError(f"initial_model is for a {old.kind} task, but the labels of the sites make it {new.kind}")
    if old.classes != new.classes:
        raise ConfigError(
            f"initial_model knows the classes {', '.join(old.classes)}; the sites have {', '.join(new.classes)}"
        )
    kinds = [{c["name"]: c["kind"] for c in prepared.data["columns"]} for prepared in (before, now)]
    differing = sorted(n for n in {*kinds[0], *kinds[1]} if kinds[0].get(n) != kinds[1].get(n))
    if differing:
        raise ConfigError(f"initial_model was learned from other columns or kinds: {', '.join(differing[:10])}")
