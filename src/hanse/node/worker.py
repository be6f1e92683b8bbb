"""The agent's side of the worker: one process, kept warm, replaced when it dies or breaks a limit.

Whatever a task does to the worker (it hangs, takes too much memory, ends the process), the agent
answers ``WorkerDied`` and goes on with a fresh one. One task is in work at a time; the agent itself
never waits for it.

A task that nobody wants any more is stopped by a signal, which Python code notices at once and a
long call into a library only when it returns; if that takes more than ``_GRACE_SECONDS``, the
process is replaced. Either way the worker loses what it kept of its runs, and rebuilds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hanse.errors import HanseError, NotAllowed, NotNow, WireError, WorkerDied, from_code
from hanse.messages import Buffer, Buffered, Json, Memory, Message, Record, arrived, loads, payload
from hanse.node.ending import said_of
from hanse.node.pipe import FREED, KEPT_BUNDLES, PROGRESS, Packet, Receiver, packed, send, small
from hanse.node.settings import TaskLimits
from hanse.node.shared_memory import INLINE_BYTES, SharedBuffer, SharedPool
from hanse.node.surroundings import environment
from hanse.transport import Progress

PROGRAM = ("-m", "hanse.node.worker_main")
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_WATCH_SECONDS = 0.25  # between looks at the memory of a worker that is at work
_LOG_BYTES = 4 << 20
_LOG_SECONDS = 1.0  # between looks at how long the log is
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Worked(NamedTuple):
    """What the worker gave: the gather's record, the rows of the table it used (None: no data), and what that used up,
    by ledger, where it is less than was set aside, with what it tells for good (``told``)."""

    record: Record
    rows: int | None
    spent: Mapping[str, Json] = {}


class _Process:
    """One worker process and the conversation with it. Ends once; ``why`` says of what."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.process, self.sock = process, sock
        self.ended: Callable[[str], None] = lambda why: None
        self.why = ""
        self.known: dict[str, dict[str, Json]] = {}  # bundles it has checked, with their facts
        self.offline = False
        self.answer: asyncio.Future[Packet] | None = None
        self.progress: Progress = _nothing
        self.receiver = Receiver()
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(sock.fileno(), self._readable)

    @property
    def alive(self) -> bool:
        return not self.why

    def _readable(self) -> None:
        try:
            more = self.receiver.read(self.sock)
            while (packet := self.receiver.packet()) is not None:
                self._packet(packet)
        except BlockingIOError:
            return
        except WireError as error:
            self.end(f"it said what cannot be understood: {error.message}")
            return
        except OSError:
            more = False
        if not more:
            self.end("")

    def _packet(self, packet: Packet) -> None:
        if packet.what == PROGRESS:
            self.progress()
        elif self.answer is not None and not self.answer.done():
            self.answer.set_result(packet)
        else:
            for fd in packet.fds:
                os.close(fd)
            raise WireError("it answered without a question")

    def ask(self, raw: bytes | bytearray, fds: Sequence[int] = ()) -> Awaitable[Packet]:
        answer = self.answer = self.loop.create_future()
        try:
            done = send(self.sock, raw, fds)
            if done < len(raw):
                return self._ask_on(memoryview(raw)[done:], answer)
        except BlockingIOError:  # cannot be: it has read all that was sent before
            self.end("it does not read what it is sent")
        except OSError:
            self.end("")
        return answer

    async def _ask_on(self, rest: memoryview, answer: asyncio.Future[Packet]) -> Packet:
        try:
            await self.loop.sock_sendall(self.sock, rest)
        except OSError:
            self.end("")
        return await answer

    def stop(self) -> bool:
        """Begins to stop the task in work, whose asker is gone; returns whether there is one."""
        if not self.alive or self.answer is None:
            return False
        if self.answer.done() and not self.answer.cancelled():  # the answer came at the same moment
            if self.answer.exception() is None:
                for fd in self.answer.result().fds:
                    os.close(fd)
            return False
        self.answer = self.loop.create_future()
        self.progress = _nothing
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)
        return True

    def end(self, why: str) -> None:
        """Kills it, with whatever it started, and tells who waits."""
        if self.why:
            return
        self.loop.remove_reader(self.sock.fileno())
        status = self.process.poll()
        if status is None and not why:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self.process.wait(0.2)  # its socket is closed, so it is at its end
        self.why = why or f"it ended unexpectedly ({said_of(status)})"
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.sock.close()
        self.receiver.close()
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(WorkerDied(f"the node's worker was lost: {self.why}"))
        self.loop.run_in_executor(None, self.process.wait)
        self.ended(self.why)

    def memory_bytes(self) -> int:
        """Private memory of the process; shared payloads do not count."""
        try:
            with open(f"/proc/{self.process.pid}/statm") as file:
                _, resident, shared = file.read().split()[:3]
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * _PAGE


class Worker:
    """Computes the tasks of one node, one at a time, in a process of its own.

    Args:
        home: the node's folder.
        node: its id.
        limits: of time, memory and threads.
        owner: the owner's settings, by name.
        pool: where its payloads lie; the same one that the transport allocates from.
        died: told why, whenever a worker was lost.
        program: what Python runs as the worker.
        seen: the files and folders that the process may read, and no others (:mod:`hanse.node.cage`); None: all.
    """

    def __init__(
        self,
        home: Path,
        node: str,
        limits: TaskLimits,
        owner: Mapping[str, Json],
        pool: SharedPool | None = None,
        died: Callable[[str], None] = lambda why: None,
        program: Sequence[str] = PROGRAM,
        seen: Sequence[Path] | None = None,
    ) -> None:
        self._seen = seen
        # What the process says, for the owner. In a cage a researcher's code speaks: into a file of its own, which
        # stays when the cage goes. A plain string, as it is looked at after each answer
        self._log = str(home / "worker.log" if seen is None else home.parent / "plan.log")
        self.home, self.node, self.limits, self.owner = home, node, limits, dict(owner)
        self.pool = pool or SharedPool()
        self._died, self._program = died, tuple(program)
        self._process: _Process | None = None
        self._starting: _Process | None = None  # it has not said yet that it is there
        self._turn = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf  # of the task in work
        self._closed = False
        self._looked = -math.inf  # at the log
        self._sizes: dict[str, dict[str, int]] = {}  # run, and operation of its gather: bytes of the largest reply
        self.busy: str | None = None

    def caged(self, home: Path, seen: Sequence[Path]) -> Worker:
        """Another one with the same settings, which has ``home`` for its folder and sees nothing but ``seen``."""
        return Worker(home, self.node, self.limits, self.owner, self.pool, self._died, self._program, seen)

    @property
    def pid(self) -> int | None:
        """Of the process that works; None while there is none."""
        return self._process.process.pid if self._process is not None and self._process.alive else None

    @property
    def offline(self) -> bool:
        """Whether the worker has no network."""
        return self._process is not None and self._process.offline

    async def start(self) -> None:
        """Starts the process now, so that the first task need not wait for it."""
        async with self._turn:
            await self._ready()

    def known(self, sha256: str) -> dict[str, Json] | None:
        """What :meth:`learn` gives, where the worker that is there now has checked the bundle already."""
        process = self._process
        return process.known.get(sha256) if process is not None and not process.why else None

    async def learn(self, text: str, sha256: str, again: bool = True) -> dict[str, Json]:
        """Lets the worker check the bundle's code against its own; returns the facts for the rules.
        A worker that is older than the code is replaced first. Raises ``NotApproved`` where the code differs,
        ``OtherRelease`` where the bundle is of another release, ``NotNow`` while it is being changed."""
        if (known := self.known(sha256)) is not None:
            return known
        message = small("bundle", text=text, sha256=sha256)
        process, packet = await self._exchange(lambda p: (packed(message, 0, inline=True), []), lambda: None)
        reply = _open(packet, Memory, process)
        if reply.body.data.get("stale"):
            process.end("Hanse was changed on disk after it had started")
            if again:
                return await self.learn(text, sha256, False)
            raise NotNow("the code of Hanse on this node is being changed; it answers when that is done")
        process.known[sha256] = dict(reply.body.data)
        while len(process.known) > KEPT_BUNDLES:  # the worker forgets them in the same order
            del process.known[next(iter(process.known))]
        return process.known[sha256]

    async def answer(self, task: Record, text: str, progress: Progress = lambda: None) -> Worked:
        """The worker's reply to an approved task.

        Raises ``WorkerDied`` where it ended or broke a limit, and what the algorithm raised.
        """
        if (now := time.monotonic()) - self._looked >= _LOG_SECONDS:
            self._looked = now
            self._shorten_log()
        bundle, run, op = task.data["bundle"], str(task.data["run"]), str(task.data.get("op"))
        known = self._process
        if known is None or known.why or bundle not in known.known:
            await self.learn(text, bundle)
        sizes = self._sizes.setdefault(run, {})
        held: list[SharedBuffer] = []
        asked: list[SharedBuffer] = []

        def pack(process: _Process) -> tuple[bytearray, list[int]]:
            buffer = self._shared(task)
            if buffer is not None:
                asked.append(buffer)
            if (wanted := sizes.get(op, 0)) > INLINE_BYTES and (spare := self.pool.spare(wanted)):
                held.append(spare)
            fds = []
            for one in (*asked, *held):
                one.lent = True
                fds.append(one.fd)
            return packed(Message("task", "", "", task), len(fds), inline=buffer is None), fds

        process, packet = await self._exchange(pack, progress, run)
        kept = packet.what != FREED
        for one in (*asked, *held):
            one.lent = kept
        if bundle not in process.known:  # a fresh one took over between the two exchanges
            return await self.answer(task, text, progress)
        fresh = list(packet.fds)

        def land(nbytes: int) -> Buffer:
            if len(packet.inline) == nbytes:
                return Memory(0, memoryview(packet.inline))
            if fresh and asked and asked[-1].answered(fresh[0], nbytes):  # where the task lay, which nobody needs now
                os.close(fresh.pop(0))
                return asked[-1]
            if fresh:
                found = self.pool.adopt(fresh.pop(0), nbytes)
                found.lent = kept
                return found
            if held and held[0].capacity >= nbytes:
                held[0].nbytes = nbytes
                return held.pop(0)
            raise WorkerDied("the node's worker announced a payload and did not send it")

        try:
            message = _open(packet, land, process)
        finally:
            for fd in fresh:
                os.close(fd)
        if (nbytes := message.body.nbytes) > sizes.get(op, 0):
            sizes[op] = nbytes  # some grow from ask to ask and begin anew, as trees do
        spent = loads(message.id) if message.id and self._seen is None else {}  # a caged one may say anything
        return Worked(message.body, packet.rows if packet.rows >= 0 else None, spent)

    async def forget(self, run: str) -> None:
        """Frees what is kept for a run."""
        self._sizes.pop(run, None)
        if self._process is not None and self._process.alive:
            with contextlib.suppress(HanseError):
                raw = packed(small("forget", run=run), 0, inline=True)
                await self._exchange(lambda p: (raw, []), lambda: None)
        self.pool.clear()  # now, when the worker has let go of the last ask's memory

    async def restart(self) -> None:
        """A fresh process, as soon as the task in work is done (for new limits)."""
        async with self._turn:
            if self._process is not None:
                self._process.ended = lambda why: None
                self._process.end("it was replaced")
            await self._ready()

    async def close(self) -> None:
        """Ends the process at once."""
        self._closed = True
        for process in (self._process, self._starting):
            if process is not None:
                process.end("the node was stopped")
        await asyncio.gather(*self._background, return_exceptions=True)
        self.pool.clear()
        self._shorten_log()

    # ------------------------------------------------------------ one exchange

    def _shared(self, task: Record) -> SharedBuffer | None:
        """The arrays of the task in shared memory; None if they are small enough for the socket."""
        if task.nbytes <= INLINE_BYTES:
            return None
        if isinstance(task.arrays, Buffered) and isinstance(task.arrays.buffer, SharedBuffer):
            return task.arrays.buffer
        buffer, offset = self.pool.shared(task.nbytes), 0
        for piece in payload(task):
            buffer.write(offset, piece)
            offset += len(piece)
        return buffer

    async def _exchange(
        self, pack: Callable[[_Process], tuple[bytearray, list[int]]], progress: Progress, run: str | None = None
    ) -> tuple[_Process, Packet]:
        """One question and its answer. Errors that the worker reports are raised when it is opened."""
        await self._turn.acquire()
        mine = True
        process: _Process | None = None
        try:
            process = self._process
            if process is None or process.why:
                process = await self._ready()
            raw, fds = pack(process)
            process.progress, self.busy = progress, run
            self._deadline = time.monotonic() + self.limits.task_seconds
            if self._timer is None or self.limits.task_seconds < _WATCH_SECONDS:  # else it comes in time
                self._look_after(process)
            return process, await process.ask(raw, fds)
        except asyncio.CancelledError:
            if process is not None and process.stop():
                mine = False
                self._spawn_task(self._settle(process))
            raise
        finally:
            self.busy, self._deadline = None, math.inf
            if process is not None:
                process.progress = _nothing  # who asked would hear of it, and with that its answer would stay in memory
            if mine:
                self._turn.release()

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _look_after(self, process: _Process) -> None:
        """Has the worker at work watched from here on. A timer that is set already will do, where it comes in time:
        most answers are in before it does, and it is quicker to let it come than to set one for each of them."""
        seconds = min(_WATCH_SECONDS, self._deadline - time.monotonic())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = process.loop.call_later(max(0.0, seconds), self._watch)

    def _watch(self) -> None:
        """Looks after a worker at work, now and then, until its answer is in."""
        self._timer, process = None, self._process
        left = self._deadline - time.monotonic()
        if process is None or not process.alive or left == math.inf:
            return
        if left <= 0:
            process.end(f"it took longer than [limits] task_seconds, which is {self.limits.task_seconds:g}")
        elif process.memory_bytes() > self.limits.memory_mb << 20:
            process.end(f"it used more memory than [limits] memory_mb, which is {self.limits.memory_mb}")
        else:
            self._look_after(process)

    async def _settle(self, process: _Process) -> None:
        """Waits until the task that was cancelled has stopped; the next one waits for that."""
        try:
            assert process.answer is not None
            packet = await asyncio.wait_for(process.answer, _GRACE_SECONDS)
            for fd in packet.fds:
                os.close(fd)
        except TimeoutError:
            process.end("it did not stop when its task was cancelled")
        except HanseError:
            pass  # it has ended
        finally:
            self._turn.release()

    def _lost(self, why: str) -> None:
        if self._closed:
            return
        self._died(why)
        self._spawn_task(self._again())

    async def _again(self) -> None:
        with contextlib.suppress(HanseError):  # the next task will say so
            await self.start()

    async def _ready(self) -> _Process:
        process = self._process
        if process is not None and process.alive:
            return process
        if self._closed:
            raise WorkerDied("the node was stopped")
        self._process = None
        process = self._starting = self._spawn()
        process.answer = process.loop.create_future()
        try:
            packet = await asyncio.wait_for(process.answer, _START_SECONDS)
            said = _open(packet, Memory, process).body.data
            process.offline = bool(said.get("offline"))
            if self._seen is not None and not (process.offline and said.get("caged")):
                raise NotAllowed("this node cannot shut the code of a training plan in, so it does not run any")
        except TimeoutError:
            process.end("it did not start")
            raise WorkerDied(
                f"the node's worker did not start; its owner finds the reason in {os.path.basename(self._log)}"
            ) from None
        except BaseException:
            process.end("it was not wanted any more")
            raise
        finally:
            self._starting = None
        process.ended = self._lost
        self._process = process
        return process

    def _scraps(self) -> Path:
        """Where a caged process may write: libraries ask for such a folder when they are loaded."""
        folder = self.home / "tmp"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _shorten_log(self) -> None:
        """Leaves the end of a log that is too long, where the cause of an error stands; who writes there goes on."""
        with contextlib.suppress(OSError):
            if (size := os.stat(self._log).st_size) <= _LOG_BYTES:
                return
            log = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            try:
                end = os.pread(log, _LOG_BYTES // 4, size - _LOG_BYTES // 4)
                os.ftruncate(log, 0)
                os.write(log, end)
            finally:
                os.close(log)

    def _spawn(self) -> _Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        settings = {
            "home": str(self.home),
            "node": self.node,
            "memory_mb": self.limits.memory_mb,
            "owner": self.owner,
            "parent": os.getpid(),
            "seen": None if self._seen is None else [str(path) for path in self._seen],
        }
        command = [sys.executable, *self._program, str(theirs.fileno()), json.dumps(settings)]
        self._shorten_log()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment(self.limits.threads) | ({} if self._seen is None else {"TMPDIR": str(self._scraps())}),
                cwd=self.home if self._seen is None else "/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(log)
        return _Process(process, ours)


def _nothing() -> None:
    pass


def _open(packet: Packet, land: Callable[[int], Buffer], process: _Process) -> Message:
    """The message in a packet. Raises the error that the worker reports; of some it dies."""
    message = arrived(packet.head, land)
    if message.kind == "error":
        error = from_code(str(message.body.data.get("code")), str(message.body.data.get("message")))
        if isinstance(error, WorkerDied):
            process.end(error.message)
        raise error
    return message
