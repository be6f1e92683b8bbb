"""A federation in this process: sites as tables, behind the same face as a coordinator."""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from hanse import algorithms, alignment, bundle, features
from hanse.by_node import ByNode, place_of
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, NotFound
from hanse.experiment import kept_run
from hanse.experiment.cluster import Cluster
from hanse.experiment.kept_run import KeptRun
from hanse.experiment.places import Place
from hanse.experiment.processes import SiteProcess
from hanse.experiment.results import Result
from hanse.experiment.seam import ENDED, Happening
from hanse.experiment.simulated_run import Heard, SimulatedRun
from hanse.messages import Json, Record, digest, dumps
from hanse.summary import labels_here
from hanse.suppression import most_rows
from hanse.table import ColumnKind, Table

_FEW_VALUES = 100  # of a target; sites with more of them hardly have the same
_UNKNOWN: list[str] = []  # labels that nobody has asked for yet


class _Site(NamedTuple):
    """What runs are told of a table."""

    rows: int
    schema: Mapping[str, str]
    version: str

    def public(self, name: str) -> dict[str, Json]:
        kinds = list(self.schema.values())
        told = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        return {"node": name, "dataset": name, "rows": self.rows, "columns": len(kinds), "kinds": told}


class _Sites:
    """What runs are told of tables, looked up once and kept in columns: a table of virtual sites is made anew each time
    that it is asked for, and there may be ten thousand of them."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables, self.names = tables, tuple(sorted(tables))
        self._rows = array("q", bytes(8 * len(tables)))
        self._versions = bytearray(16 * len(tables))
        self._schemas: list[Mapping[str, str] | None] = [None] * len(tables)  # None: nobody has looked yet
        self._alike: Mapping[str, str] | None = None
        self._labels: dict[str, list[list[str]]] = {}  # by target

    def site(self, name: str) -> _Site:
        """All of one."""
        place = self._place(name)
        schema, version = self._schemas[place], slice(16 * place, 16 * place + 16)
        if schema is None:
            table = self._tables[name]
            schema = table.schema()
            self._alike = alike = schema if self._alike is None else self._alike
            if list(alike.items()) == list(schema.items()):
                schema = alike  # one object, as virtual sites have the same
            self._rows[place], self._versions[version], self._schemas[place] = table.rows, _version(table), schema
        return _Site(self._rows[place], schema, self._versions[version].hex())

    def schema(self, name: str) -> Mapping[str, str]:
        """The columns of one and their kinds."""
        return self.site(name).schema

    def dataset(self, name: str) -> dict[str, Json]:
        """What a proposal says of one."""
        site = self.site(name)
        return {"name": name, "version": site.version, "most_rows": site.rows}

    def labels(self, names: Sequence[str], targets: Sequence[str], least: int) -> dict[str, ByNode[list[str]]]:
        """The labels of each target that each of these would tell when it registers."""
        known: dict[tuple[Any, ...], list[str]] = {}
        told = {target: self._labels.setdefault(target, [_UNKNOWN] * len(self.names)) for target in targets}
        for name in names:
            place = self._place(name)
            if fresh := [target for target, of in told.items() if of[place] is _UNKNOWN]:
                table = self._tables[name]
                for target in fresh:
                    told[target][place] = _labels(table, target, least, known)
        return {target: ByNode(names, functools.partial(self._labels_at, target)) for target in targets}

    def _labels_at(self, target: str, name: str) -> list[str]:
        return self._labels[target][self._place(name)]

    def _place(self, name: str) -> int:
        place = place_of(self.names, name)
        assert place is not None
        return place


def _version(table: Table) -> bytes:
    state = xxhash.xxh3_128()
    for name, column in table.columns.items():
        state.update(f"{name}\x1f{column.kind}\x1f{chr(31).join(column.categories)}\x1e".encode())
        state.update(np.ascontiguousarray(column.values).view(np.uint8).data)
    return state.digest()


def _labels(table: Table, target: str, least: int, known: dict[tuple[Any, ...], list[str]]) -> list[str]:
    """:func:`hanse.summary.labels_here`, which is a query of its own, once for all sites whose targets hold as many of
    each value; ``known`` remembers it."""
    column = table.columns.get(target)
    if column is None or column.kind is ColumnKind.IMAGE:
        return labels_here(table, target, least)
    values, counts = np.unique(column.values, return_counts=True)
    if len(values) > _FEW_VALUES:
        return labels_here(table, target, least)
    key = (column.kind, column.categories, values.tobytes(), counts.tobytes())
    if key not in known:
        known[key] = labels_here(table, target, least)
    return known[key]


@dataclass(slots=True)
class Simulation:
    """Behind :func:`simulate`: tables, and the runs over them."""

    tables: Mapping[str, Table]
    wire: str
    workers: int
    defaults: Mapping[str, Json]
    batched: bool = False
    processes: int = 0
    cluster: Cluster | None = None  # where these processes are; None: on this machine
    simulated: bool = True
    runs: dict[str, SimulatedRun] = field(default_factory=dict)
    policy: Mapping[str, Json] = field(default_factory=dict)
    folder: Path | None = None  # where runs keep their states; None: they keep none
    heard: Heard | None = None  # who listens at the coordinator (:mod:`hanse.experiment.laboratory`)
    _sites: _Sites = field(init=False)
    _models: dict[str, Record] = field(default_factory=dict)  # that were brought along, by hash
    _shown: dict[str, dict[str, Json]] = field(default_factory=dict)  # node to what queries have seen of it
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of runs, in whatever threads

    def __post_init__(self) -> None:
        self._sites = _Sites(self.tables)

    def nodes(self) -> Sequence[Mapping[str, Json]]:
        return [{"node": n, "status": "online", "datasets": 1, "rows": s.rows} for n, s in self._all().items()]

    def datasets(self) -> Sequence[Mapping[str, Json]]:
        return [site.public(name) for name, site in self._all().items()]

    def analyze(self, config: RunConfig) -> Mapping[str, Json]:
        sites = self._chosen(config)
        union, intersection = features.union_and_intersection(self._schemas(sites))
        told = [{"node": n, "rows": site.rows, "columns": len(site.schema)} for n, site in sites.items()]
        return {**self._align(config, sites), "union": union, "intersection": intersection, "sites": told}

    def fitting(self, config: RunConfig) -> Mapping[str, Mapping[str, Json]]:
        least = int(self.policy["minimum_count"])
        return {
            n: {"name": n, "version": s.version, "columns": s.schema, "most_rows": most_rows(s.rows, least)}
            for n, s in self._chosen(config).items()
        }

    def preview(self, config: RunConfig, run_id: str) -> str:
        return self._freeze(config).preview()

    def propose(self, config: RunConfig) -> str:
        config = algorithms.settled(config)
        start = self._initial_model(config.initial_model)
        if start is not None:
            config = algorithms.continuing(config, start)
        frozen = self._freeze(config)
        run_id = f"simulation-{next(self._numbers)}"
        self._begin(run_id, config, frozen, start)
        return run_id

    def _begin(self, run_id: str, config: RunConfig, frozen: bundle.Bundle, start: Record | None) -> None:
        kept = None
        if self.folder is not None and algorithms.needs_model(config):
            said: dict[str, Json] = {"bundle": frozen.sha256, "policy": dict(self.policy), "batched": self.batched}
            folder = self.folder / hashlib.sha256(dumps(said).encode()).hexdigest()[:32]
            if any(run.folder == folder and run.state == "completed" for run in self.runs.values()):
                kept_run.remove(folder)  # it is asked for anew, not gone on with
            kept = KeptRun(folder)
        how = (self.wire, self.workers, self.batched, self.processes, self._places)
        try:
            run = SimulatedRun(
                run_id, config, frozen, self.tables, self._shown, self.policy, start, *how, self.heard, kept
            )
        except BaseException:
            if kept is not None:
                kept.close(ended=False)
            raise
        self.runs[run_id] = run
        run.start()

    def configuration(self, run_id: str) -> RunConfig:
        return self._run(run_id).config

    def warnings(self, run_id: str) -> Sequence[str]:
        return [str(w) for w in self._run(run_id).bundle.content["alignment"].get("warnings", ())]

    def status(self, run_id: str) -> Mapping[str, Json]:
        run = self._run(run_id)
        last = next((s.round for s in reversed(run.steps) if s.round is not None), 0)
        return {
            "run": run_id,
            "state": run.state,
            "round": last,
            "rounds": run.config.num_rounds,
            "nodes": list(run.nodes),
            "reason": run.reason,
            "consents": {n: {"decision": "reject", "reason": why} for n, why in run.rejected.items()},
            "simulation": True,
        }

    def watch(self, run_id: str, steps: bool = True) -> Iterator[Happening]:
        return self._run(run_id).watch(steps)

    def latest(self, strategies: Sequence[str], tags: Sequence[str]) -> str:
        asked = [run.config.federated_strategy for run in self.runs.values() if run.state == "completed"]
        return next((name for name in reversed(asked) if name in strategies), "")

    def cancel(self, run_id: str) -> None:
        self._run(run_id).cancel()

    def resume(self, run_id: str) -> None:
        run = self._run(run_id)
        if self.folder is None:
            raise Conflict(f"run {run_id} is a simulation that keeps no states; give hanse.simulate a folder for them")
        if run.state not in ("failed", "cancelled"):
            raise Conflict(f"run {run_id} is {run.state}; what goes on is one that failed or was cancelled")
        self._begin(run_id, run.config, run.bundle, self._initial_model(run.config.initial_model))

    def result(self, run_id: str) -> Result:
        return self._run(run_id).result()

    def models(self, run_id: str, after: int) -> Iterator[tuple[int, Result]]:
        return self._run(run_id).models(after)

    def stored(self, record: Record) -> str:
        sha = digest(record)
        self._models[sha] = record
        return sha

    def _initial_model(self, sha: str | None) -> Record | None:
        if sha is None or sha in self._models:
            return self._models.get(sha or "")
        for run in self.runs.values():
            for record in run.learned():
                if digest(record) == sha:
                    return record
        raise NotFound(f"there is no model {sha[:12]}… in this simulation; give the result itself as initial_model")

    def close(self) -> None:
        for run in self.runs.values():
            if run.state not in ENDED:
                run.cancel()
            if run.folder is not None and run.state == "completed" and sys.exception() is None:
                kept_run.remove(run.folder)  # what was done with its result went well, or it would be needed again
        if self.cluster is not None:
            self.cluster.close()

    def _places(self, count: int) -> Sequence[Place]:
        return self.cluster.actors(count) if self.cluster is not None else [SiteProcess() for _ in range(count)]

    def _run(self, run_id: str) -> SimulatedRun:
        if run_id not in self.runs:
            raise NotFound(f"there is no run {run_id!r} here; there are {', '.join(self.runs) or 'none'}")
        return self.runs[run_id]

    def _all(self) -> ByNode[_Site]:
        return ByNode(self._sites.names, self._sites.site)

    def _chosen(self, config: RunConfig) -> ByNode[_Site]:
        wanted = config.expected_client_ids
        absent = sorted(set(wanted or ()) - set(self.tables))
        if absent:
            raise ConfigError(f"there is no site {', '.join(absent)}; there are {', '.join(self.tables)}")
        return self._all() if wanted is None else ByNode(sorted({*wanted}), self._sites.site)

    def _align(self, config: RunConfig, sites: ByNode[_Site]) -> dict[str, Json]:
        return alignment.of(config, self._schemas(sites), self._told(config, sites))

    def _schemas(self, sites: ByNode[_Site]) -> ByNode[Mapping[str, str]]:
        return ByNode(sites.nodes, self._sites.schema)

    def _told(self, config: RunConfig, sites: ByNode[_Site]) -> dict[str, ByNode[list[str]]]:
        """The labels of each target that each site would tell when it registers."""
        if not config.target_column or not algorithms.needs_model(config):
            return {}
        return self._sites.labels(sites.nodes, config.targets, int(self.policy["minimum_count"]))

    def _freeze(self, config: RunConfig) -> bundle.Bundle:
        alignment.check_target(config)
        sites = self._chosen(config)
        found = self._align(config, sites)
        alignment.check_labels(config, self._told(config, sites))
        schemas = self._schemas(sites)
        alignment.check_numbers(config, schemas)
        alignment.check_measures(config, schemas)
        return bundle.freeze(config, found, ByNode(sites.nodes, self._sites.dataset))
