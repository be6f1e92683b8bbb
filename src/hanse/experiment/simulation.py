"""A federation in this process: the same loop, algorithms and gathering as over a network.

Each site answers in a thread of a pool. Random numbers are keyed by seed and site, contributions
are added in the order of sites, so the result does not depend on how many threads there are.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from hanse import algorithms, bundle, features
from hanse.answers import Answerer
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, HanseError, NodeFailed, NotFound, RunFailed
from hanse.experiment.experiment import ENDED, Federation, Update
from hanse.experiment.results import Result
from hanse.kinds import Handler, Progress, Source, State
from hanse.messages import Json, Message, Record, digest
from hanse.queries import TableSource
from hanse.rounds import Forgetful, Run, Step
from hanse.table import Column, ColumnKind, Table
from hanse.transports.local import LocalTransport

POLICY = (
    "minimum_cell",
    "allow_extremes",
    "allow_node_statistics",
    "statistics_columns",
    "statistics_denied_columns",
    "most_filters",
)


def simulate(
    sites: Mapping[str, Any],
    wire: str = "references",
    seed: int = 0,
    workers: int | None = None,
    policy: Mapping[str, Json] | None = None,
) -> Federation:
    """A federation of ``sites``, all in this process; results say that they are a simulation.

    Args:
        sites: site name to a pandas or Polars frame, a mapping of columns, or a Table.
        wire: ``references`` passes arrays as they are; ``exact`` pushes every message through the
            real wire format and gives the same bytes.
        seed: of the experiments, unless they have their own.
        workers: threads; None: one per site, at most one per core. Does not change any result.
        policy: what the sites' owners would set for statistics, where it is not the default:
            ``minimum_cell`` (10), ``allow_extremes``, ``allow_node_statistics``, ``statistics_columns``,
            ``statistics_denied_columns``, ``most_filters``.

    Raises:
        ConfigError: no sites, or ``wire`` is neither of the two.
        DataError: a site's columns are unequal, or two have the same name.

    >>> import hanse
    >>> federation = hanse.simulate({"ulm": {"age": [61, 58], "disease": ["yes", "no"]},
    ...                              "bonn": {"age": [70], "disease": ["yes"]}})
    >>> federation.nodes()
    node  status  datasets  rows
    bonn  online         1     1
    ulm   online         1     2
    """
    if not isinstance(sites, Mapping) or not sites:
        raise ConfigError("sites is empty; expected a mapping from each site's name to its rows")
    if wire not in ("references", "exact"):
        raise ConfigError(f"wire is {wire!r}; expected references or exact")
    tables = harmonised({str(name): Table.of(rows) for name, rows in sorted(sites.items(), key=lambda s: str(s[0]))})
    for name, table in tables.items():
        features.canonical(table.names, f"of {name} ")
    workers = workers or min(len(tables), os.cpu_count() or 1)
    unknown = sorted(set(policy or {}) - set(POLICY))
    if unknown:
        raise ConfigError(f"there is no setting {unknown[0]!r} of a policy here; known are {', '.join(POLICY)}")
    return Federation(Simulation(tables, wire, workers, {"seed": seed}, policy=dict(policy or {})))


def harmonised(tables: Mapping[str, Table]) -> dict[str, Table]:
    """The tables, where a column without any value takes the kind that it has at the other sites
    (nothing in it says of what kind it is)."""
    kinds: dict[str, set[ColumnKind]] = {}
    for table in tables.values():
        for name, column in table.columns.items():
            if not column.missing.all():
                kinds.setdefault(" ".join(name.split()), set()).add(column.kind)
    found = {}
    for node, table in tables.items():
        columns = dict(table.columns)
        for name, column in table.columns.items():
            seen = kinds.get(" ".join(name.split()), set())
            if column.missing.all() and len(seen) == 1:
                columns[name] = _empty(next(iter(seen)), column)
        found[node] = Table(columns)
    return found


def _empty(kind: ColumnKind, column: Column) -> Column:
    if kind is column.kind or kind is ColumnKind.IMAGE:
        return column
    if kind is ColumnKind.CATEGORICAL:
        return Column(kind, np.full(len(column), -1, np.int32))
    return Column(kind, np.full(len(column), np.nan))


@dataclass(slots=True)
class Simulation:
    """Behind :func:`simulate`: tables, and the runs over them."""

    tables: dict[str, Table]
    wire: str
    workers: int
    defaults: Mapping[str, Json]
    simulated: bool = True
    runs: dict[str, _Simulated] = field(default_factory=dict)
    policy: Mapping[str, Json] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    _models: dict[str, Record] = field(default_factory=dict)  # that were brought along, by hash
    _shown: dict[str, dict[str, Json]] = field(default_factory=dict)  # node to what queries have seen of it

    def nodes(self) -> Sequence[Mapping[str, Json]]:
        return [{"node": n, "status": "online", "datasets": 1, "rows": t.rows} for n, t in self.tables.items()]

    def datasets(self) -> Sequence[Mapping[str, Json]]:
        return [
            {"node": n, "dataset": n, "rows": t.rows, "columns": len(t.names), "kinds": _kinds(t)}
            for n, t in self.tables.items()
        ]

    def analyze(self, config: RunConfig) -> Mapping[str, Json]:
        tables = self._chosen(config)
        schemas = {n: t.schema() for n, t in tables.items()}
        union, intersection = features.union_and_intersection(schemas)
        sites = [{"node": n, "rows": t.rows, "columns": len(t.names)} for n, t in tables.items()]
        return {**self._align(config, tables), "union": union, "intersection": intersection, "sites": sites}

    def fitting(self, config: RunConfig) -> Mapping[str, Mapping[str, Json]]:
        return {
            n: {"name": n, "version": self._version(n), "columns": t.schema()} for n, t in self._chosen(config).items()
        }

    def preview(self, config: RunConfig, run_id: str) -> str:
        return self._freeze(config).preview()

    def propose(self, config: RunConfig) -> str:
        start = self._initial_model(config.initial_model)
        if start is not None:
            config = algorithms.continuing(config, start)
        frozen = self._freeze(config)
        run_id = f"simulation-{len(self.runs) + 1}"
        tables = {n: t for n, t in self.tables.items() if n in frozen.content["datasets"]}
        sources = {n: TableSource(t, self._shown.setdefault(n, {})) for n, t in tables.items()}
        run = _Simulated(run_id, config, frozen, tables, self.wire, self.workers, sources, self.policy, start)
        self.runs[run_id] = run
        run.start()
        return run_id

    def status(self, run_id: str) -> Mapping[str, Json]:
        run = self._run(run_id)
        last = next((s.round for s in reversed(run.steps) if s.round is not None), 0)
        return {
            "run": run_id,
            "state": run.state,
            "round": last,
            "rounds": run.config.num_rounds,
            "nodes": list(run.tables),
            "reason": run.reason,
            "simulation": True,
        }

    def watch(self, run_id: str) -> Iterator[Update]:
        return self._run(run_id).watch()

    def cancel(self, run_id: str) -> None:
        self._run(run_id).cancel()

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

    def _run(self, run_id: str) -> _Simulated:
        if run_id not in self.runs:
            raise NotFound(f"there is no run {run_id!r} here; there are {', '.join(self.runs) or 'none'}")
        return self.runs[run_id]

    def _chosen(self, config: RunConfig) -> dict[str, Table]:
        wanted = config.expected_client_ids
        absent = sorted(set(wanted or ()) - set(self.tables))
        if absent:
            raise ConfigError(f"there is no site {', '.join(absent)}; there are {', '.join(self.tables)}")
        return {n: t for n, t in self.tables.items() if wanted is None or n in wanted}

    def _align(self, config: RunConfig, tables: Mapping[str, Table]) -> dict[str, Json]:
        if not algorithms.needs_data(config):
            return {"features": [], "kinds": {}}
        if not algorithms.needs_model(config):
            return features.survey({n: t.schema() for n, t in tables.items()}, config.features).to_json()
        barred = [config.sample_id_column] if config.sample_id_column else []
        schemas = {n: t.schema() for n, t in tables.items()}
        alignment = features.align(
            schemas, config.feature_strategy, target=config.target_column, not_features=barred, only=config.features
        )
        return alignment.to_json()

    def _freeze(self, config: RunConfig) -> bundle.Bundle:
        tables = self._chosen(config)
        datasets = {n: {"name": n, "version": self._version(n), "most_rows": t.rows} for n, t in tables.items()}
        return bundle.freeze(config, self._align(config, tables), datasets)

    def _version(self, node: str) -> str:
        if node not in self._versions:
            state = xxhash.xxh3_128()
            for name, column in self.tables[node].columns.items():
                state.update(f"{name}\x1f{column.kind}\x1f{chr(31).join(column.categories)}\x1e".encode())
                state.update(np.ascontiguousarray(column.values).view(np.uint8).data)
            self._versions[node] = state.hexdigest()
        return self._versions[node]


def _kinds(table: Table) -> dict[str, int]:
    kinds = [str(c.kind) for c in table.columns.values()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


class _Cancelled(Exception):
    """Raised in a site's thread when its run was cancelled."""


class _Simulated:
    """One run, in a thread of its own with its own event loop, so that it also works where a loop
    runs already (a notebook)."""

    def __init__(
        self,
        run_id: str,
        config: RunConfig,
        frozen: bundle.Bundle,
        tables: Mapping[str, Table],
        wire: str,
        workers: int,
        sources: Mapping[str, Source],
        policy: Mapping[str, Json],
        start: Record | None,
    ) -> None:
        self._sources, self._policy = sources, policy
        self.run_id, self.config, self.bundle, self.tables = run_id, config, frozen, tables
        self._wire, self._workers = wire, workers
        self.algorithm = algorithms.build(config, start)
        self.algorithm.init(config.to_json())  # what is wrong with the options is said here, not in a thread
        self.state, self.reason = "pending", ""
        self.steps: list[Step] = []
        self._updates: list[Update] = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._final: Record | None = None
        self._kept: dict[int, Record] = {}
        self._going: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._thread = threading.Thread(target=self._go, name=run_id, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self) -> Iterator[Update]:
        seen = 0
        while True:
            with self._news:
                while len(self._updates) == seen:
                    self._news.wait()
                fresh = self._updates[seen:]
            seen += len(fresh)
            for update in fresh:
                yield update
                if update.state in ENDED:
                    return

    def cancel(self) -> None:
        if self.state in ENDED:
            raise Conflict(f"run {self.run_id} has {self.state} already")
        self._stop.set()
        if self._going is not None:
            loop, task = self._going
            loop.call_soon_threadsafe(task.cancel)
        self._thread.join()

    def models(self, after: int) -> Iterator[tuple[int, Result]]:
        with self._news:  # what was told is not needed any more
            self._kept = {number: record for number, record in self._kept.items() if number > after}
            waiting, steps = sorted(self._kept.items()), list(self.steps)
        for number, record in waiting:
            seen = [s for s in steps if s.round is None or s.round <= number]
            yield (
                number,
                Result(
                    record,
                    self.config,
                    seen,
                    self.run_id,
                    list(self.tables),
                    self.bundle.content["alignment"],
                    self.bundle.sha256,
                    True,
                ),
            )

    def learned(self) -> list[Record]:
        """The models that are there."""
        with self._news:
            return [*self._kept.values(), *([self._final] if self._final is not None else [])]

    def _look(self, state: State) -> None:
        model = self.algorithm.model(state)
        if model is not None:
            with self._news:
                self._kept.setdefault(int(model.data["round"]), model)

    def result(self) -> Result:
        if self.state in ("pending", "running"):
            raise Conflict(f"run {self.run_id} is {self.state}; wait() gives the result when it has ended")
        if self._final is None:
            raise RunFailed(f"run {self.run_id} has no result: {self.state}. {self.reason}") from self._error
        return Result(
            self._final,
            self.config,
            list(self.steps),
            self.run_id,
            list(self.tables),
            self.bundle.content["alignment"],
            self.bundle.sha256,
            True,
            self.reason,
        )

    def _tell(self, state: str, step: Step | None = None, reason: str = "") -> None:
        with self._news:
            self.state, self.reason = state, reason or self.reason
            if step is not None:
                self.steps.append(step)
            self._updates.append(Update(state, step, reason=reason))
            self._news.notify_all()

    def _go(self) -> None:
        try:
            self._final = asyncio.run(self._run())
        except asyncio.CancelledError:
            self._tell("cancelled", reason="cancelled by the data scientist")
        except HanseError as error:
            self._error = error
            self._tell("failed", reason=error.message)
        except BaseException as error:  # a mistake in an algorithm: the one who watches must hear of it
            self._error = error
            self._tell("failed", reason=f"{type(error).__name__}: {error}")
        else:
            self._tell("completed", reason=self.reason)

    async def _run(self) -> Record:
        task = asyncio.current_task()
        assert task is not None
        self._going = (asyncio.get_running_loop(), task)
        if self._stop.is_set():
            raise asyncio.CancelledError
        journal = Forgetful(lambda step: self._tell("running", step), self._look if self.config.keep_models else None)
        with ThreadPoolExecutor(self._workers, f"{self.run_id}-site") as pool:
            try:
                handlers = {node: self._handler(node, table, pool) for node, table in self.tables.items()}
                transport = LocalTransport(handlers, self._wire)
                run = Run(
                    self.algorithm, self.config, list(self.tables), transport, journal, self.run_id, self.bundle.sha256
                )
                self._tell("running")
                state = await run.go()
            finally:
                self._stop.set()  # threads of answers that nobody waits for any more
        done = [detail for kind, detail in journal.events if kind == "run.done"]
        self.reason = str(done[-1].get("reason", "")) if done else ""
        return self.algorithm.result(state)

    def _handler(self, node: str, table: Table, pool: ThreadPoolExecutor) -> Handler:
        answerer = Answerer(node, lambda bundle: table, self._policy, lambda bundle: self._sources[node])

        def alive(progress: Progress) -> None:
            if self._stop.is_set():
                raise _Cancelled
            progress()

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            work = functools.partial(answerer.answer, message.body, self.bundle.content, lambda: alive(progress))
            future = asyncio.get_running_loop().run_in_executor(pool, work)
            try:
                body = await self._patient(future, progress)
            except HanseError:
                raise
            except Exception as error:
                self._error = self._error or error
                raise NodeFailed(f"{type(error).__name__}: {error}") from error
            return Message("reply", message.id, node, body)

        return handle

    async def _patient(self, future: asyncio.Future[Record], progress: Progress) -> Record:
        """Waits for an answer. A site that waits for a thread, or is slow, is not late here: which
        ones are would depend on this machine, and so would the result."""
        while not future.done():
            await asyncio.wait([future], timeout=self.config.round_timeout_s / 3)
            progress()
        return future.result()
