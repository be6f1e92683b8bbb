"""The stages that a task passes at the gate: each a small object, and each can only say no.

A stage is given the :class:`Passage` of one task, reads what the stages before it have found, and adds its
own. It raises where the answer is no; the gate (:mod:`hanse.node.gate`) says in which order they stand.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from hanse import policy
from hanse.errors import NotAllowed, NotApproved, NotAuthenticated, NotFound, TooLarge, WireError
from hanse.facts import Data, Facts, now, round_of, told_in_json
from hanse.gather import keep_promises
from hanse.messages import Buffered, Json, Layout, Message, as_it_travels
from hanse.node.approvals import Approvals, Proposal
from hanse.node.catalogue import Catalogue
from hanse.node.dataset import Dataset
from hanse.node.promises import Promises
from hanse.node.remembered import Decided, RememberedRules
from hanse.node.settings import TaskLimits
from hanse.node.spending import Book, Reservation
from hanse.node.worker import Worked
from hanse.node.workers import Workers
from hanse.receipts import hashed
from hanse.rule import Rule
from hanse.store.audit import AuditLog
from hanse.transport import COORDINATOR, Progress

_LARGE = 1 << 20  # a payload that takes long enough to hash that others should not wait for it


@dataclass(slots=True)
class Passage:
    """One task on its way through the gate. What no stage has found yet cannot be read."""

    peer: str
    message: Message
    progress: Progress
    data: Mapping[str, Json]  # the task: ``{run, step, exchange, op, combine, bundle, ask}``
    nbytes: int  # of its arrays
    proposal: Proposal = field(init=False)
    facts: Facts = field(init=False)
    allowed: Facts | None = None  # the facts that the rules said yes to
    allowed_by: tuple[RememberedRules, list[Json]] | None = None  # these rules, and what each decided by
    decided: str = ""  # what in particular decided, by the rules that have several parts
    reservation: Reservation | None = None
    booked: asyncio.Future[None] | None = None  # what it may use up, on disk while it is computed
    worked: Worked = field(init=False)
    bytes_out: int = field(init=False)  # of the reply's arrays
    digest: str = field(init=False)  # of the reply

    def detail(self) -> dict[str, Json]:
        """What the audit log says of the task, whatever becomes of it."""
        data = self.data
        found: dict[str, Json] = {
            "step": data.get("step"),
            "op": data.get("op"),
            "bundle": str(data.get("bundle"))[:64],
            "bytes_in": self.nbytes,
        }
        if self.decided:
            found["decided"] = self.decided
        return found


class Stage(Protocol):
    """One stage. ``name`` is what the audit log calls it where it said no."""

    @property
    def name(self) -> str:
        """For the audit: which stage said no."""
        ...

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        """What is still to be waited for; None where the stage is passed already, as most are."""
        ...


def authenticate(peer: str, message: Message) -> None:
    """Raises ``NotAuthenticated`` unless the coordinator is at the other end and says so."""
    if peer != COORDINATOR or message.sender not in ("", peer):
        raise NotAuthenticated(f"only this node's coordinator may ask it; {(message.sender or peer)[:80]!r} did")


class Authenticated:
    """Who asks."""

    name = "authenticate"

    def __call__(self, task: Passage) -> None:
        authenticate(task.peer, task.message)
        said = task.data.get
        if not (type(said("run")) is type(said("op")) is type(said("combine")) is type(said("bundle")) is str):
            raise WireError("a task has run, step, exchange, op, combine, bundle and ask")
        if not (type(step := said("step")) is type(exchange := said("exchange")) is int and step >= 0 <= exchange):
            raise WireError("a task's step and exchange are whole numbers")
        if not isinstance(said("ask"), dict):
            raise WireError("a task's ask is an object")


@dataclass(frozen=True, slots=True)
class Approved:
    """Is exactly this hash approved for this run. It stands before the work, after it, and at the end: an approval
    may be taken back while the worker computes or the disk is waited for, and then nothing leaves any more."""

    approvals: Approvals
    name: str = "approved"

    def __call__(self, task: Passage) -> None:
        task.proposal = self.approvals.approved(task.data["run"], task.data["bundle"])


class KnownFacts:
    """The facts. The worker has compared the bundle's code with its own for them, and the data set here is the
    one that was approved."""

    name = "facts"

    def __init__(self, home: Path, worker: Workers) -> None:
        self._catalogue, self._file, self._worker = Catalogue(home), str(home / "catalogue.json"), worker
        self._datasets: dict[str, Dataset] = {}
        self._read_at: tuple[int, int, int] | None = None
        # Of the first task of the run that was asked last, and what they follow from
        self._first: tuple[Facts, Mapping[str, Json], Proposal, tuple[object, ...]] | None = None

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        found = round_of(task.data["ask"])
        if found is not None and type(found) is not int:
            raise WireError("a round is a whole number")
        learned = self._worker.plain.known(task.proposal.sha256)
        if learned is None:
            return self._learn(task, found)
        self._found(task, learned, found)
        return None

    async def _learn(self, task: Passage, round: int | None) -> None:
        self._found(task, await self._worker.learn(task.proposal.text, task.proposal.sha256), round)

    def _found(self, task: Passage, learned: Mapping[str, Json], round: int | None) -> None:
        data = task.data
        task.facts = self._of_run(learned, task.proposal, task.peer).of_another(
            step=data["step"],
            exchange=data["exchange"],
            operation=data["op"],
            combine=data["combine"],
            round=round,
            bytes=task.nbytes,
            time=now(),
        )

    async def facts(self, proposal: Proposal) -> Facts:
        """Of the last task of a run, before it is asked."""
        learned = self._worker.known(proposal.sha256) or await self._worker.learn(proposal.text, proposal.sha256)
        first = self._of_run(learned, proposal, COORDINATOR)
        last = max(0, first.steps - 1)
        return first.of_another(
            step=last, exchange=0, operation=first.operation, combine="", round=None, bytes=0, time=now()
        )

    def _of_run(self, learned: Mapping[str, Json], proposal: Proposal, sender: str) -> Facts:
        """Of the first task of a run, not asked yet: most facts are the same for each of its tasks. They are made anew
        where anything that they follow from is another one."""
        exposed = self._worker.exposed
        others = (sender, exposed, self._mark() if learned["needs_data"] else None)
        first = self._first
        if first is not None and first[1] is learned and first[2] is proposal and first[3] == others:
            return first[0]
        dataset = self._approved(proposal, learned["dataset"]) if learned["needs_data"] else None
        said = told_in_json(learned)
        del said["dataset"]
        found = Facts(
            **said,
            sender=sender,
            proposer=proposal.proposer,
            purpose=proposal.purpose,
            run=proposal.run,
            bundle=proposal.sha256,
            dataset=Data(name=dataset.name, version=dataset.version, tags=dataset.tags) if dataset else None,
            rows=dataset.units if dataset else None,
            step=0,
            exchange=0,
            operation="proposal",
            combine="",
            round=None,
            bytes=0,
            exposed=exposed,
            time=now(),
        )
        self._first = found, learned, proposal, others
        return found

    def _approved(self, proposal: Proposal, bound: Json) -> Dataset:
        """The dataset, if what was approved, what the hash binds and what is here are the same."""
        if proposal.dataset is None or not isinstance(bound, Mapping):
            raise NotApproved(f"run {proposal.run!r} needs data, and no dataset of this node was approved for it")
        name, version = proposal.dataset["name"], proposal.dataset["version"]
        if (bound.get("name"), bound.get("version")) != (name, version):
            raise NotApproved("the bundle names another dataset than the proposal that was approved")
        dataset = self._dataset(name)
        if dataset.version != version:
            raise NotApproved(f"dataset {name!r} has changed since it was approved; propose the run again")
        return dataset

    def _dataset(self, name: str) -> Dataset:
        """From the catalogue, which is read again when its file has changed."""
        mark = self._mark()
        if mark is None:
            raise NotFound("this node has no datasets")
        if mark != self._read_at:
            self._datasets = {dataset.name: dataset for dataset in self._catalogue.list()}
            self._read_at = mark
        if name not in self._datasets:
            raise NotFound(f"dataset {name!r} is not here any more")
        return self._datasets[name]

    def _mark(self) -> tuple[int, int, int] | None:
        """The same while the catalogue's file is; None where there is none."""
        try:
            status = os.stat(self._file)
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size


class Ruled(Protocol):
    """What has rules, which its owner may change."""

    rules: tuple[Rule, ...]


class Allowed:
    """What all rules say of the facts. It stands before the work and after it, when the rows that were found are
    known: the catalogue's count was a promise. Where it was kept, and the owner has changed nothing that rules decide
    by meanwhile, nothing is known that they were not told.

    Args:
        ruled: has the ``rules`` that count now.
    """

    name = "rules"

    def __init__(self, ruled: Ruled) -> None:
        self._ruled, self._asked = ruled, RememberedRules(())

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        if (rules := self._ruled.rules) is not self._asked.rules:
            self._asked = RememberedRules(rules)
        by, before = self._asked.decides_by(), task.allowed_by
        if (
            before is not None
            and before[0].rules is rules
            and before[1] == by
            and (task.facts is task.allowed or task.facts == task.allowed)
        ):
            return None
        asked = self._asked
        said = asked.decide(task.facts, by)
        if not isinstance(said, tuple):
            return self._later(task, asked, by, said)
        self._decided(task, asked, by, said)
        return None

    async def _later(self, task: Passage, asked: RememberedRules, by: list[Json], said: Awaitable[Decided]) -> None:
        self._decided(task, asked, by, await said)

    def _decided(self, task: Passage, asked: RememberedRules, by: list[Json], decided: Decided) -> None:
        said, task.decided = decided
        policy.check(said)
        task.allowed, task.allowed_by = task.facts, (asked, by)


@dataclass(frozen=True, slots=True)
class Reserved:
    """What answering may use up is set aside. It goes to the disk while the worker computes, so that the answer need
    not wait for both, one after the other; unless it is there, booked with an earlier step."""

    book: Book
    name: str = "reserve"

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        if task.nbytes > _LARGE and self.book.counts(task.facts):
            return self._later(task)
        reservation = task.reservation = self.book.reserve(task.facts, task.message.body)
        if reservation.charges and not self.book.booked(reservation):
            self._ahead(task, reservation)
        return None

    async def _later(self, task: Passage) -> None:
        await asyncio.to_thread(self._reserve, task)
        reservation = task.reservation
        if reservation is not None and reservation.charges and not self.book.booked(reservation):
            self._ahead(task, reservation)

    def _reserve(self, task: Passage) -> None:
        task.reservation = self.book.reserve(task.facts, task.message.body)

    def _ahead(self, task: Passage, reservation: Reservation) -> None:
        # the disk may be slow; nobody else waits for it
        task.booked = asyncio.ensure_future(asyncio.to_thread(self.book.book, reservation))


@dataclass(frozen=True, slots=True)
class Computed:
    """The worker computes, with its limits."""

    worker: Workers
    name: str = "work"

    async def __call__(self, task: Passage) -> None:
        task.worked = await self.worker.answer(task.message.body, task.proposal.text, task.progress)
        if task.facts.needs_data and task.facts.rows != task.worked.rows:
            task.facts = replace(task.facts, rows=task.worked.rows)


@dataclass(frozen=True, slots=True)
class PromisesKept:
    """What the answer tells for good of a secure sum is on disk before it leaves
    (:attr:`hanse.gather.Party.leaving`)."""

    promises: Promises
    name: str = "promise"

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        if "told" not in task.worked.spent:
            return None
        spent = dict(task.worked.spent)
        told = spent.pop("told")
        task.worked = task.worked._replace(spent=spent)
        return asyncio.to_thread(keep_promises, self.promises.setdefault, told)


@dataclass(frozen=True, slots=True)
class SpendingSettled:
    """What the answer used up is on disk before it leaves, or what it may have used up is (:class:`Reserved`)."""

    book: Book
    name: str = "settle"

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        reservation = task.reservation
        assert reservation is not None
        if not reservation.charges:
            return None
        if task.booked is None:  # with an earlier step
            self._entered(task, reservation)
            return None
        return self._settle(task, reservation, task.booked)

    async def _settle(self, task: Passage, reservation: Reservation, booked: asyncio.Future[None]) -> None:
        await booked
        if self.book.booked(reservation):
            self._entered(task, reservation)
        else:
            await asyncio.to_thread(self._entered, task, reservation)

    def _entered(self, task: Passage, reservation: Reservation) -> None:
        spent, release = task.worked.spent, None
        if spent:
            spent = dict(spent)
            release = spent.pop("release", None)
        self.book.settle(reservation, spent, release)
        task.reservation = None  # there is nothing of it to be given back


@dataclass(frozen=True, slots=True)
class Leaving:
    """Looks at what is about to leave."""

    limits: TaskLimits
    name: str = "what leaves"

    def __call__(self, task: Passage) -> None:
        limits, record = self.limits, task.worked.record
        nbytes = task.bytes_out = Layout.of(record.arrays).nbytes  # nothing but plain arrays
        if nbytes > limits.message_mb << 20:
            raise TooLarge(f"the reply has {nbytes} bytes; this node sends up to {limits.message_mb} MB")
        text = len(as_it_travels(record.data))
        if text > limits.reply_json_kb << 10:
            raise TooLarge(
                f"the reply has {text} bytes beside its arrays; this node sends up to {limits.reply_json_kb} kB"
            )
        weight = record.data.get("weight", 0)
        if (type(weight) is not float and type(weight) is not int) or not math.isfinite(weight) or weight < 0:
            raise NotAllowed("the reply's weight is not a finite number of at least 0")


@dataclass(frozen=True, slots=True)
class Hashed:
    """The digest of the reply, which the coordinator commits to (:mod:`hanse.receipts`): the audit log tells later what
    was sent."""

    name: str = "digest"

    def __call__(self, task: Passage) -> Awaitable[None] | None:
        found = hashed(task.worked.record)
        if isinstance(found, str):
            task.digest = found
            return None
        return self._later(task, found)

    async def _later(self, task: Passage, found: Awaitable[str]) -> None:
        task.digest = await found
        if isinstance(arrays := task.worked.record.arrays, Buffered):
            arrays.receipt = task.digest  # from here on it is only sent, and its edition follows from it


@dataclass(frozen=True, slots=True)
class Audited:
    """A line in the audit log; what cannot be written down does not leave."""

    audit: AuditLog
    name: str = "audit"

    def __call__(self, task: Passage) -> None:
        record = task.worked.record
        detail = task.detail()
        detail["bytes_out"], detail["weight"] = task.bytes_out, record.data.get("weight")
        detail["exchange"], detail["reply"] = task.data["exchange"], task.digest
        self.audit.append(task.peer[:200], "task.answered", task.data["run"][:200], detail, sync=False)


def note(audit: AuditLog, action: str, actor: str, run: Json, detail: dict[str, Json]) -> None:
    """A line in the audit log. What a stranger sent must not make the log unwritable: such values of ``detail`` become
    text."""
    for name, value in detail.items():
        if not (isinstance(value, str) or (isinstance(value, (int, float)) and abs(value) < 1e18)):  # nor no number
            detail[name] = str(value)[:2000]
    audit.append(actor[:200], action, str(run)[:200], detail, sync=False)
