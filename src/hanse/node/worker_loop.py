"""The loop of the worker process: one task at a time, with data and models kept warm between tasks.

Heavy libraries are loaded when a task needs them. What it says of an error is a code and a sentence: the text of a
library's exception may hold values of the data, so it stays with the owner, in ``worker.log``, or of a cage in
``plan.log``.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import time
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hanse import algorithms, large_arrays, validity
from hanse.answers import Answerer
from hanse.bundle import Bundle, thaw
from hanse.config import RunConfig
from hanse.errors import HanseError, NodeFailed, NotAllowed, NotApproved, NotFound, WorkerDied
from hanse.gather import Identity
from hanse.kinds import Source
from hanse.messages import Json, Memory, Message, Record, arrived, dumps, payload
from hanse.node.pipe import FREED, KEPT_BUNDLES, NO_ROWS, PROGRESS, Packet, Receiver, note, packed, send, small
from hanse.node.promises import Promises
from hanse.node.shared_memory import INLINE_BYTES, Mappings, Window, fill, make
from hanse.privacy.noise_secret import noise_secret
from hanse.table import Table

if TYPE_CHECKING:
    from hanse.node.catalogue import Catalogue
    from hanse.node.dataset import Dataset
    from hanse.signing import Signer

_PROGRESS_SECONDS = 0.5
_KEPT_TABLES = 2
_ANEW = datetime.timedelta(days=1)  # before the end of its certificate a worker looks whether the node has a newer one
_ERROR_CHARACTERS = 500
OUT_OF_MEMORY = 12  # exit status


class Cancelled(BaseException):
    """The agent does not want the answer any more. Not an ``Exception``, so that no library keeps it."""


class WorkerLoop:
    """The loop of the worker process."""

    def __init__(self, sock: socket.socket, home: str, node: str, owner: Mapping[str, Json]) -> None:
        self._mappings = Mappings()
        self._sock, self._home, self._node, self._owner = sock, home, node, owner
        self._receiver = Receiver()
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()
        self._of_run: dict[str, str] = {}
        self._tables: OrderedDict[tuple[str, str], Table] = OrderedDict()
        self._rows: dict[str, int] = {}
        self._answerer: Answerer | None = None
        self._signer: Signer | None = None
        self._noise: bytes | None = None
        self._busy = self._sending = self._stop = self._caged = False
        self._told, self._started = 0.0, time.time()

    def serve(self, offline: bool, caged: bool) -> None:
        """Says that it is there, whether it has no network, and whether it is in a cage; then works until the agent
        closes the socket."""
        self._caged = caged
        self._say("ready", {"offline": offline, "caged": caged})
        while self._receiver.read(self._sock):
            while (packet := self._receiver.packet()) is not None:
                self._take(packet)

    # ------------------------------------------------------------ one packet

    def _take(self, packet: Packet) -> None:
        try:
            self._busy, self._stop, self._told = True, False, time.monotonic()
            try:
                self._do(packet)
            finally:
                self._busy = False
        except Cancelled:
            self._forget_everything()  # it may have been stopped half way through changing something
            self._fail(NodeFailed("the task was cancelled"))
        except MemoryError:
            traceback.print_exc()
            self._fail(WorkerDied("the task needed more memory than [limits] memory_mb of this node allows"))
            os._exit(OUT_OF_MEMORY)
        except HanseError as error:
            traceback.print_exc()
            self._fail(error)
        except Exception as error:
            traceback.print_exc()
            what, log = type(error).__name__, "plan.log" if self._caged else "worker.log"
            self._fail(NodeFailed(f"the task failed with {what}; the node's owner finds more in {log}"))

    def _do(self, packet: Packet) -> None:
        fds = list(packet.fds)
        mapped: list[weakref.ref[Window]] = []
        made: list[int] = []

        def land(nbytes: int) -> Memory:
            if len(packet.inline) == nbytes:
                return Memory(0, memoryview(packet.inline))
            mapping = self._mappings.mapping(fd := fds.pop(0), nbytes)
            window: Window = np.frombuffer(mapping, np.uint8, nbytes)
            mapped.append(look := weakref.ref(window))
            if nbytes > large_arrays.SHARED_BYTES:  # what was asked is not needed once it is answered
                large_arrays.lend(np.frombuffer(mapping, np.uint8, nbytes), fd, look)
            return Memory(0, window.data.toreadonly())

        try:
            message = arrived(packet.head, land)
            data = message.body.data
            if message.kind == "bundle":
                facts = self._learn(data)
                self._busy = False  # from here on it is too late to cancel: one ending for each packet
                self._say("facts", facts)
            elif message.kind == "forget":
                self._forget(data["run"])
                self._busy = False
                self._say("forgotten", {})
            else:
                spare, room = (fds[0], os.fstat(fds[0]).st_size) if fds else (-1, 0)
                if room > large_arrays.SHARED_BYTES:
                    large_arrays.lend(self._mappings.window(spare, room), spare)
                reply, rows = self._answer(message)
                spent = self._answerer.spent if self._answerer is not None else {}
                self._busy = False
                raw, beside = self._laid(reply, rows, spent, spare, room, made)
                del message, data, reply
                # all memory of this task can be used again unless the algorithm kept a view of it
                if not large_arrays.settle() and all([window() is None for window in mapped]):
                    raw[0] = FREED
                self._write(raw, beside)
        except BaseException:
            large_arrays.settle()
            raise
        finally:
            for fd in (*packet.fds, *made):
                os.close(fd)

    def _laid(
        self, reply: Record, rows: int | None, spent: Mapping[str, Json], spare: int, room: int, made: list[int]
    ) -> tuple[bytearray, list[int]]:
        """The packet with ``reply``, and the descriptors that go beside it. A small reply is in the packet, a large one
        lies where it is if that can be, else in ``spare`` if it fits into its ``room``, else in fresh shared memory;
        which descriptors were ``made`` for it, is added there. What it used up goes beside it, as the envelope's id: it
        is not for the coordinator."""
        nbytes = reply.nbytes
        inline = nbytes <= INLINE_BYTES
        fd, large = None, nbytes > large_arrays.SHARED_BYTES
        if large and (fd := large_arrays.on_loan(reply.arrays)) is None:
            fd = large_arrays.handed(reply.arrays)
            made += [] if fd is None else [fd]  # too large for a copy
        if fd is None and not inline:
            offset, into = 0, None
            if room >= nbytes and not (room > large_arrays.SHARED_BYTES and large_arrays.loan_seen(spare)):
                fd, into = spare, self._mappings.window(spare, nbytes).data
            else:  # there is none, or it holds what the algorithm keeps
                made.append(fd := make(nbytes))
            for piece in payload(reply):
                if into is None:
                    fill(fd, offset, piece)
                else:
                    into[offset : offset + len(piece)] = piece
                offset += len(piece)
        beside = [] if fd is None or fd == spare else [fd]  # the agent knows the spare
        envelope = Message("done", dumps(spent) if spent else "", "", reply)
        return packed(envelope, len(beside), inline, NO_ROWS if rows is None else rows), beside

    # ------------------------------------------------------------ what is asked

    def _learn(self, data: Mapping[str, Json]) -> dict[str, Json]:
        """Checks a bundle against the code installed here; returns the facts that rules look at."""
        bundle = thaw(data["text"], data["sha256"])
        bundle.check_code()
        if any(_changed_at(module) > self._started for module in bundle.content["code"]):
            # the check read the files as they are now; what is loaded here may be older
            return {"stale": True}
        self._bundles[data["sha256"]] = bundle
        while len(self._bundles) > KEPT_BUNDLES:
            self._bundles.popitem(last=False)
        return bundle.facts(self._node)

    def _answer(self, message: Message) -> tuple[Record, int | None]:
        data = message.body.data
        run, sha = data["run"], data["bundle"]
        bundle = self._bundles.get(sha)
        if bundle is None:
            raise NotApproved("the worker was not told of this bundle")
        if self._of_run.get(run, sha) != sha:  # the owner approved another bundle for the same run
            self._forget(run)
        self._of_run[run] = sha
        if self._answerer is None:
            told = Promises(Path(self._home))
            self._answerer = Answerer(
                self._node,
                self._load,
                self._owner,
                self._source,
                self._identity,
                told,
                self._secret,
                subject=self._subject,
                keep=self._keep,
                place=self._place,
                by_gate=lambda place: not told.holds(place),
                hold=told.hold,
            )
        reply = self._answerer.answer(message.body, bundle.content, self._progress)
        return reply, self._rows.get(sha)

    def _identity(self) -> Identity | None:
        """What signs for this node where a gather asks it to; None at a node that has joined nobody, as in tests."""
        from hanse.identity import load_identity
        from hanse.signing import Signer, pins

        if self._caged:
            raise NotAllowed("the code of a training plan cannot sign in this node's name; gather its run plainly")
        if self._signer is None or self._signer.ends - validity.now() < _ANEW:
            try:
                identity = load_identity(self._home)
            except NotFound:
                return None
            self._signer = Signer(identity, pins(self._owner.get("node_fingerprints") or ()))
        return self._signer

    def _secret(self) -> bytes:
        """What all noise of this node is drawn from. It stays the same over restarts, so that what is asked twice is
        answered with the same noise. A worker in a cage has none."""
        if self._caged:
            raise NotAllowed("the code of a training plan runs here, so no noise that it does not know can be made")
        if self._noise is None:
            self._noise = noise_secret(Path(self._home))
        return self._noise

    def _load(self, content: Mapping[str, Json]) -> Table:
        key = self._approved(content)
        table = self._tables.pop(key, None)
        catalogue, dataset = self._dataset(key)
        if table is None:
            by_columns = algorithms.by_columns(RunConfig.parse(content["config"]))
            table = catalogue.opened(dataset) if by_columns else catalogue.load(dataset)
        if table.in_memory:
            self._tables[key] = table
        while len(self._tables) > _KEPT_TABLES:
            self._tables.popitem(last=False)
        sha = next(s for s, b in self._bundles.items() if b.content is content)
        self._rows[sha] = dataset.units if dataset.subject else table.rows
        return table

    def _source(self, content: Mapping[str, Json]) -> Source:
        catalogue, dataset = self._dataset(self._approved(content))
        source = catalogue.source(dataset)
        found = dataset.units if dataset.subject else source.rows
        self._rows[next(s for s, b in self._bundles.items() if b.content is content)] = found
        return source

    def _subject(self, content: Mapping[str, Json]) -> tuple[str, int]:
        """The column that says whose a row is, "" where none does, and the most rows that one person has."""
        _, dataset = self._dataset(self._approved(content))
        return dataset.subject, dataset.most_rows_of_subject

    def _place(self, content: Mapping[str, Json]) -> Path:
        """Where the data set is, for code that sees nothing else."""
        if not self._caged:
            raise NotAllowed("a data set is opened by itself only by code that is shut in")
        return self._dataset(self._approved(content))[1].path

    def _keep(self, run: str, record: Record) -> None:
        """Keeps a model of this node's own for its owner. Out of a cage nothing is written."""
        if not self._caged:
            from hanse.node.own_models import OwnModels

            OwnModels(Path(self._home)).keep(run, record)

    def _approved(self, content: Mapping[str, Json]) -> tuple[str, str]:
        """Name and version of the dataset that the bundle binds."""
        wanted = content["datasets"].get(self._node)
        if not isinstance(wanted, Mapping):
            raise NotApproved("the bundle names no dataset of this node")
        return str(wanted["name"]), str(wanted["version"])

    def _dataset(self, key: tuple[str, str]) -> tuple[Catalogue, Dataset]:
        from hanse.node.catalogue import Catalogue  # and what reads data: a run that needs none takes no room for it

        catalogue = Catalogue(Path(self._home))
        dataset = catalogue.get(key[0])
        if str(dataset.version) != key[1]:
            raise NotApproved(f"dataset {key[0]!r} has changed since it was approved; propose the run again")
        return catalogue, dataset

    def _forget(self, run: str) -> None:
        self._of_run.pop(run, None)
        self._mappings.clear()
        large_arrays.release()
        if self._answerer is not None:
            self._answerer.forget(run)
        if not self._of_run:
            self._tables.clear()

    def _forget_everything(self) -> None:
        self._answerer = None
        self._of_run.clear()

    # ------------------------------------------------------------ what is said

    def _say(self, kind: str, data: Mapping[str, Json]) -> None:
        self._write(packed(small(kind, **data), 0, inline=True))

    def _fail(self, error: HanseError) -> None:
        self._say("error", {"code": error.code, "message": error.message[:_ERROR_CHARACTERS]})

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._told < _PROGRESS_SECONDS or threading.current_thread() is not threading.main_thread():
            return
        self._told, self._sending = now, True
        self._write(note(PROGRESS))
        self._sending = False
        if self._stop:
            self.interrupt()

    def _write(self, raw: bytes | bytearray, fds: list[int] | None = None) -> None:
        done = send(self._sock, raw, fds or ())
        if done < len(raw):
            self._sock.sendall(memoryview(raw)[done:])

    def interrupt(self, *_: object) -> None:
        """The signal by which the agent cancels the task in work; nothing if there is none."""
        if self._sending:  # half a packet would be the end of the conversation
            self._stop = True
        elif self._busy:
            self._busy = self._stop = False
            raise Cancelled


def _changed_at(module: str) -> float:
    """When the file of a loaded module was last changed, by the clock that nobody can set back."""
    return os.stat(str(sys.modules[module].__file__)).st_ctime
