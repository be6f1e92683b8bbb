"""The node half of the loop: one task answered.

The same code answers in a node's worker process and in a simulation. It keeps per run what may be
kept: the table, caches, and the algorithm's memory. Memory is held as it was after each of the
last steps, so a step that is asked again (the coordinator was killed, a reply was lost) starts from
the same memory and gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hanse import algorithms, features
from hanse.config import RunConfig
from hanse.errors import WireError
from hanse.kinds import Algorithm, Gather, Progress, Site, Source
from hanse.messages import Json, Record
from hanse.queries import TableSource
from hanse.registry import find
from hanse.table import Table

KEPT_STEPS = 2
KEPT_RUNS = 8

LoadTable = Callable[[Mapping[str, Json]], Table]  # from a bundle to the rows that it was approved for
OpenSource = Callable[[Mapping[str, Json]], Source]  # the same, to be read in batches


@dataclass(slots=True)
class _Run:
    config: Mapping[str, Json]
    algorithm: Algorithm
    gather: Gather
    table: Table
    source: Source | None = None
    cache: dict[str, Any] = field(default_factory=dict)
    memories: dict[int, dict[str, Any]] = field(default_factory=dict)


class Answerer:
    """Answers the tasks of runs for one node.

    Args:
        node: this node's id.
        load: gives the approved rows for a bundle (:mod:`hanse.bundle`).
        owner: the settings of the node's owner (:attr:`hanse.kinds.Site.owner`).
        open: the same rows in batches; None: those that ``load`` gives.
    """

    def __init__(
        self, node: str, load: LoadTable, owner: Mapping[str, Json] | None = None, open: OpenSource | None = None
    ) -> None:
        self.node, self._load, self._owner, self._open = node, load, dict(owner or {}), open
        self._runs: dict[str, _Run] = {}

    def answer(self, task: Record, bundle: Mapping[str, Json], progress: Progress = lambda: None) -> Record:
        """The reply to ``task``.

        Args:
            task: data ``{run, step, op, ask}`` and the ask's arrays.
            bundle: the approved bundle that the task belongs to.
            progress: called now and then, to show life.
        """
        try:
            run_id, step, op, ask = (task.data[k] for k in ("run", "step", "op", "ask"))
        except KeyError as missing:
            raise WireError(f"a task without {missing}") from None
        run = self._run(run_id, bundle)
        before = max((s for s in run.memories if s < step), default=None)
        memory = dict(run.memories[before]) if before is not None else {}
        site = Site(self.node, run.table, run.config, memory, run.cache, progress, step, run.source, self._owner)
        reply = run.gather.reply(op, Record(ask, task.arrays), lambda a: run.algorithm.answer(site, a), site)
        run.memories = {s: m for s, m in run.memories.items() if s < step}
        run.memories[step] = memory
        for old in sorted(run.memories)[:-KEPT_STEPS]:
            del run.memories[old]
        return reply

    def forget(self, run_id: str) -> None:
        """Frees what is kept for a run."""
        self._runs.pop(run_id, None)

    def _run(self, run_id: str, bundle: Mapping[str, Json]) -> _Run:
        run = self._runs.pop(run_id, None)
        if run is None:
            config = RunConfig.parse(bundle["config"])
            algorithm = algorithms.build(config)
            table, source = Table(), None
            if algorithms.needs_data(config) and not algorithms.needs_model(config):
                source = self._open(bundle) if self._open else TableSource(self._load(bundle))
                source = features.SettledSource(source, bundle["alignment"]["kinds"])
            elif algorithms.needs_data(config):
                table = self._load(bundle)
                kept = features.apply(table, bundle["alignment"]["features"], bundle["alignment"]["kinds"])
                own = {n: c for n, c in table.columns.items() if " ".join(n.split()) == config.target_column}
                table = Table({**kept.columns, config.target_column: next(iter(own.values()))}) if own else kept
            gather = find("gathering", bundle["gathering"]).GATHER()
            run = _Run(config.to_json(), algorithm, gather, table, source)
        self._runs[run_id] = run  # most recently used last
        while len(self._runs) > KEPT_RUNS:
            self._runs.pop(next(iter(self._runs)))
        return run
