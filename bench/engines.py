"""Seconds per round on each way that messages can travel: in one process, over gRPC with mutual TLS, through a folder,
and over Flower where ``HANSE_FLOWER`` says where that is (docs/engines.md). Ray is in ``bench/simulation.py``.

The probe algorithm with real processes (``local`` is a simulation in this one): a round is what the way itself costs,
with gate, worker, sum, checkpoint and record. ``floor_seconds`` is measured in the same run: of gRPC a bare stream
without TLS that moves and sums the same bytes; of the folder the same files, written one after the other to the same
disk with ``fsync`` and renamed, as many in a row as a round has (a request, then its reply; nodes write side by
side). ``ratio`` is the median round over it. The folder is on one disk: what synchronises it adds its own time to
each of the two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _floor import seconds_per_round
from _report import Report, numbers, sizes
from _runs import join, one_run, periods, probe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402

_FILE_BYTES = 1 << 20  # of the transport


def local(nodes: int, nbytes: int, rounds: int, home: Path) -> float:
    import pandas

    import hanse

    sites = {f"node-{k:03}": pandas.DataFrame({"a": [1.0, 2.0]}) for k in range(nodes)}
    with hanse.simulate(sites) as federation:
        result = federation.experiment(**{**probe(nodes, rounds, bytes=nbytes), "target": ""}).run(progress=False)
        return statistics.median(periods(step.started for step in result.rounds))


def processes(nodes: int, nbytes: int, rounds: int, home: Path, *arguments: str) -> float:
    with Federation(home, *arguments) as federation:
        join(federation, nodes)
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
        one_run(ask, probe(nodes, 3, bytes=1024))  # workers start, code is loaded
        done = one_run(ask, probe(nodes, rounds, bytes=nbytes))
        return statistics.median(periods(r["started"] for r in done["rounds"]))


def folder(nodes: int, nbytes: int, rounds: int, home: Path) -> float:
    return processes(nodes, nbytes, rounds, home, "--listen", f"folder://{home}/shared")


def flower(nodes: int, nbytes: int, rounds: int, home: Path) -> float:
    return processes(nodes, nbytes, rounds, home, "--listen", "flower://127.0.0.1:0")


def files_floor(nbytes: int, rounds: int, home: Path) -> float:
    """Seconds to write, sync and rename what one node's exchange writes, one file after the other."""
    home.mkdir(parents=True, exist_ok=True)
    parts = [min(_FILE_BYTES, nbytes - start) for start in range(0, nbytes, _FILE_BYTES)] * 2
    contents = {size: os.urandom(size) for size in set(parts)}
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for number, size in enumerate(parts):
            with (home / f".{number}").open("wb") as file:
                file.write(contents[size])
                file.flush()
                os.fsync(file.fileno())
            os.replace(home / f".{number}", home / f"{number}")
        found.append(time.perf_counter() - began)
    return statistics.median(found)


WAYS = {
    "local": local,
    "grpc": processes,
    "folder": folder,
    "flower": flower,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    away = () if os.environ.get("HANSE_FLOWER") else ("flower",)
    parser.add_argument("--ways", default=",".join(way for way in WAYS if way not in away))
    parser.add_argument("--nodes", type=numbers, default=[2])
    parser.add_argument("--bytes", type=sizes, default=[1 << 10, 10 << 20], help="e.g. 1K,10M")
    parser.add_argument(
        "--rounds", type=int, default=0, help="0: 50 for small models, 10 for large ones and over Flower"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    ways = options.ways.split(",")
    if unknown := sorted(set(ways) - set(WAYS)):
        parser.error(f"there is no way {', '.join(unknown)}; there are {', '.join(WAYS)}")
    if set(away) & set(ways):
        parser.error("HANSE_FLOWER does not say where the programs of Flower 1.42 are (docs/engines.md)")
    report = Report(["way", "nodes", "bytes", "rounds", "seconds_per_round", "floor_seconds", "ratio"], options.json)
    for nodes in options.nodes:
        for nbytes in options.bytes:
            for way in ways:
                rounds = options.rounds or (50 if nbytes <= 1 << 20 and way != "flower" else 10)
                with tempfile.TemporaryDirectory(prefix="hanse-bench-") as place:
                    seconds = WAYS[way](nodes, nbytes, rounds, Path(place) / "f")
                    floor = None
                    if way == "grpc":
                        floor = seconds_per_round(nodes, nbytes, rounds)
                    elif way == "folder":
                        floor = files_floor(nbytes, rounds, Path(place) / "floor")
                row = {"way": way, "nodes": nodes, "bytes": nbytes, "rounds": rounds, "seconds_per_round": seconds}
                report.add({**row, "floor_seconds": floor, "ratio": seconds / floor if floor else None})


if __name__ == "__main__":
    main()
