"""Seconds per round and peak memory, over gRPC with mutual TLS, with all defaults.

One coordinator and N nodes as real processes; the probe algorithm (each node returns an array of the
size that it was sent), so a round is what the federation itself costs: send, gate, worker, reply,
gather, sum, checkpoint, record. In the same run a bare gRPC stream without TLS moves and sums the same
bytes (``floor_seconds``); ``ratio`` is the median round over it.

Memory: peak resident size of the coordinator above its idle size, and of the largest node with its worker.
``models_above_idle`` is told of large models only: what a round holds for itself (some megabytes) is many small
ones. ``start_seconds``: from the last consent to the first task's arrival at a node, as far as the records show
it (from the run's start to its first round's start); ``end_seconds``: from the last reply to ``completed``,
with the sum, the last record and the stored result. ``cpu_seconds_per_task``: of all processes together (user
and system), so it does not depend on what else the machine does; a run of a few rounds is taken off, and with
it the cost of a run's start and end.

With ``--against CHECKOUT`` the same measurement is made there too, with its own Python, in turn (A B A B ...),
and the ratios are taken pair by pair: another load of the machine falls on both. What counts is their median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from _against import columns as ratio_columns
from _against import ratios
from _floor import seconds_per_round
from _processes import cpu_seconds, family, peak_mb, reset_peak
from _report import Report, numbers, sizes
from _runs import join, one_run, periods, probe, when

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402

SHORT = 3  # rounds of a run that is there for its start and end


def last_reply(step: dict[str, Any]) -> float:
    """When the last node's reply was in; all were asked when the step began."""
    return when(step["started"]) + max(node["seconds"] for node in step["participants"].values())


def measure(nodes: int, nbytes: int, rounds: int, home: Path) -> dict[str, Any]:
    with Federation(home) as federation:
        join(federation, nodes)
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
        one_run(ask, probe(nodes, SHORT, bytes=1024))  # workers start, code is loaded
        pid = federation.coordinator.pid
        idle = psutil.Process(pid).memory_info().rss / 1e6
        idle_node = max(
            sum(psutil.Process(p).memory_info().rss for p in family(process.pid)) / 1e6
            for process in federation.nodes.values()
        )
        reset_peak(pid)  # idle is before any large model was there
        before = cpu_seconds(federation)
        one_run(ask, probe(nodes, SHORT, bytes=nbytes))
        start_and_end = cpu_seconds(federation) - before
        before = cpu_seconds(federation)
        done = one_run(ask, probe(nodes, rounds, bytes=nbytes))
        spent = cpu_seconds(federation) - before - start_and_end
        recorded, session = done["rounds"], done["session"]
        node_peak = max(sum(peak_mb(p) for p in family(process.pid)) for process in federation.nodes.values())
        return {
            "seconds_per_round": statistics.median(periods(r["started"] for r in recorded)),
            "cpu_seconds_per_task": spent / (nodes * (rounds - SHORT)) if rounds > SHORT else None,
            "coordinator_peak_mb": peak_mb(pid),
            "coordinator_idle_mb": idle,
            "models_above_idle": (peak_mb(pid) - idle) * 1e6 / nbytes if nbytes >= 10 << 20 else None,
            "node_peak_mb": node_peak,
            "node_idle_mb": idle_node,
            "start_seconds": when(recorded[0]["started"]) - when(session["started_at"]),
            "end_seconds": when(session["ended_at"]) - last_reply(recorded[-1]),
        }


COMPARED = ("seconds_per_round", "cpu_seconds_per_task", "coordinator_peak_mb", "node_peak_mb")


def elsewhere(checkout: Path, nodes: int, nbytes: int, rounds: int) -> dict[str, Any]:
    """The row that the benchmark of ``checkout`` gives, in a process of its own."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), str(checkout / "bench" / "rounds.py"), "--json", "--nodes", str(nodes)]
    command += ["--bytes", str(nbytes), "--rounds", str(rounds), "--largest", str(nodes * nbytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"the benchmark in {checkout} failed: {done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def against(checkout: Path, nodes: int, nbytes: int, rounds: int, pairs: int) -> dict[str, Any]:
    """Ratios of this checkout over the other."""

    def measured(place: Path) -> dict[str, Any]:
        return elsewhere(place, nodes, nbytes, rounds)

    found = ratios(measured, checkout, COMPARED, pairs)
    return {"nodes": nodes, "bytes": nbytes, "rounds": rounds, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=numbers, default=[2, 10, 50])
    parser.add_argument("--bytes", type=sizes, default=[1 << 10, 10 << 20, 100 << 20], help="e.g. 1K,10M,100M")
    parser.add_argument("--rounds", type=int, default=0, help="0: 50 for small models, 10 for large ones")
    parser.add_argument(
        "--largest", type=sizes, default=[2 << 30], help="leave out what moves more than this each way in a round"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--against", type=Path, help="another checkout with its .venv: give ratios to it instead")
    parser.add_argument("--pairs", type=int, default=5, help="with --against: so many runs of each, in turn")
    options = parser.parse_args()
    compared = ["nodes", "bytes", "rounds", "pairs", *ratio_columns(COMPARED)]
    columns = [
        "nodes",
        "bytes",
        "seconds_per_round",
        "floor_seconds",
        "ratio",
        "cpu_seconds_per_task",
        "rounds",
        "coordinator_peak_mb",
        "models_above_idle",
        "node_peak_mb",
        "node_idle_mb",
        "start_seconds",
        "end_seconds",
    ]
    report = Report(compared if options.against else columns, options.json)
    for nodes in options.nodes:
        for nbytes in options.bytes:
            if nodes * nbytes > options.largest[0]:
                continue
            rounds = options.rounds or (50 if nbytes <= 1 << 20 else 10)
            if options.against:
                report.add(against(options.against.resolve(), nodes, nbytes, rounds, options.pairs))
                continue
            with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
                found = measure(nodes, nbytes, rounds, Path(folder))
            floor = seconds_per_round(nodes, nbytes, rounds)
            row = {"nodes": nodes, "bytes": nbytes, "rounds": rounds, "floor_seconds": floor, **found}
            row["ratio"] = row["seconds_per_round"] / floor
            report.add(row)


if __name__ == "__main__":
    main()
