"""The physical limit of a tree of exact boosting: the same loops, the same numbers over TLS, and nothing else.

Each of N processes holds its rows in bins and one TLS connection; there is no worker beside it. It parts its rows by
the splits that it is sent, adds up the nodes that it is asked for, and sends these sums in as many bytes as they travel
in. The coordinator adds them up as they come and finds the next splits. Rows, their loops, trees and the search for
splits are Hanse's own; what is not there are messages with headers and checksums, gRPC, the gate with its rules,
ledgers and audit log, the worker's process, checks of what nodes say, records, states, and the run. Where bins are so
full that both sums of one are two numbers, two loops that are here alone make these narrow and add up narrow ones, in
one look at each. Bins are quantiles of all rows.
"""

from __future__ import annotations

import math
import multiprocessing
import selectors
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _floor import _identity

from hanse.allocator import keep_warm
from hanse.boosting import growing, packed, scales
from hanse.boosting.binning import Binning
from hanse.boosting.compiled import at_once, compiled
from hanse.boosting.growing import Growing, Rules, Splits
from hanse.boosting.kernel import round_pairs
from hanse.boosting.workspace import Workspace
from hanse.messages import Array
from hanse.objectives.binary_logistic import BinaryLogistic

_OBJECTIVE = BinaryLogistic(1.0)
_ROWS = 1 << 14  # whose gradients are computed at a time
HEAD = struct.Struct("<Qdq")  # bytes that follow, processor time so far, how many of them a number has
ASK = struct.Struct("<QQQQ")  # bytes that follow (0: the end), and of how many splits, nodes and leaves


@compiled
def _narrow(sums: Array, low: Array, above: Array) -> int:
    """Writes the lower 32 bits of each number, and what is above them; 0 where these are all nothing but the sign."""
    wide = np.int64(0)
    for i in range(len(sums)):
        number = sums[i]
        low[i] = np.int32(number & 0xFFFFFFFF)
        above[i] = np.int8(number >> 32)
        wide |= number ^ np.int64(low[i])
    return wide


@compiled
def add(total: Array, low: Array, above: Array) -> None:
    """Adds narrow numbers; without ``above`` (0,) they have 32 bits and a sign."""
    if len(above) == 0:
        for i in range(len(total)):
            total[i] += np.int64(low[i])
    else:
        for i in range(len(total)):
            total[i] += (np.int64(above[i]) << 32) | (np.int64(low[i]) & 0xFFFFFFFF)


def read(connection: socket.socket, nbytes: int) -> bytearray:
    found, filled = bytearray(nbytes), 0
    view = memoryview(found)
    while filled < nbytes:
        came = connection.recv_into(view[filled:])
        if not came:
            raise ConnectionError("the other end is gone")
        filled += came
    return found


# ---------------------------------------------------------------- a node


def _connected(port: int, root: bytes) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=root.decode())
    plain = socket.create_connection(("localhost", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def _passes_on(port: int, root: bytes, inner: socket.socket) -> None:
    """The process of a node that has the connection, where another one computes."""
    keep_warm()
    outer = _connected(port, root)
    while True:
        head = read(outer, ASK.size)
        nbytes = ASK.unpack(head)[0]
        inner.sendall(head + read(outer, nbytes))
        if not nbytes:
            return
        nbytes, spent, each = HEAD.unpack(read(inner, HEAD.size))
        came = read(inner, nbytes)
        outer.sendall(HEAD.pack(nbytes, spent + time.process_time(), each))
        outer.sendall(came)


def rows_of(port: int, root: bytes, file: Path, inner: socket.socket | None = None) -> None:
    keep_warm()  # as a node does
    held = np.load(file)
    X, y, edges, count, units, packs = (held[name] for name in ("X", "y", "edges", "count", "units", "packs"))
    largest = tuple(scales.largest(b, u) for b, u in zip(_OBJECTIVE.bounds(), units[0].tolist(), strict=True))
    bins = Binning(edges, count, np.zeros(len(count), np.int64))
    base = _OBJECTIVE.margin(held["base"])
    work, train = Workspace(lambda: [X], len(X), bins, base), np.arange(len(X), dtype=np.int32)
    connection = _connected(port, root) if inner is None else inner

    def begin() -> None:
        work.begin(1, [train], train, (largest[0], largest[1]))

        def some(low: int, high: int) -> None:
            both = _OBJECTIVE.gradients(work.margins[low:high], y[low:high])
            round_pairs(*both, np.ldexp(1.0, -units), train[low:high], work.pairs)

        at_once((lambda low=low: some(low, min(low + _ROWS, len(X)))) for low in range(0, len(X), _ROWS))

    while True:
        nbytes, splits, nodes, adds = ASK.unpack(read(connection, ASK.size))
        if not nbytes:
            return
        told = np.frombuffer(read(connection, nbytes), np.int32)
        parts = np.split(told[: 5 * splits], 5)
        wanted, leaves = told[5 * splits :][:nodes], told[5 * splits + nodes :].view(np.float32)
        if splits:
            right = np.zeros((splits, 0), np.uint8)
            work.split(Splits(*parts[:4], parts[4].astype(np.uint8), right), "")
        if adds:
            work.add_leaves(leaves)
        if adds or not splits:
            begin()
        if packs:
            sums = work.packed(wanted, np.zeros(0, np.int32))[0].reshape(-1)
            connection.sendall(HEAD.pack(sums.nbytes, time.process_time(), 8))
            connection.sendall(sums)
            continue
        sums = work.histograms(wanted).reshape(-1)
        low, above = np.empty(len(sums), np.int32), np.empty(len(sums), np.int8)
        each = 5 if _narrow(sums, low, above) else 4
        connection.sendall(HEAD.pack(each * len(sums), time.process_time(), each))
        connection.sendall(low)
        if each == 5:
            connection.sendall(above)


# ---------------------------------------------------------------- the coordinator


@dataclass(frozen=True, slots=True)
class Level:
    """What is asked of all nodes: the number of the tree, the splits found last, the nodes to add up, the values of the
    leaves of a tree that is done, and of how many numbers the sums are."""

    tree: int
    splits: Splits | None
    built: Array
    adds: Array
    numbers: int

    def counts(self) -> tuple[int, int, int]:
        """Of how many splits, nodes and leaves it is."""
        return 0 if self.splits is None else len(self.splits.node), len(self.built), len(self.adds)

    def told(self) -> bytes:
        """All of these, in four bytes each."""
        splits = self.splits
        of = [] if splits is None else [splits.node, splits.left, splits.feature, splits.bin, splits.default_left]
        parts = [*(np.asarray(part, np.int32) for part in of), self.built, self.adds]
        return b"".join(part.tobytes() for part in parts)


def add_reply(total: Array, came: Any, each: int) -> None:
    """Adds what came of a node, in so many bytes a number."""
    if each == 8:
        total += np.frombuffer(came, np.int64)
        return
    above = np.frombuffer(came, np.int8, offset=4 * len(total)) if each == 5 else np.zeros(0, np.int8)
    add(total, np.frombuffer(came, np.int32, len(total)), above)


class Spent:
    """Seconds and processor time from a tree on."""

    def __init__(self, nodes: int) -> None:
        self.bytes, self.of_nodes = 0, [0.0] * nodes  # until now
        self._since = (0.0, 0.0, 0.0, 0)

    def begin(self) -> None:
        """It counts from here."""
        self._since = time.perf_counter(), time.process_time(), sum(self.of_nodes), self.bytes

    def per_tree(self, trees: int) -> dict[str, float]:
        """What :func:`per_tree` returns."""
        began, own, nodes, sent = self._since
        return {
            "seconds": (time.perf_counter() - began) / trees,
            "cpu_coordinator": (time.process_time() - own) / trees,
            "cpu_nodes": (sum(self.of_nodes) - nodes) / trees,
            "bytes": (self.bytes - sent) / trees / len(self.of_nodes),
        }


class _Sums:
    """What comes of all nodes, added up."""

    def __init__(self, connections: list[ssl.SSLSocket], spent: Spent) -> None:
        self.connections, self.spent = connections, spent
        self._ready = selectors.DefaultSelector()
        for number, connection in enumerate(connections):
            self._ready.register(connection, selectors.EVENT_READ, number)

    def of(self, numbers: int) -> Array:
        total, left = np.zeros(numbers, np.int64), set(range(len(self.connections)))
        while left:
            for key, _ in self._ready.select():
                connection: Any = key.fileobj
                nbytes, self.spent.of_nodes[key.data], each = HEAD.unpack(read(connection, HEAD.size))
                add_reply(total, read(connection, nbytes), each)
                self.spent.bytes += nbytes
                left.discard(key.data)
        return total


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all know before the first tree; the rows of node ``k`` lie in the file ``k``.npz of the folder."""

    bins: Binning
    units: Array
    packs: bool

    @classmethod
    def of(cls, X: Array, y: Array, nodes: int, folder: Path) -> Prepared:
        """Bins that are quantiles of all rows, and scales by which no sum of a bin is too large."""
        edges = [np.unique(np.quantile(column, np.arange(1, 256) / 256).astype(np.float32)) for column in X.T]
        bins, base = Binning.of(edges), _OBJECTIVE.base(np.array([float(y.sum())]), float(len(y)))
        fullest = max(int(np.bincount(column).max()) for column in bins.put([X], len(X)).T)
        packs = scales.packable(_OBJECTIVE.bounds(), fullest)
        units = np.array([packs or [scales.unit(bound) for bound in _OBJECTIVE.bounds()]], np.int32)
        for k in range(nodes):
            own = {"X": X[k::nodes], "y": y[k::nodes], "edges": bins.edges, "count": bins.count, "base": base}
            np.savez(folder / f"{k}.npz", **own, units=units, packs=packs is not None)
        return cls(bins, units, packs is not None)

    def levels(self, trees: int, depth: int) -> Generator[Level, Array, None]:
        """What is asked for so many trees, one after the other. It is sent the sums of all nodes together."""
        bins, width = self.bins, int(self.bins.starts[-1])
        rules, worth = Rules(shape=growing.Shape(max_depth=depth)), np.ldexp(1.0, self.units)
        splits, adds, nothing = None, np.zeros(0, np.float32), np.zeros(0, np.float32)
        for tree in range(trees):
            now: Growing = growing.roots(1, bins)
            while not now.done:
                shape = (len(now.built), width) if self.packs else (len(now.built), width, 2)
                found = (yield Level(tree, splits, now.built, adds, math.prod(shape))).reshape(shape)
                now = growing.grown(now, packed.Sums.of(found), worth, bins, rules, tree)
                splits, adds = now.splits, nothing
            grown, home = growing.finished(now, worth, bins, rules)
            adds = grown.value[home]


def per_tree(
    X: Array, y: Array, nodes: int, trees: int, depth: int, apart: bool = False, warm: int = 2
) -> dict[str, float]:
    """Of a tree after the first ``warm`` ones: ``seconds``, processor time ``cpu_coordinator`` and ``cpu_nodes`` of all
    nodes together, and the ``bytes`` that a node sends.

    Args:
        apart: whether each node has a process for its rows and another one for its connection, as it has in a
            federation: who speaks with the outside sees no data. What they tell each other passes a Unix socket.
    """
    key, certificate, root = _identity()
    listening = socket.create_server(("localhost", 0), backlog=nodes)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="hanse-floor-") as folder, listening:
        prepared = Prepared.of(X, y, nodes, Path(folder))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, pem in (("cert", certificate), ("key", key)):
            Path(folder, name).write_bytes(pem)
        context.load_cert_chain(Path(folder, "cert"), Path(folder, "key"))
        started, connections = [], list[ssl.SSLSocket]()
        for k in range(nodes):
            port, ends = listening.getsockname()[1], socket.socketpair() if apart else ()
            if ends:
                started.append(spawn.Process(target=_passes_on, args=(port, root, ends[0]), daemon=True))
                started[-1].start()
            file = Path(folder, f"{k}.npz")
            started.append(spawn.Process(target=rows_of, args=(port, root, file, *ends[1:]), daemon=True))
            started[-1].start()
            for end in ends:
                end.close()
        for _ in range(nodes):
            plain, _ = listening.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(context.wrap_socket(plain, server_side=True))
        try:
            spent = Spent(nodes)
            sums = _Sums(connections, spent)
            growth, found, began = prepared.levels(warm + trees, depth), None, False
            while (level := following(growth, found)) is not None:
                if level.tree == warm and not began:
                    began = True
                    spent.begin()
                said = level.told()
                for connection in connections:
                    connection.sendall(ASK.pack(len(said), *level.counts()) + said)
                found = sums.of(level.numbers)
            taken = spent.per_tree(trees)
            for connection in connections:
                connection.sendall(ASK.pack(0, 0, 0, 0))
                connection.close()
        finally:
            for process in started:
                process.join(5)
                if process.is_alive():
                    process.kill()
    return taken


def following(growth: Generator[Level, Array, None], found: Array | None) -> Level | None:
    """The next level, where these are the sums of the last one; None: all trees are grown."""
    try:
        return next(growth) if found is None else growth.send(found)
    except StopIteration:
        return None
