"""Seconds per round on each way that messages can travel, in one table: in one process, over gRPC with mutual TLS,
through a folder, over Flower where ``HANSE_FLOWER`` says where that is (docs/engines.md), and to actors of a Ray
cluster of this machine. Then of 1,000 virtual sites that train in such actors (``virtual``), beside Flower's own
simulation with as many, where ``--flower-simulation`` names the Python of an environment with
``flwr[simulation]==1.42.0``.

The probe algorithm with real processes (``local`` is a simulation in this one, ``ray`` one with as many actors as
nodes): a round is what the way itself costs, with gate, worker, sum, checkpoint and record. ``floor_seconds`` is
measured in the same run: of gRPC a bare stream without TLS that moves and sums the same bytes; of the folder the same
files, written one after the other to the same disk with ``fsync`` and renamed, as many in a row as a round has (a
request, then its reply; nodes write side by side). ``ratio`` is the median round over it. The folder is on one disk:
what synchronises it adds its own time to each of the two.

Of the virtual sites each trains in every round: a linear classifier of 30 columns, on 100 rows of its own, one pass of
plain SGD in batches of 20 (Flower's app in NumPy, which is the lighter of the two). A cluster of this machine is
started for each. Rounds are timed from the second on; ``whole_seconds`` is what is waited for from the call to the
result, with the start of the cluster, the agreement on labels, scales and the rest that Flower's app has none of, the
first round, and the end of the cluster, but without the imports of the program itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _floor import seconds_per_round
from _processes import spent
from _report import Report, numbers, sizes
from _runs import join, one_run, periods, probe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402

_FILE_BYTES = 1 << 20  # of the transport
ROWS, COLUMNS, BATCH = 100, 30, 20  # of a virtual site, as in _flower_simulation.py


def local(nodes: int, nbytes: int, rounds: int, home: Path, **simulated: Any) -> float:
    import pandas

    import hanse

    sites = {f"node-{k:03}": pandas.DataFrame({"a": [1.0, 2.0]}) for k in range(nodes)}
    with hanse.simulate(sites, **simulated) as federation:
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


def ray(nodes: int, nbytes: int, rounds: int, home: Path) -> float:
    return local(nodes, nbytes, rounds, home, processes=nodes, cluster="local")


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


def cluster(actors: int, sites: int, rounds: int) -> tuple[float, float, float]:
    """Of Hanse on Ray the median seconds and mean processor seconds of a round, and the seconds of the whole."""
    import numpy as np

    import hanse

    def table(number: int) -> dict[str, Any]:
        rng = np.random.default_rng(number)
        columns = {f"x{i:02}": rng.normal(size=ROWS) for i in range(COLUMNS)}
        return {**columns, "y": np.where(rng.integers(0, 2, ROWS), "ill", "well")}

    asked = {"model": "sgd_classifier", "target": "y", "sample_id_column": None, "rounds": rounds + 1}
    light = {"local_epochs": 1, "batch_size": BATCH, "learning_rate": 0.1, "test_fraction": 0.0}
    at: dict[int, float] = {}

    def heard(update: Any) -> None:
        if update.step is not None and update.step.round is not None:
            at[update.step.round] = spent(os.getpid())

    tables = {f"site-{k:04}": table(k) for k in range(sites)}
    began = time.perf_counter()
    with hanse.simulate(tables, processes=actors, cluster="local") as federation:
        result = federation.experiment(**asked, **light).propose().wait(progress=False, on_update=heard)
    whole = time.perf_counter() - began
    found = [step.seconds for step in result.rounds if step.round is not None and 1 < step.round <= rounds + 1]
    return statistics.median(found), (at[rounds + 1] - at[1]) / rounds, whole


def flower_simulation(python: str, actors: int, sites: int, rounds: int) -> tuple[float, float, float]:
    """The same of Flower's own, of as many rounds."""
    program = [python, str(Path(__file__).with_name("_flower_simulation.py")), *map(str, (sites, actors, rounds + 1))]
    said = subprocess.run(program, capture_output=True, text=True, timeout=3000)
    lines = [line for line in said.stdout.splitlines() if line.startswith("FOUND ")]
    if len(lines) != 2:
        raise SystemExit(f"Flower's simulation gave nothing: {said.stderr[-2000:]}")
    found, whole = (json.loads(line.removeprefix("FOUND ")) for line in lines)
    return statistics.median(found["seconds"][1:]), found["processor_seconds"] / rounds, whole["whole"]


WAYS = {
    "local": local,
    "grpc": processes,
    "folder": folder,
    "flower": flower,
    "ray": ray,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known, lacking = (*WAYS, "virtual"), dict[str, str]()
    if not os.environ.get("HANSE_FLOWER"):
        lacking["flower"] = "HANSE_FLOWER does not say where the programs of Flower 1.42 are (docs/engines.md)"
    if find_spec("ray") is None:
        lacking |= dict.fromkeys(("ray", "virtual"), "Ray is not installed (docs/engines.md)")
    parser.add_argument("--ways", default=",".join(way for way in known if way not in lacking))
    parser.add_argument("--nodes", type=numbers, default=[2])
    parser.add_argument("--bytes", type=sizes, default=[1 << 10, 10 << 20], help="e.g. 1K,10M")
    parser.add_argument(
        "--rounds", type=int, default=0, help="0: 50 for small models, 10 for large ones and over Flower"
    )
    parser.add_argument("--flower-simulation", metavar="PYTHON", help="of an environment with flwr[simulation]")
    parser.add_argument("--sites", type=int, default=1000, help="virtual ones, in actors of Ray")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    ways = options.ways.split(",")
    if unknown := sorted(set(ways) - set(known)):
        parser.error(f"there is no way {', '.join(unknown)}; there are {', '.join(known)}")
    for way in lacking.keys() & set(ways):
        parser.error(lacking[way])
    report = Report(["way", "nodes", "bytes", "rounds", "seconds_per_round", "floor_seconds", "ratio"], options.json)
    for nodes in options.nodes:
        for nbytes in options.bytes:
            for way in (way for way in ways if way in WAYS):
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
    if "virtual" in ways:
        simulated(options)


def simulated(options: argparse.Namespace) -> None:
    """Virtual sites in actors of Ray."""
    columns = ["engine", "virtual_sites", "actors", "rounds"]
    measured = ["seconds_per_round", "processor_seconds_per_round", "whole_seconds"]
    report = Report([*columns, *measured, "times_hanse", "whole_times_hanse"], options.json)
    rounds = options.rounds or 3
    about = {"virtual_sites": options.sites, "actors": options.actors, "rounds": rounds + 1}

    def row(engine: str, found: tuple[float, float, float], than: tuple[float, float, float] | None = None) -> None:
        times = (found[0] / than[0], found[2] / than[2]) if than else (None, None)
        compared = {"times_hanse": times[0], "whole_times_hanse": times[1]}
        report.add({"engine": engine, **about, **dict(zip(measured, found, strict=True)), **compared})

    ours = cluster(options.actors, options.sites, rounds)
    row("hanse on Ray", ours)
    if options.flower_simulation:
        row("Flower on Ray", flower_simulation(options.flower_simulation, options.actors, options.sites, rounds), ours)


if __name__ == "__main__":
    main()
