"""Models of gigabytes, and lines that are cut.

``round``: a federation of real processes whose rounds send so many bytes each way (the probe), beside a gRPC stream
that does nothing but move and add up the same bytes, with TLS, and writes each round's sum to disk beside the next
round (``ratio`` to ``floor_seconds``); ``bare_seconds`` is that stream without TLS, whose bytes never see a disk.
The first rounds, whose memory is new, count for neither: ``seconds`` is the shortest of those between two rounds. Of
the coordinator: ``own_mb``, the most memory above idle that the system could not take back from it (anonymous pages,
looked at every 20 ms), and ``resident_mb``, the peak of all its pages above idle: those of files are the system's,
which writes them out where memory is short. A node and its worker need one model together where it is over 1 GiB (the
probe's answer is made where what was asked lay), so have the memory for them all. Nothing is compressed on the line.
``processor_s``: of coordinator, nodes and workers, for each round.

``line``: one message over gRPC with TLS, through a line of so many megabits per second, undisturbed and cut so many
times; ``ratio`` is the time with cuts over the time without, ``passed`` the bytes that went over the line in parts of
the message's.

    python bench/large.py [--bytes 4G] [--nodes 2] [--line-bytes 750M] [--mbit 50] [--cuts 10] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _floor import seconds_per_round
from _narrow import Narrow
from _processes import family, own_seconds, peak_mb, reset_peak, resident_mb
from _report import Report, size
from _runs import one_run, periods, probe

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "transports")]
from grpc_federation import Federation as OverGrpc  # noqa: E402

from demo.federation import Federation  # noqa: E402
from hanse.messages import Message, Record, Spool  # noqa: E402
from hanse.transport import Progress  # noqa: E402


def own_mb(pid: int) -> float:
    """Memory of a process that the system cannot take back, in MB."""
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("RssAnon:"):
            return int(row.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel tells no anonymous memory")


class Watch:
    """The most that a process has of its own, while the block lasts."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over, self.most = pid, threading.Event(), own_mb(pid)
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, own_mb(self._pid))


def measure(nodes: int, nbytes: int, rounds: int, home: Path) -> dict[str, Any]:
    """Rounds of a federation."""
    room = str(-(-2 * nbytes >> 20) + 1024)
    with Federation(home) as federation:
        for k in range(nodes):
            allowed = {"standing": "accept-allowed", "limits.message_mb": room, "limits.memory_mb": room}
            federation.enrol(f"node-{k}", **allowed)
            federation.start_node(f"node-{k}")
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
        one_run(ask, probe(nodes, 3, bytes=1024))  # workers start, code is loaded
        pid = federation.coordinator.pid
        own, resident = own_mb(pid), resident_mb(pid)
        reset_peak(pid)
        before = processor_s(federation)
        with Watch(pid) as watch:
            done = one_run(ask, probe(nodes, rounds, bytes=nbytes), 3600)
        used = {name: (after - before[name]) / rounds for name, after in processor_s(federation).items()}
        return {
            "seconds": min(periods(step["started"] for step in done["rounds"])),
            "own_mb": watch.most - own,
            "resident_mb": peak_mb(pid) - resident,
            "processor_s": " + ".join(f"{seconds:.1f}" for seconds in used.values()),
        }


def processor_s(federation: Federation) -> dict[str, float]:
    """Of the coordinator, of all nodes and of all workers until now, in seconds."""
    workers = [pid for node in federation.nodes.values() for pid in family(node.pid)[1:]]
    groups = {"coordinator": [federation.coordinator.pid], "nodes": [n.pid for n in federation.nodes.values()]}
    return {name: sum(map(own_seconds, pids)) for name, pids in {**groups, "workers": workers}.items()}


async def over_a_line(nbytes: int, mbit_s: float, cuts: int, home: Path) -> tuple[float, float]:
    """Seconds of a message to a node and its short answer, and the bytes that passed for each of it."""

    async def work(peer: str, asked: Message, progress: Progress) -> Message:
        return Message("reply", asked.id, body=Record({"got": asked.body.nbytes}))

    async with OverGrpc(home) as federation:
        line = Narrow(int(federation.address.rpartition(":")[2]), mbit_s)
        await line.open()
        federation.address = line.address
        await federation.node("a", work, allocate=lambda size: Spool(size, home))
        began = time.monotonic()
        body = Record({}, {"w": np.zeros(nbytes, "u1")})
        asked = asyncio.create_task(federation.coordinator.request("a", Message("task", "m", body=body)))
        for k in range(cuts):
            while line.passed < nbytes * (k + 1) / (cuts + 1):
                await asyncio.sleep(0.01)
            line.cut()
        assert (await asked).body.data["got"] == nbytes
        seconds = time.monotonic() - began
        await line.close()
    return seconds, line.passed / nbytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=size, default=4 << 30, help="of the model; 0: no rounds")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--line-bytes", type=size, default=750 << 20, help="of the message over the line; 0: none")
    parser.add_argument("--mbit", type=float, default=50.0, help="megabits per second of the line")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    measured = ["own_mb", "resident_mb", "processor_s", "passed"]
    columns = ["what", "bytes", "seconds", "floor_seconds", "bare_seconds", "ratio", *measured]
    report = Report(columns, given.json)
    if given.line_bytes:
        with tempfile.TemporaryDirectory(prefix="hanse-large-") as folder:
            whole, _ = asyncio.run(over_a_line(given.line_bytes, given.mbit, 0, Path(folder)))
            cut, passed = asyncio.run(over_a_line(given.line_bytes, given.mbit, given.cuts, Path(folder)))
        what = f"line, {given.cuts} cuts"
        row = {"what": what, "bytes": given.line_bytes, "seconds": cut, "floor_seconds": whole, "passed": passed}
        report.add({name: None for name in columns} | row | {"ratio": cut / whole})
    if given.bytes:
        with tempfile.TemporaryDirectory(prefix="hanse-large-") as folder:
            found = measure(given.nodes, given.bytes, given.rounds, Path(folder))
            floor = seconds_per_round(given.nodes, given.bytes, given.rounds, tls=True, folder=Path(folder))
            bare = seconds_per_round(given.nodes, given.bytes, given.rounds)
        row = {"what": f"round, {given.nodes} nodes", "bytes": given.bytes, "floor_seconds": floor, **found}
        report.add({name: None for name in columns} | row | {"bare_seconds": bare, "ratio": found["seconds"] / floor})


if __name__ == "__main__":
    main()
