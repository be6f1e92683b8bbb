"""A process in which sites of a simulation answer: ``python -m hanse.experiment.site_process SOCKET``.

It is told what the bundle says, then rows of sites and tasks, one after the other, as records over the socket that it
inherits; each record goes with its length before it. It ends when the socket closes.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

from hanse import registry
from hanse.answers import Answerer, Terms
from hanse.errors import HanseError, NodeFailed
from hanse.experiment import remembered
from hanse.experiment.stacked import apart, stacked
from hanse.messages import Json, Record, dump, load
from hanse.privacy.drawing import KEY_BYTES, key_for
from hanse.table import Column, ColumnKind, Table

_LENGTH = struct.Struct("<Q")


def send(line: socket.socket, record: Record) -> None:
    """One record into the line."""
    raw = dump(record)
    line.sendall(_LENGTH.pack(len(raw)))
    line.sendall(raw)


def receive(line: socket.socket) -> Record:
    """The next record. Raises ``EOFError`` where the line was closed."""
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    return load(memoryview(_exactly(line, length)))


def _exactly(line: socket.socket, size: int) -> bytearray:
    raw = bytearray(size)
    view, done = memoryview(raw), 0
    while done < size:
        count = line.recv_into(view[done:])
        if not count:
            raise EOFError("the line to the other process was closed")
        done += count
    return raw


def packed(table: Table) -> tuple[dict[str, Json], dict[str, Any]]:
    """A table as plain JSON and arrays."""
    columns: list[Json] = [[n, str(c.kind), list(c.categories)] for n, c in table.columns.items()]
    return {"columns": columns}, {f"{i}": c.values for i, c in enumerate(table.columns.values())}


def unpacked(said: Mapping[str, Any], arrays: Mapping[str, Any]) -> Table:
    """What :func:`packed` made a record of."""
    listed = enumerate(said["columns"])
    return Table({name: Column(ColumnKind(kind), arrays[f"{i}"], tuple(cats)) for i, (name, kind, cats) in listed})


class Sites:
    """The sites of this process."""

    def __init__(self) -> None:
        self._bundle: Mapping[str, Json] = {}
        self._owner: Mapping[str, Json] = {}
        self._run = ""
        self._secret = secrets.token_bytes(KEY_BYTES)
        self._terms: Terms | None = None
        self._tables: dict[str, Table] = {}
        self._answerers: dict[str, Answerer] = {}
        self._asked: Mapping[str, Any] = {}  # the arrays of the last task

    def told(self, request: Record) -> Record:
        """The reply to one request."""
        data = request.data
        try:
            if data["do"] == "begin":
                for directory in data["ingredients"]:
                    registry.extend(directory)
                self._bundle, self._owner, self._run = data["bundle"], data["owner"], data["run"]
                self._terms = Terms.of(self._bundle)
                return Record({})
            if data["do"] == "rows":
                for node in data["forget"]:
                    self._tables.pop(node, None)
                    self._answerers[node].rest(self._run)
                    if not self._answerers[node].remembers(self._run):
                        del self._answerers[node]
                for node, rows in zip(data["nodes"], apart(Record(data["rows"], request.arrays)), strict=True):
                    self._tables[node] = unpacked(rows.data, rows.arrays)
                return Record({})
            if data["do"] == "remind":
                for node, memory in remembered.apart(request).items():
                    known = remembered.unpacked(memory)
                    self._answerer(node).remind(self._run, self._bundle, data["step"], known)
                return Record({})
            if data["do"] == "memories":
                return self._memories(data["step"])
            if not data["again"]:
                self._asked = request.arrays
            task = Record(data["task"], self._asked)
            return stacked([self._reply(node, task) for node in data["nodes"]])
        except Exception as error:
            return _failed(error)

    def _reply(self, node: str, task: Record) -> Record:
        try:
            reply = self._answerer(node).answer(task, self._bundle)
        except Exception as error:  # of one site, and no reason to lose the answers of others
            return _failed(error)
        return Record({"reply": reply.data}, reply.arrays)

    def _memories(self, step: int) -> Record:
        found = {node: answerer.memory(self._run, step) for node, answerer in self._answerers.items()}
        try:
            return remembered.together({n: remembered.packed(m) for n, m in found.items() if not m.blank})
        except remembered.Unkept as error:
            return Record({"unkept": str(error)})

    def _answerer(self, node: str) -> Answerer:
        if node not in self._answerers:
            terms = self._terms
            assert terms is not None, "a task before the bundle"
            self._answerers[node] = Answerer(
                node,
                lambda bundle: self._tables[node],
                self._owner,
                terms=lambda bundle: terms,
                secret=lambda: key_for(self._secret, node.encode()),
            )
        return self._answerers[node]


def _failed(error: Exception) -> Record:
    if isinstance(error, HanseError):
        return Record({"code": error.code, "message": error.message})
    return Record({"code": NodeFailed.code, "message": f"{type(error).__name__}: {error}"})


def main(descriptor: int) -> None:
    """Answers what comes over this socket, until it closes."""
    line, sites = socket.socket(fileno=descriptor), Sites()
    with line:
        while True:
            try:
                request = receive(line)
            except (EOFError, ConnectionError):
                return
            send(line, sites.told(request))


if __name__ == "__main__":
    main(int(sys.argv[1]))
