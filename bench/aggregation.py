"""How fast contributions add up: GB/s of the weighted float64 mean, against a plain memory copy.

The copy moves the same bytes once, in blocks of the same size, on one core; ``ratio`` is the time of
the mean over the time of the copy. ``where`` says where the contributions lay: in memory, or in the
spool files that the coordinator uses for large ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from _report import Report, numbers, sizes

from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine
from hanse.messages import Assembler, Memory, Message, Record, Spool, frames


def contributions(nodes: int, nbytes: int, where: str) -> Contributions:
    found = []
    for k in range(nodes):
        x = np.random.default_rng(k).random(nbytes // 4, np.float32)
        assembler = Assembler(Memory if where == "memory" else Spool)
        message = Message("reply", str(k), str(k), Record({}, {"a.x": x}))
        arrived = [assembler.feed(frame) for frame in frames(message, k)][-1]
        assert isinstance(arrived, Message)
        found.append((Answer(f"n{k:03}", 100.0 + k, {}, {}, 0), arrived.body))
    return Contributions(tuple(found), {}, Combine.SUM)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=numbers, default=[2, 10, 20])
    parser.add_argument("--bytes", type=sizes, default=[10 << 20, 50 << 20], help="per contribution, e.g. 10M,50M")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    columns = ["where", "nodes", "bytes", "seconds", "gb_per_second", "copy_gb_per_second", "ratio"]
    report = Report(columns, options.json, ["weighted mean of float32 contributions, accumulated in float64"])
    for nodes in options.nodes:
        for nbytes in options.bytes:
            source, sink = np.ones(nbytes, np.uint8), np.empty(nbytes, np.uint8)

            def copy(source: np.ndarray = source, sink: np.ndarray = sink, nodes: int = nodes) -> None:
                for _ in range(nodes):
                    np.copyto(sink, source)

            for where in ("memory", "spool"):
                gathered = contributions(nodes, nbytes, where)
                total = nodes * nbytes
                seconds = median_seconds(gathered.mean, options.repeats)
                floor = median_seconds(copy, options.repeats)
                report.add(
                    {
                        "where": where,
                        "nodes": nodes,
                        "bytes": nbytes,
                        "seconds": seconds,
                        "gb_per_second": total / seconds / 1e9,
                        "copy_gb_per_second": total / floor / 1e9,
                        "ratio": seconds / floor,
                    }
                )


if __name__ == "__main__":
    main()
