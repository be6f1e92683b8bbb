"""The agent: the node's long-lived process. It keeps the connection, guards the gate and computes
nothing itself, so that it answers at once whatever a task does.

Decisions that the coordinator has not heard of are told to it again at every connection, until it
has. Tasks go to the worker one after the other; a task whose asker is gone is stopped there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import random
import secrets
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import hanse
from hanse import event_loop, releases, supervisor, validity
from hanse import home as home_folder
from hanse.allocator import settle
from hanse.decisions import signed
from hanse.disk_faults import disk_fault
from hanse.errors import HanseError, NodeLost, NotFound, NotNow, StorageFailed, Tampered, TooLarge, WireError
from hanse.identity import csr, load_identity, read_certificate, save_identity
from hanse.messages import SAVING, Json, Message, Record, head
from hanse.node import control, renewal
from hanse.node.approvals import Approvals, Proposal
from hanse.node.approvers import Approvers
from hanse.node.catalogue import Catalogue
from hanse.node.gate import Gate
from hanse.node.settings import NodeSettings
from hanse.node.shared_memory import SharedPool
from hanse.node.spending import Book
from hanse.node.summaries import summaries
from hanse.node.worker import PROGRAM, Worker
from hanse.node.workers import Workers
from hanse.pace import Pace
from hanse.registry import names
from hanse.signing import Signer
from hanse.store.audit import AuditLog
from hanse.transport import Progress
from hanse.transports import REQUEST_HEADER, Caller, Line, line

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
_WARN_SECONDS = 86_400.0  # between two lines that say the same
_AHEAD = datetime.timedelta(minutes=1)  # that a clock may have been put back by since a decision, without a word
_RETRY_SECONDS = 1.0  # between attempts to write while the disk is full
_AGAIN_SECONDS = 5.0  # between attempts to say what the coordinator cannot take now
_OF_RUNS = frozenset({"alone", "approve", "reject", "revoke", "examine"})
_TELL_SECONDS = 5.0  # an owner who decides waits so long for what the coordinator says of it


Connect = Callable[[Caller], Line]


class Agent:
    """A node. ``await agent.run()`` until it is stopped.

    Args:
        home: the node's folder.
        connect: makes the connection; by default by the address of the coordinator, with this node's certificate.
        program: what Python runs as the worker.
    """

    def __init__(self, home: Path, connect: Connect | None = None, program: Sequence[str] = PROGRAM) -> None:
        self.home = Path(home)
        self.settings = NodeSettings.load(self.home)
        self.node = self.settings.node_id
        self._lock = home_folder.hold(self.home, "node")
        self.audit = AuditLog(self.home / "audit.jsonl")
        if self.settings.audit_days:
            self.audit.cut(self.settings.audit_days, "node")
        self.approvals = Approvals(self.home)
        self.book = Book(self.home)
        self.pool = SharedPool()
        self.worker = self._worker(program)
        self.gate = Gate(self.node, self.home, self.settings, self.approvals, self.worker, self.audit, self.book)
        self.book.recover()
        self.gate.end_by(self._latest())
        self.pace = Pace()
        self._set_pace()
        self.connection = (connect or self._connect)(self._caller())
        self.coordinator = self.clock = ""  # its release, and what is wrong with the clocks, once it has said
        self.state, self.detail, self.heartbeat_seconds = "starting", "", HEARTBEAT_SECONDS
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._greeting: asyncio.Task[Any] | None = None
        self._beating: asyncio.Task[Any] | None = None
        self._telling: asyncio.Task[Any] | None = None
        self._caught = asyncio.Event()  # what was proposed meanwhile is here

    def _latest(self) -> datetime.datetime:
        """What the clock says, or what it said at the last line of the audit log where that is later."""
        now = validity.now()
        try:
            last = self.audit.last()
            known = validity.time(last.time) if last else None
        except (Tampered, OSError):  # what is written next says so
            known = None
        if known is None or known <= now:
            return now
        if known > now + _AHEAD:
            log.warning(
                "this node's clock says %s and said %s at the last line of the audit log: it was put back; approvals "
                "that had ended by then have ended",
                f"{now:%Y-%m-%d %H:%M:%S}",
                f"{known:%Y-%m-%d %H:%M:%S}",
            )
        return known

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Works until :meth:`stop`, SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread: a test
                loop.add_signal_handler(number, self.stop)
        server = await control.listen(self.home, self._control)
        self._spawn(self._warm())
        self.connection.start()
        supervisor.notify("READY=1", f"STATUS=node {self.node} starts")
        self._spawn(supervisor.watch(self._alive))
        try:
            await self._stopping.wait()
        finally:
            supervisor.notify("STOPPING=1")
            server.close()
            (self.home / control.FILE).unlink(missing_ok=True)
            for task in list(self._tasks):
                task.cancel()
            await self.connection.close()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.worker.close()
            self.approvals.close()
            self.gate.standing.close()
            self.gate.promises.close()
            self.book.close()
            self.audit.close()
            os.close(self._lock)

    def stop(self) -> None:
        """Ends :meth:`run`, and with it what is in work; the coordinator asks again later."""
        self._stopping.set()

    async def _alive(self) -> str:
        """For the service manager: who gets here is alive. What else may be wrong (a coordinator that is not there, a
        worker that was lost) is mended without a restart."""
        return ""

    async def _warm(self) -> None:
        with contextlib.suppress(HanseError):
            await self.worker.start()

    def _worker(self, program: Sequence[str]) -> Workers:
        owner = self.settings.policy.to_json()
        plain = Worker(self.home, self.node, self.settings.limits, owner, self.pool, self._worker_died, program)
        return Workers(plain)

    def _caller(self) -> Caller:
        return Caller(
            node=self.node,
            identity=lambda: load_identity(self.home),
            handler=self.handle,
            allocate=self.pool.allocate,
            report=self._report,
            refused=self._refused,
            limit=self.settings.limits.message_mb << 20,
            beat_s=lambda: self.heartbeat_seconds,
            pace=self.pace,
            spool=self.home,
        )

    def _set_pace(self) -> None:
        own = self.settings.line
        self.pace.set(own.upload_limit_mbit, own.transfer_hours, SAVING.get(own.compression))

    def _connect(self, caller: Caller) -> Line:
        identity = load_identity(self.home)  # a node whose identity is damaged ends at once, and says so
        return line(self.settings.coordinator.address or identity.address, caller)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------ what the connection tells

    def _report(self, what: str, detail: str) -> None:
        if (what, detail) != (self.state, self.detail):
            log.info("%s: %s", what, detail)
        self.state, self.detail = what, detail
        supervisor.notify(f"STATUS={what}: {detail}"[:500])
        self._caught.clear()
        if what == "connected":
            for task in (self._greeting, self._beating):
                if task is not None:
                    task.cancel()
            self._greeting = self._spawn(self._greet())
        elif self._beating is not None:
            self._beating.cancel()

    def _refused(self, peer: str, what: str, detail: str) -> None:
        self._happened(peer[:200], "message.refused", what[:200], {"detail": detail[:1000]})

    def _worker_died(self, why: str) -> None:
        log.warning("the worker was lost and is replaced: %s", why)
        self._happened("node", "worker.lost", self.node, {"reason": why})

    def _happened(self, actor: str, action: str, subject: str, detail: Mapping[str, Json]) -> None:
        """A line in the audit log of what nobody decided here. It has happened all the same where the disk is full, and
        then the node's log alone says so."""
        try:
            self.audit.append(actor, action, subject, detail, sync=False)
        except Exception as error:
            fault = disk_fault(error)
            if not fault:
                raise
            log.warning("the audit log has no line of %s (%s: %s): %s", action, subject, detail, fault)

    # ------------------------------------------------------------ what is asked

    async def handle(self, peer: str, message: Message, progress: Progress = lambda: None) -> Message:
        """Answers the coordinator: every kind of message that there is. Raises ``StorageFailed`` where the node's disk
        is full or fails: it is asked again in a while."""
        try:
            if message.kind == "task":
                return await self.gate.task(peer, message, progress)
            return await self._heed(peer, message)
        except Exception as error:
            fault = disk_fault(error)
            if not fault:
                raise
            log.warning("a %s of run %r waits: %s", message.kind[:40], message.body.data.get("run"), fault)
            raise StorageFailed(f"the disk of node {self.node} fails ({fault}); its owner has to make room") from None

    async def _heed(self, peer: str, message: Message) -> Message:
        data = message.body.data
        try:
            self.gate.authenticate(peer, message)
        except HanseError as error:
            self._refused(peer, message.kind, error.message)
            raise
        if message.kind == "proposal":
            proposal, proof = self._proven(await self.gate.proposal(data))
            decision = proposal.decision if not proposal.revoked else "reject"
            if decision != "pending":
                self.approvals.mark_sent(proposal)  # this reply tells it
            elif self.settings.policy.standing == "ask":
                log.info("run %s waits for a decision: hanse node show %s", proposal.run, proposal.run)
            said = {"decision": decision, "actor": proposal.actor, "reason": proposal.reason}
            return self._reply(message, **said, proof=proof)
        if message.kind == "consent":
            return self._reply(message, proof=self._proven(await self.gate.relayed(data))[1])
        if message.kind == "finished":
            run = data.get("run")
            if not isinstance(run, str):
                raise WireError("finished names a run")
            self.gate.finished(run, data.get("state"))
            self._spawn(self.worker.forget(run))  # the worker may be busy; the coordinator need not wait
            return self._reply(message)
        unknown = WireError(f"a node is not asked {message.kind[:50]!r}; is the coordinator of another release?")
        self._refused(peer, message.kind, unknown.message)
        raise unknown

    def _reply(self, message: Message, **data: Json) -> Message:
        return Message("reply", message.id, self.node, Record(data))

    # ------------------------------------------------------------ what is said

    async def _ask(self, kind: str, **data: Json) -> Mapping[str, Json]:
        id = f"{self.node}/{kind}/{secrets.token_hex(8)}"
        message = Message(kind, id, "", Record(data))
        if (said := len(head(message))) > REQUEST_HEADER:
            raise TooLarge(
                f"this node would say {said} bytes about its datasets, and a coordinator takes up to "
                f"{REQUEST_HEADER}: all columns are told by name; remove the dataset that has so many, "
                "or add it with fewer columns"
            )
        return (await self.connection.request(message)).body.data

    async def _greet(self) -> None:
        """At every connection: who we are, what we have, and what the coordinator has not heard."""
        try:
            welcome = await self._taken("hello", self.hello)
            self.coordinator = str(welcome.get("hanse") or "")[:40]
            self.clock = validity.apart(
                validity.now(), validity.time(welcome.get("time")) or validity.now(), "this node", "the coordinator"
            )
            for warning in self.warnings():
                log.warning("%s", warning)
            self._paced(welcome)
            self._beating = self._spawn(self._beat())
            log.info("on line: %s was welcomed by the coordinator", self.node)
            listed = welcome.get("proposals")
            while fault := await self._caught_up(listed if isinstance(listed, list) else []):
                log.warning("what was proposed and decided meanwhile waits: %s", fault)
                await asyncio.sleep(_RETRY_SECONDS)
            self._caught.set()
            await self._renew()
        except NodeLost:
            pass  # closed
        except HanseError as error:
            log.warning("the coordinator did not accept this node's greeting: %s", error.message)

    async def _taken(self, kind: str, said: Callable[[], Mapping[str, Json]]) -> Mapping[str, Json]:
        """The coordinator's answer to what this node says of itself. It is said again while the coordinator's storage
        fails: on a connection that stays, a node that was not welcomed would not be asked, nor say hello again."""
        while True:
            try:
                return await self._ask(kind, **said())
            except NotNow as error:
                log.warning("the coordinator cannot take this node's %s now: %s", kind, error.message)
            await asyncio.sleep(_AGAIN_SECONDS * random.uniform(0.5, 1.5))  # many nodes do not ask in step

    async def _caught_up(self, listed: Sequence[Json]) -> str:
        """Takes note of proposals, and tells decisions; what is wrong with the disk if that cannot be, "" else."""
        try:
            for proposed in listed:
                try:
                    known = await self.gate.proposal(proposed)
                except HanseError as error:
                    log.warning("a proposal was refused: %s", error.message)
                    continue
                if known.decision != "pending":  # it would not ask if it knew
                    self.approvals.mark_sent(known, sent=False)
            await self.tell()
        except Exception as error:
            if not (fault := disk_fault(error)):
                raise
            return fault
        return ""

    async def tell(self) -> dict[str, str]:
        """Tells the coordinator the decisions that it has not heard of. Returns the runs of which it did not take
        the decision, and why (the run is over, ...). An approval that was taken back is none of them: a run that
        goes on hears of it by its next task, which is refused here whatever the coordinator holds."""
        refused: dict[str, str] = {}
        for proposal, proof in map(self._proven, self.approvals.unsent()):
            decision = "reject" if proposal.revoked else proposal.decision
            try:
                await self._ask(
                    "consent",
                    run=proposal.run,
                    sha256=proposal.sha256,
                    decision=decision,
                    reason=proposal.reason,
                    actor=proposal.actor,
                    proof=proof,
                )
            except NodeLost:
                break
            except NotNow as error:
                log.warning("the decision on %s is told again in a while: %s", proposal.run, error.message)
                self._tell_again()
                break
            except HanseError as error:  # it knows better: nothing to tell again
                if proposal.revoked:
                    log.info("run %s: the next task is refused; the coordinator says: %s", proposal.run, error.message)
                    self.approvals.mark_sent(proposal)
                    continue
                log.warning("the coordinator did not take the decision on %s: %s", proposal.run, error.message)
                refused[proposal.run] = error.message
            self.approvals.mark_sent(proposal)
        return refused

    def _proven(self, proposal: Proposal) -> tuple[Proposal, Json]:
        """The decision, and what proves it to others: None where there is none yet, or where this node has no key (a
        connection without certificates, on one machine). It is dated now where its own date is one that no coordinator
        takes, ever."""
        if proposal.decision == "pending":
            return proposal, None
        try:
            signer = Signer(load_identity(self.home))
        except NotFound:
            return proposal, None
        proposal = self._dated(proposal, signer)
        return proposal, signed(proposal.signed(self.node), signer)

    def _dated(self, proposal: Proposal, signer: Signer) -> Proposal:
        """The same decision, dated now where it was before the node's certificate began, or is ahead of the clock. A
        line in the audit log says so."""
        said = datetime.datetime.fromisoformat(proposal.signed(self.node).time)
        if signer.begins <= said <= datetime.datetime.now(datetime.UTC) + _AHEAD:
            return proposal
        anew = self.approvals.date_anew(proposal)
        detail = {"was": said.isoformat(), "until": anew.until, "reason": "the clock was wrong when this was decided"}
        self._happened("node", "decision.dated", proposal.run, detail)
        return anew

    def _tell_again(self) -> None:
        async def later() -> None:
            await asyncio.sleep(_AGAIN_SECONDS * random.uniform(0.5, 1.5))
            await self.tell()

        if self._telling is None or self._telling.done() or self._telling is asyncio.current_task():
            self._telling = self._spawn(later())

    async def _told(self) -> dict[str, str]:
        """What :meth:`tell` returns, if that does not take long: an owner waits for it."""
        telling = self._spawn(self.tell())
        with contextlib.suppress(TimeoutError):
            return dict(await asyncio.wait_for(asyncio.shield(telling), _TELL_SECONDS))
        return {}

    async def _beat(self) -> None:
        with contextlib.suppress(NodeLost):
            warned = asyncio.get_running_loop().time()
            while True:
                self.gate.end_by(validity.now())
                await asyncio.sleep(self.heartbeat_seconds)
                if asyncio.get_running_loop().time() - warned > _WARN_SECONDS:
                    warned = asyncio.get_running_loop().time()
                    await self._renew()
                    for warning in self.warnings():
                        log.warning("%s", warning)
                run = self.worker.busy
                try:
                    self._paced(await self._ask("heartbeat", busy=run is not None, run=run))
                except NodeLost:
                    raise
                except HanseError as error:  # the next one is due all the same
                    log.warning("the coordinator did not take a sign of life: %s", error.message)

    def _paced(self, said: Mapping[str, Json]) -> None:
        """How often this node beats is the coordinator's to say: less often where there are many."""
        interval = said.get("heartbeat_interval_s")
        if isinstance(interval, (int, float)) and not isinstance(interval, bool) and 0.01 <= interval <= 3600:
            self.heartbeat_seconds = float(interval)

    async def _renew(self) -> None:
        """Gets the next certificate, where it is time; the next connection is made with it."""
        try:
            identity = load_identity(self.home)
            if not renewal.due(identity):
                return
            asked = csr(identity.key_pem, self.node).decode()
            fresh = renewal.renewed(identity, await self._ask("certificate", csr=asked))
            await asyncio.to_thread(save_identity, self.home, fresh)
        except NodeLost:
            raise
        except NotFound:
            return  # this connection needs no certificate
        except (HanseError, OSError) as error:  # tomorrow again; the warnings of the last month stand beside it
            log.warning("this node's certificate could not be renewed: %s", error)
            return
        ends = read_certificate(fresh.cert_pem).expires
        log.info("this node's certificate was renewed and ends on %s", f"{ends:%Y-%m-%d}")
        self.audit.append("node", "certificate.renewed", self.node, {"ends": ends.isoformat()}, sync=False)
        await self._announce()  # or people at the coordinator are warned of the old one's end

    def warnings(self) -> list[str]:
        """What this node's owner has to do something about, in sentences."""
        other = releases.differing(self.coordinator, "the coordinator")
        if releases.together(self.coordinator, hanse.__version__):
            other = ""
        remedy = "ask the operator for a join token that names this node, then: hanse node init --join TOKEN"
        ends = validity.ending("this node's certificate", self._expires(), remedy)
        return [said for said in (ends, self.clock, other and f"{other}: this node takes part in no run") if said]

    def _expires(self) -> datetime.datetime | None:
        try:
            return read_certificate(load_identity(self.home).cert_pem).expires
        except (HanseError, OSError):  # the connection says what is wrong with it
            return None

    def hello(self) -> dict[str, Json]:
        """What this node says of itself."""
        return {
            "hanse": hanse.__version__,
            "time": validity.now().isoformat(),
            "capabilities": capabilities(),
            "consent": self.settings.consent,
            **self._changing(),
        }

    def _changing(self) -> dict[str, Json]:
        """What of it may change while it is connected."""
        return {
            "certificate_ends": expires.isoformat() if (expires := self._expires()) else None,
            "country": self.settings.country,
            "datasets": self.datasets(),
            "summary": summaries(self.home),
        }

    def datasets(self) -> list[dict[str, Json]]:
        """The datasets as the coordinator is told of them: counts below the owner's ``minimum_count`` are left out."""
        return [d.public(self.settings.policy.minimum_count) for d in Catalogue(self.home).list()]

    # ------------------------------------------------------------ what the owner wants

    async def _control(self, asked: Mapping[str, Json]) -> Json:
        do = asked.get("do")
        run, sha256 = str(asked.get("run", "")), str(asked.get("sha256", ""))
        actor, reason = str(asked.get("actor", "owner")), str(asked.get("reason", ""))
        if do in _OF_RUNS:
            await self._heard_of(run)
        if do == "alone":
            one = await self.gate.alone(self.approvals.get(run, sha256))
            return {"allowed": one.allowed, "reason": one.reason}
        if do in ("approve", "reject", "revoke"):
            more: dict[str, bool] = {}
            if do == "approve" and not (await self.gate.alone(self.approvals.get(run, sha256))).allowed:
                actor, more = str(asked.get("person", "")), {"two": True}
                await asyncio.to_thread(Approvers(self.home).check, actor, str(asked.get("passphrase", "")))
            proposal = getattr(self.gate, str(do))(run, sha256, actor=actor, reason=reason, **more)
            refused = await self._told() if self.state == "connected" else {}
            return {**proposal.public(), "refused": refused.get(proposal.run, "")}
        if do == "examine":
            said = await self.gate.examine(self.approvals.get(run, sha256))
            return [{"allowed": d.allowed, "rule": d.rule, "reason": d.reason, "remedy": d.remedy} for d in said]
        if do == "status":
            return {
                "state": self.state,
                "detail": self.detail,
                "release": hanse.__version__,
                "coordinator_release": self.coordinator,
                "warnings": self.warnings(),
                "pid": os.getpid(),
                "worker": self.worker.pid,
                "worker_offline": self.worker.offline,
                "busy": self.worker.busy,
            }
        if do == "reload":
            return await self._reload(actor)
        if do == "datasets":
            if self.state == "connected":
                self._spawn(self._announce())
            return {}
        raise NotFound(f"the agent cannot {do!r}; is it of another release?")

    async def _heard_of(self, run: str) -> None:
        """Waits a little for what was proposed while this node was not connected, where it knows no such run. Raises
        ``NotFound`` where it has not come."""
        if self.approvals.knows(run):
            return
        try:
            await asyncio.wait_for(self._caught.wait(), _TELL_SECONDS)
        except TimeoutError:
            what = f"{self.state}: {self.detail}" if self.detail else self.state
            raise NotFound(
                f"no run {run!r} was proposed to this node so far, and it has not heard from its coordinator since it "
                f"lost it or was started ({what}); try again when hanse node status says connected"
            ) from None

    async def _reload(self, actor: str) -> Json:
        """Takes the settings from the file; limits of the worker need a fresh one."""
        new = NodeSettings.load(self.home)
        self.gate.configure(new)
        before_worker = (self.settings.limits, self.settings.policy)
        fresh = (new.limits, new.policy) != before_worker
        before, self.settings = self.settings, new
        self._set_pace()
        if (before.consent, before.country) != (new.consent, new.country) and self.state == "connected":
            self._report(self.state, self.detail)  # the coordinator has to know: it says hello again
        self.audit.append(actor, "settings.changed", self.node, new.to_json()["policy"], sync=True)
        if fresh:
            self._spawn(self.worker.configure(new.limits, new.policy.to_json()))
        return {}

    async def _announce(self) -> None:
        try:
            await self._taken("datasets", self._changing)
        except NodeLost:
            pass  # the next greeting tells it
        except HanseError as error:
            log.warning("the coordinator did not take what this node says of itself now: %s", error.message)


def capabilities() -> dict[str, Json]:
    """What this machine has, for the choice of nodes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    gpu = any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/kfd"))
    return {
        "cpus": os.cpu_count() or 1,
        "memory_mb": memory,
        "gpu": gpu,
        "model_types": list(names("models")),
        "hanse": hanse.__version__,
    }


def _yield_to_others() -> None:
    """Has this process and those that it starts interrupt nobody: what they do can wait for the milliseconds until
    whoever works on the processor has had their turn. A node is a guest on its owner's machine; and where many
    processes of a federation share one, each works on without its caches being taken from it. Linux alone has this
    (sched(7), ``SCHED_BATCH``); what somebody else has decided of this process stays."""
    with contextlib.suppress(AttributeError, OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def serve(home: Path) -> None:
    """Runs an agent in this process until it is stopped."""
    _yield_to_others()

    async def main() -> None:
        agent = Agent(home)
        settle()
        await agent.run()

    event_loop.run(main())
