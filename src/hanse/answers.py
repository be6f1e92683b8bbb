"""The node half of the loop: one task answered.

The same code answers in a node's worker process and in a simulation. It keeps per run what may be
kept: the table, caches, and what algorithm, gather and transforms remember (:mod:`hanse.memories`).
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hanse import algorithms, features, gathering, protection, subjects, transforms
from hanse.alike import Alike
from hanse.config import RunConfig
from hanse.errors import NotAllowed, NotApproved, WireError
from hanse.gather import Gather, Identity, Party, keep_promises
from hanse.kinds import Algorithm, Combine, Contribution, Site, Source, no_place
from hanse.memories import Memories, NodeMemory
from hanse.messages import Array, Json, Record, digest
from hanse.privacy import release
from hanse.privacy.drawing import KEY_BYTES, key_for
from hanse.privacy.guarantee import ROW, Guarantee
from hanse.privacy.steps import Steps
from hanse.table import Table
from hanse.transport import Progress

KEPT_RUNS = 8

LoadTable = Callable[[Mapping[str, Json]], Table]  # from a bundle to the rows that it was approved for
OpenSource = Callable[[Mapping[str, Json]], Source]  # the same, to be read in batches


_COMBINES = {str(combine): combine for combine in Combine}


class Touched(NamedTuple):
    """What a run touches of a node's rows.

    Args:
        data, model: whether it touches them at all, and whether it learns a model from them.
        besides, groups: the columns that it needs beside the features, and those by whose groups it measures.
    """

    data: bool
    model: bool
    besides: tuple[str, ...]
    groups: tuple[str, ...]

    @staticmethod
    def of(config: RunConfig) -> Touched:
        """Of a run's configuration."""
        data = algorithms.needs_data(config)
        return Touched(data, algorithms.needs_model(config), config.besides, config.group_columns)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bundle says to every node of its run, with nothing of a node's own: sites of one process share it.

    Args:
        config, settings: of the run; the second with all defaults, as it reaches the algorithm.
        algorithm: what answers.
        gathers: by the way to combine.
        alike: whether all kinds of combining are gathered in the same way.
        guarantee: what differential privacy the run promises.
        touched: what it touches of a node's rows.
        rows: node to the most rows that it declared.
        nodes: all of the run.
        seed: of the run.
    """

    config: RunConfig
    settings: Mapping[str, Json]
    algorithm: Algorithm
    gathers: Mapping[Combine, Gather]
    alike: bool
    guarantee: Guarantee | None
    touched: Touched
    rows: Mapping[str, float]
    nodes: tuple[str, ...]
    seed: int

    @staticmethod
    def of(bundle: Mapping[str, Json]) -> Terms:
        """Of the content of a bundle. Raises ``ConfigError`` where it is wrong."""
        config = RunConfig.parse(bundle["config"])
        settings, alike = config.to_json(), len(set(bundle["gathering"].values())) == 1
        most = {node: d.get("most_rows") or 0 for node, d in bundle["datasets"].items()}
        numbers = {count: float(count) for count in most.values()}  # many nodes have as many rows as others
        rows = {node: numbers[count] for node, count in most.items()}
        gathers, promised = gathering.build(bundle["gathering"], settings), protection.of(config, len(rows))
        nodes, seed = tuple(rows), int(settings.get("seed", 0))
        algorithm, touched = algorithms.build(config), Touched.of(config)
        return Terms(config, settings, algorithm, gathers, alike, promised, touched, rows, nodes, seed)


def _new_secret() -> Callable[[], bytes]:
    drawn = secrets.token_bytes(KEY_BYTES)
    return lambda: drawn


@dataclass(frozen=True, slots=True)
class _Rows:
    table: Table
    source: Source | None
    owner: Mapping[str, Json]
    shares: Array | None = None
    beside: Table = field(default_factory=Table)
    cache: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    terms: Terms
    transforms: transforms.Chain
    keep: Callable[[Record], None]  # a model of this node's own
    place: Callable[[], Path]
    memories: Memories = field(default_factory=Memories)
    rows: _Rows | None = None


class ReadTask(NamedTuple):
    """What is asked, with nothing of a node's own: sites that are asked the very same share it.

    Args:
        run, bundle, step, exchange, op: where it belongs.
        how: the way to combine, as it was said.
        ask: of the algorithm.
        checkpoint: whether the coordinator keeps a state after this step.
    """

    run: str
    bundle: str
    step: int
    exchange: int
    op: str
    how: str
    ask: Record
    checkpoint: bool

    @staticmethod
    def of(record: Record) -> ReadTask:
        """Of data ``{run, step, exchange, op, combine, ask}`` and the ask's arrays. Raises ``WireError``."""
        data = record.data
        try:
            run, step, exchange = data["run"], data["step"], data["exchange"]
            op, how, ask = data["op"], data["combine"], Record(data["ask"], record.arrays)
        except KeyError as missing:
            raise WireError(f"a task without {missing}") from None
        bundle, checkpoint = str(data.get("bundle", "")), bool(data.get("checkpoint", True))
        return ReadTask(run, bundle, step, exchange, op, how, ask, checkpoint)

    @property
    def place(self) -> tuple[str, ...]:
        """Names it among all tasks of all runs."""
        return tuple(map(str, (self.run, self.bundle, self.step, self.exchange, self.how)))


class Asked(NamedTuple):
    """A task at a site, before anything is computed."""

    task: ReadTask
    run: _Run
    terms: Terms
    site: Site
    party: Party
    memory: NodeMemory


def nothing_done(asked: Sequence[Asked]) -> bool:
    """Whether these are asked the very same, by terms that they share, and nobody does anything to the contribution of
    a single one on its way out: no transform, no noise, no count of what statistics told, no gather that hides it."""
    task, terms = asked[0].task, asked[0].terms
    combine = _COMBINES[task.how]
    if terms.guarantee is not None or combine is Combine.AGREE or not hasattr(terms.gathers[combine], "replies"):
        return False
    return all(
        [
            one.task is task and one.terms is terms and one.run.transforms.empty and one.site.source is None
            for one in asked
        ]
    )


def replies(
    answerers: Sequence[Answerer], asked: Sequence[Asked], found: Sequence[Contribution]
) -> list[Record] | None:
    """What :meth:`Answerer.reply` gives for each of these contributions, where there is :func:`nothing_done` to them;
    None where each is to be looked at."""
    task, terms = asked[0].task, asked[0].terms
    combine = _COMBINES[task.how]
    if type(found) is not Alike or len(found) != len(asked) or found.of.combine is not combine:
        return None
    gather: Any = terms.gathers[combine]
    made: list[Record] = gather.replies(task.op, found)
    for answerer, one in zip(answerers, asked, strict=True):
        answerer.replied(one)
    return made


class Answerer:
    """Answers the tasks of runs for one node.

    Args:
        node: this node's id.
        load: gives the approved rows for a bundle (:mod:`hanse.bundle`).
        owner: the settings of the node's owner (:attr:`hanse.kinds.Site.owner`).
        open: the same rows in batches; None: those that ``load`` gives.
        identity: gives what signs for this node in a gather; None: nodes have no names that can be checked.
        promises: what a gather has told for good (:attr:`hanse.gather.Party.promises`); None: in memory.
        by_gate: whether what a reply tells for good of a place stands in :attr:`spent` (``told``), for who lets the
            reply out to keep (:func:`hanse.gather.keep_promises`); else it is kept here.
        hold: keeps what a reply tells of a step that its run can leave behind (:attr:`hanse.gather.Party.passing`);
            None: as all else.
        secret: gives what only this node knows, 32 bytes, of which all its noise is drawn; by default new ones.
        terms: gives what a bundle says, where that is known already.
        keep: where a model of this node's own is kept, by the run that left it (:attr:`hanse.kinds.Site.keep`).
        place: where the data set of a bundle is (:attr:`hanse.kinds.Site.place`).
        subject: gives of a bundle's rows the column that says whose a row is ("": none does), and the most rows that
            one person has (:mod:`hanse.subjects`).
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
        terms: Callable[[Mapping[str, Json]], Terms] = Terms.of,
        subject: Callable[[Mapping[str, Json]], tuple[str, int]] = lambda bundle: ("", 1),
        keep: Callable[[str, Record], None] = lambda run, record: None,
        place: Callable[[Mapping[str, Json]], Path] = lambda bundle: no_place(),
        by_gate: Callable[[str], bool] = lambda place: False,
        hold: Callable[[str, Json], Json] | None = None,
    ) -> None:
        self._keep, self._place, self._by_gate = keep, place, by_gate
        self.node, self._load, self._owner, self._open = (
            node,
            load,
            owner or {},
            open,
        )  # a simulation has many nodes of one
        self._identity, self._terms, self._subject = identity, terms, subject
        self._promises: MutableMapping[str, Json] = {} if promises is None else promises
        self._hold = hold or self._promises.setdefault
        self._secret = secret or _new_secret()
        self.spent: dict[str, Json] = {}  # by the last answer: ``cells``, the name of its ``release``, what it ``told``
        self._runs: dict[str, _Run] = {}

    def answer(self, task: Record, bundle: Mapping[str, Json], progress: Progress = lambda: None) -> Record:
        """The reply to ``task``.

        Args:
            task: data ``{run, step, exchange, op, combine, ask}`` and the ask's arrays; ``checkpoint`` False
                where the coordinator keeps no state after this step.
            bundle: the approved bundle that the task belongs to.
            progress: called now and then, to show life.
        """
        asked = self.asked(ReadTask.of(task), bundle, progress)
        return self.reply(asked, asked.terms.algorithm.answer)

    def asked(self, task: ReadTask, bundle: Mapping[str, Json], progress: Progress = lambda: None) -> Asked:
        """What :meth:`reply` answers; the arguments are those of :meth:`answer`."""
        run = self._run(task.run, bundle)
        terms, rows, step = run.terms, run.rows or self._rows(run.terms, bundle), task.step
        run.rows = rows
        if task.how not in terms.gathers:
            said = str(task.how)[:40]
            raise NotApproved(f"the approved bundle does not say how what combines by {said!r} is gathered")
        self.spent = {} if terms.guarantee is None else {"release": ""}  # nothing of the rows, until there is
        memory = run.memories.before(step, task.exchange)
        remembered, declared = memory.algorithm, terms.rows.get(self.node, 0.0)
        more = (rows.source, rows.owner, terms.nodes, declared, rows.shares, rows.beside)
        own = (run.keep, None, run.place)
        site = Site(self.node, rows.table, terms.settings, remembered, rows.cache, progress, step, *more, *own)
        told = (task.run, task.bundle, terms.rows, self._promises)
        party = Party(self.node, step, task.exchange, terms.seed, memory.gather, self._identity, progress, *told)
        return Asked(task, run, terms, site, party, memory)

    def reply(self, asked: Asked, answers: Callable[[Site, Record], Contribution]) -> Record:
        """The reply, of which ``answers`` computes the contribution."""
        task, terms = asked.task, asked.terms
        combine = _COMBINES[task.how]

        def answer(ask: Record) -> Contribution:
            # before the answer, which may lie where the ask does (:func:`hanse.large_arrays.in_place_of`)
            promised, key, steps = terms.guarantee, None, None
            if promised is not None:
                key = self._key(ask, asked)
                steps = Steps(promised, key) if promised.stepwise else None
            contribution = answers(asked.site if steps is None else replace(asked.site, noise=steps), ask)
            if contribution.combine not in (combine, None) or (contribution.combine is None and not terms.alike):
                raise NotAllowed(
                    f"this contribution combines by {contribution.combine or 'what it does not say'}, and was asked "
                    f"for to be combined by {combine}; only what the owner approved is gathered so"
                )
            if combine is Combine.AGREE and (contribution.record.arrays or contribution.sums):
                raise NotAllowed("this contribution has arrays, and was asked for words alone")
            contribution = asked.run.transforms.apply(contribution, asked.memory.transforms, asked.party)
            if asked.site.source is not None:  # statistics
                self.spent["cells"] = sum(int(np.size(a)) for a in contribution.record.arrays.values())
            return contribution if key is None else self._noised(contribution, key, asked, steps)

        reply = terms.gathers[combine].reply(task.op, task.ask, answer, asked.party)
        self.replied(asked)
        return reply

    def replied(self, asked: Asked) -> None:
        """Keeps what is to be remembered, and what a reply tells for good, once the reply is there."""
        task = asked.task
        asked.run.memories.keep(task.step, task.exchange, asked.memory, task.checkpoint)
        if asked.party.passing:
            keep_promises(self._hold, asked.party.passing)
        leaving = asked.party.leaving
        if leaving and all(map(self._by_gate, leaving)):
            self.spent["told"] = leaving
        elif leaving:
            keep_promises(self._promises.setdefault, leaving)

    def _noised(self, contribution: Contribution, key: release.Key, asked: Asked, steps: Steps | None) -> Contribution:
        """The contribution with the noise that was promised."""
        promised = asked.terms.guarantee
        assert promised is not None
        name_of: Callable[[], str] = (lambda: "") if steps is None else (lambda: steps.name)
        contribution, name = release.released(contribution, _COMBINES[asked.task.how], promised, key, name_of)
        self.spent["release"] = name
        return contribution

    def _key(self, ask: Record, asked: Asked) -> release.Key:
        place = [part.encode() for part in (*asked.task.place, digest(ask))]
        return lambda found: key_for(self._secret(), *place, found)

    def rest(self, run_id: str) -> None:
        """Lets go of a run's rows and of what was made of them, until the next task; what it remembers stays."""
        if run_id in self._runs:
            self._runs[run_id].rows = None

    def memory(self, run_id: str, step: int) -> NodeMemory:
        """A copy of what this node remembers of a run, as it was before a step."""
        return self._runs[run_id].memories.before(step, 0) if run_id in self._runs else NodeMemory()

    def remind(self, run_id: str, bundle: Mapping[str, Json], step: int, memory: NodeMemory) -> None:
        """Lets this node remember what :meth:`memory` gave, as if it had taken part until ``step``."""
        self._run(run_id, bundle).memories.keep(step - 1, 0, memory)

    def remembers(self, run_id: str) -> bool:
        """Whether anything is kept of a run or promised for good: else a new one would answer as this one does."""
        run = self._runs.get(run_id)
        return bool(self._promises) or (run is not None and not run.memories.blank)

    def forget(self, run_id: str) -> None:
        """Frees what is kept for a run."""
        self._runs.pop(run_id, None)

    def _run(self, run_id: str, bundle: Mapping[str, Json]) -> _Run:
        run = self._runs.get(run_id)
        if run is not None and len(self._runs) == 1:
            return run
        if run is None:
            terms = self._terms(bundle)
            demanded = [transforms.parse(text) for text in self._owner.get("transforms") or ()]
            links = [*bundle["transforms"], *demanded]
            changing = {link["name"] for link in links} - {*transforms.needs_updates(links)}
            if terms.guarantee is not None and terms.guarantee.unit == ROW and changing:
                raise NotAllowed(
                    f"{', '.join(sorted(changing))} could change what one row was bounded to, so nothing is released"
                )
            keep, place = functools.partial(self._keep, run_id), functools.partial(self._place, bundle)
            run = _Run(terms, transforms.Chain(links), keep, place)
        if next(reversed(self._runs), None) != run_id:  # most recently used last
            self._runs.pop(run_id, None)
            self._runs[run_id] = run
        while len(self._runs) > KEPT_RUNS:
            self._runs.pop(next(iter(self._runs)))
        return run

    def _rows(self, terms: Terms, bundle: Mapping[str, Json]) -> _Rows:
        config, touched, aligned = terms.config, terms.touched, bundle["alignment"]
        if not touched.data:
            return _Rows(Table(), None, self._owner)
        subject, most = self._subject(bundle)
        owner = subjects.stricter(self._owner, most)
        noised = bool(subject) and terms.guarantee is not None and terms.guarantee.unit == ROW
        if not touched.model:
            from hanse.queries import TableSource  # half a megabyte, in runs that ask for no statistics

            source = self._open(bundle) if self._open else TableSource(self._load(bundle))
            shares = subjects.of_batches(lambda: source.batches([subject]), subject) if noised else None
            return _Rows(Table(), features.SettledSource(source, aligned["kinds"]), owner, shares)
        kept, kinds, table = aligned["features"], aligned["kinds"], self._load(bundle)
        shares = subjects.of_batches(lambda: [table.select([subject])], subject) if noised else None
        beside = features.apply(table, (), kinds, besides=touched.groups)
        learned = features.apply(table, kept, kinds, config.union_fill, touched.besides)
        return _Rows(learned, None, owner, shares, beside)
