"""The node half of the loop: one task answered.

The same code answers in a node's worker process and in a simulation. It keeps per run what may be
kept: the table, caches, and what algorithm, gather and transforms remember (:mod:`hanse.memories`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hanse import algorithms, features, gathering, protection, transforms
from hanse.config import RunConfig
from hanse.errors import NotAllowed, NotApproved, WireError
from hanse.gather import Gather, Identity, Party
from hanse.kinds import Algorithm, Combine, Contribution, Site, Source
from hanse.memories import Memories
from hanse.messages import Json, Record, digest
from hanse.privacy import release
from hanse.privacy.drawing import KEY_BYTES, key_for
from hanse.privacy.guarantee import ROW, Guarantee
from hanse.queries import TableSource
from hanse.table import Table
from hanse.transport import Progress

KEPT_RUNS = 8

LoadTable = Callable[[Mapping[str, Json]], Table]  # from a bundle to the rows that it was approved for
OpenSource = Callable[[Mapping[str, Json]], Source]  # the same, to be read in batches


_COMBINES = {str(combine): combine for combine in Combine}


@dataclass(slots=True)
class _Run:
    config: Mapping[str, Json]
    algorithm: Algorithm
    gathers: Mapping[Combine, Gather]
    alike: bool  # whether all kinds of combining are gathered in the same way
    transforms: transforms.Chain
    guarantee: Guarantee | None
    rows: Mapping[str, float]
    table: Table
    source: Source | None = None
    cache: dict[str, Any] = field(default_factory=dict)
    memories: Memories = field(default_factory=Memories)


class Answerer:
    """Answers the tasks of runs for one node.

    Args:
        node: this node's id.
        load: gives the approved rows for a bundle (:mod:`hanse.bundle`).
        owner: the settings of the node's owner (:attr:`hanse.kinds.Site.owner`).
        open: the same rows in batches; None: those that ``load`` gives.
        identity: gives what signs for this node in a gather; None: nodes have no names that can be checked.
        promises: what a gather has told for good (:attr:`hanse.gather.Party.promises`); None: in memory.
        secret: gives what only this node knows, 32 bytes, of which all its noise is drawn; by default new ones.
    """

    def __init__(
        self,
        node: str,
        load: LoadTable,
        owner: Mapping[str, Json] | None = None,
        open: OpenSource | None = None,
        identity: Callable[[], Identity | None] = lambda: None,
        promises: MutableMapping[str, Json] | None = None,
        secret: Callable[[], bytes] | None = None,
    ) -> None:
        self.node, self._load, self._owner, self._open = node, load, dict(owner or {}), open
        self._identity = identity
        self._promises: MutableMapping[str, Json] = {} if promises is None else promises
        drawn = secrets.token_bytes(KEY_BYTES)
        self._secret = secret or (lambda: drawn)
        self.spent: dict[str, Json] = {}  # by the last answer: ``cells``, and the name of its ``release``
        self._runs: dict[str, _Run] = {}

    def answer(self, task: Record, bundle: Mapping[str, Json], progress: Progress = lambda: None) -> Record:
        """The reply to ``task``.

        Args:
            task: data ``{run, step, exchange, op, combine, ask}`` and the ask's arrays; ``checkpoint`` False
                where the coordinator keeps no state after this step.
            bundle: the approved bundle that the task belongs to.
            progress: called now and then, to show life.
        """
        try:
            data = task.data
            run_id, step, exchange = data["run"], data["step"], data["exchange"]
            op, how, ask = data["op"], data["combine"], data["ask"]
        except KeyError as missing:
            raise WireError(f"a task without {missing}") from None
        run = self._run(run_id, bundle)
        if how not in run.gathers:
            raise NotApproved(f"the approved bundle does not say how what combines by {str(how)[:40]!r} is gathered")
        combine = _COMBINES[how]
        self.spent = {} if run.guarantee is None else {"release": ""}  # nothing of the rows, until there is
        memory = run.memories.before(step, exchange)
        remembered = memory.algorithm
        names, declared = tuple(run.rows), run.rows.get(self.node, 0.0)
        own = (run.table, run.config, remembered, run.cache, progress, step, run.source, self._owner, names, declared)
        site = Site(self.node, *own)
        seed = int(run.config.get("seed", 0))
        told = (run_id, str(task.data.get("bundle", "")), run.rows, self._promises)
        party = Party(self.node, step, exchange, seed, memory.gather, self._identity, progress, *told)

        def answer(ask: Record) -> Contribution:
            contribution = run.algorithm.answer(site, ask)
            if contribution.combine not in (combine, None) or (contribution.combine is None and not run.alike):
                raise NotAllowed(
                    f"this contribution combines by {contribution.combine or 'what it does not say'}, and was asked "
                    f"for to be combined by {combine}; only what the owner approved is gathered so"
                )
            if combine is Combine.AGREE and (contribution.record.arrays or contribution.sums):
                raise NotAllowed("this contribution has arrays, and was asked for words alone")
            contribution = run.transforms.apply(contribution, memory.transforms, party)
            if run.source is not None:  # statistics
                self.spent["cells"] = sum(int(np.size(a)) for a in contribution.record.arrays.values())
            return contribution if run.guarantee is None else self._noised(run.guarantee, contribution, ask, task)

        reply = run.gathers[combine].reply(op, Record(ask, task.arrays), answer, party)
        run.memories.keep(step, exchange, memory, bool(task.data.get("checkpoint", True)))
        return reply

    def _noised(self, promised: Guarantee, contribution: Contribution, ask: Record, task: Record) -> Contribution:
        """The contribution with the noise that was promised."""
        data = task.data
        place = [str(data.get(part, "")) for part in ("run", "bundle", "step", "exchange", "combine")]

        def key(found: bytes) -> bytes:
            return key_for(self._secret(), *(part.encode() for part in (*place, digest(ask))), found)

        combine = _COMBINES[data["combine"]]
        contribution, name = release.released(contribution, combine, promised, key)
        self.spent["release"] = name
        return contribution

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
                aligned = bundle["alignment"]
                kept, kinds = aligned["features"], aligned["kinds"]
                table = features.apply(self._load(bundle), kept, kinds, config.union_fill, config.besides)
            settings = config.to_json()
            gathers = gathering.build(bundle["gathering"], settings)
            alike = len(set(bundle["gathering"].values())) == 1
            demanded = [transforms.parse(text) for text in self._owner.get("transforms") or ()]
            links = [*bundle["transforms"], *demanded]
            chain = transforms.Chain(links)
            rows = {node: float(d.get("most_rows") or 0) for node, d in bundle["datasets"].items()}
            promised = protection.of(config, len(rows))
            changing = {link["name"] for link in links} - {*transforms.needs_updates(links)}
            if promised is not None and promised.unit == ROW and changing:
                raise NotAllowed(
                    f"{', '.join(sorted(changing))} could change what one row was bounded to, so nothing is released"
                )
            run = _Run(settings, algorithm, gathers, alike, chain, promised, rows, table, source)
        self._runs[run_id] = run  # most recently used last
        while len(self._runs) > KEPT_RUNS:
            self._runs.pop(next(iter(self._runs)))
        return run
