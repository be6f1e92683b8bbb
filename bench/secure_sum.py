"""Seconds and processor time of a secure sum beside a plain one, over gRPC with mutual TLS, with all defaults.

One coordinator and N nodes as real processes; the probe algorithm (each node returns an array of the size that it
was sent). The same nodes do rounds that are gathered plainly, and rounds that are gathered by ``secure`` (words of 64
bits, or as ``--bits`` says), in turn (plain, secure, plain, ...). ``ratio`` is the median of the seconds per round
over that of the plain rounds; ``cpu_ratio`` the same of the processor time of all processes together, which does not
depend on what else the machine does. ``bytes_ratio``: what nodes send, with keys and shares. Plain numbers are
float64, so a word of 64 bits has the same bytes.

The last lines are exact boosting (``xgboost``) gathered in both ways by nodes that have rows, at a shape at which trees
are worth hiding, with all defaults, so a node may be lost: ``seconds_per_round`` is then that of a tree, less a short
run; ``rows`` are those of all nodes.
``limit`` is what a ratio is to stay under, and ``bytes_limit`` the same of the bytes.

``flower_seconds`` is a published figure and not measured here: SecAgg+ of Flower at 1e6 parameters and 10 nodes (about
40 s a round on two cores, beside 12.7 s plain).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _processes import cpu_seconds
from _report import Report, numbers, sizes
from _runs import join, one_run, periods, probe, when
from rounds import SHORT

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402
from demo.federation import hanse as command  # noqa: E402

FLOWER = {(10, 1_000_000): 40.0, (10, 1 << 20): 40.0}
SLOWER, SLOWER_TREES, MORE_BYTES = 1.5, 1.2, 1.05  # times the plain way
LARGE = 10_000_000  # parameters
FEATURES, DEPTH = 30, 6


def measure(nodes: int, parameters: int, rounds: int, turns: int, bits: list[int], home: Path) -> list[dict[str, Any]]:
    ways: dict[str, dict[str, Any]] = {"plain": {"gathering": "plain"}}
    for width in bits:
        ways[f"secure {width}"] = {"gathering": "secure", "secure_bits": width}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    took: dict[str, list[float]] = {way: [] for way in ways}
    sent: dict[str, float] = {}
    with Federation(home) as federation:
        join(federation, nodes)
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))

        def run(parameters: int, rounds: int, way: dict[str, Any]) -> list[dict[str, Any]]:
            settings = probe(nodes, rounds, bytes=8 * parameters, dtype="float64")
            found: list[dict[str, Any]] = one_run(ask, {**settings, "round_timeout_s": 600, **way}, 580)["rounds"]
            return found

        for way in ways.values():
            run(1000, SHORT, way)  # workers start, code is loaded
        for _ in range(turns):
            for name, way in ways.items():
                before = cpu_seconds(federation)
                run(parameters, SHORT, way)
                short = cpu_seconds(federation) - before
                before = cpu_seconds(federation)
                records = run(parameters, rounds, way)
                spent[name].append((cpu_seconds(federation) - before - short) / (rounds - SHORT))
                took[name] += periods(record["started"] for record in records)[1:]  # the first has the keys
                sent[name] = statistics.median(record["bytes_up"] for record in records[1:])
    rows = []
    for name in ways:
        row = {
            "nodes": nodes,
            "parameters": parameters,
            "gathering": name,
            "seconds_per_round": statistics.median(took[name]),
            "ratio": statistics.median(took[name]) / statistics.median(took["plain"]),
            "cpu_seconds_per_round": statistics.median(spent[name]),
            "cpu_ratio": statistics.median(spent[name]) / statistics.median(spent["plain"]),
            "bytes_ratio": sent[name] / sent["plain"],
            "flower_seconds": FLOWER.get((nodes, parameters)) if name != "plain" else None,
            "limit": SLOWER if name != "plain" and parameters >= LARGE else None,
            "bytes_limit": MORE_BYTES if name != "plain" and parameters >= LARGE // 10 else None,
        }
        rows.append(row)
    return rows


def trees(nodes: int, rows: int, rounds: int, turns: int, home: Path) -> list[dict[str, Any]]:
    """Seconds and processor time of a tree of exact boosting, plainly and in secure sums."""
    import polars as pl

    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=rows) > 0).astype(int)
    found: dict[str, list[tuple[float, float, float]]] = {"plain": [], "secure": []}
    with Federation(home) as federation:
        for k in range(nodes):
            place = federation.enrol(f"node-{k}", standing="accept-allowed")
            own = {f"x{i}": X[k::nodes, i] for i in range(FEATURES)}
            pl.DataFrame({**own, "y": y[k::nodes]}).write_parquet(home / f"{k}.parquet")
            command("node", "dataset", "add", str(home / f"{k}.parquet"), "--name", "rows", "--home", str(place))
        for name in [f"node-{k}" for k in range(nodes)]:
            federation.start_node(name)
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))

        def run(rounds: int, way: str) -> tuple[float, float, float]:
            settings = {
                "model_name": "xgboost",
                "target_column": "y",
                "num_rounds": rounds,
                "test_fraction": 0.0,
                "model_options": {"max_depth": DEPTH},
                "gathering": way,
                "min_available_nodes": nodes,
            }
            before = cpu_seconds(federation)
            records = one_run(ask, settings, 580)["rounds"]
            spent = cpu_seconds(federation) - before
            told = [record for record in records if record["round"]]
            return when(told[-1]["ended"]) - when(told[0]["started"]), spent, sum(r["bytes_up"] for r in told)

        for way in found:
            run(SHORT, way)  # workers start, code is compiled
        for _ in range(turns):
            for way, took in found.items():
                short, long = run(SHORT, way), run(rounds, way)
                took.append(tuple((b - a) / (rounds - SHORT) for a, b in zip(short, long, strict=True)))  # type: ignore[arg-type]
    of = {way: [statistics.median(column) for column in zip(*took, strict=True)] for way, took in found.items()}
    return [
        {
            "nodes": nodes,
            "rows": rows,
            "gathering": f"trees, {way}",
            "seconds_per_round": of[way][0],
            "ratio": of[way][0] / of["plain"][0],
            "cpu_seconds_per_round": of[way][1],
            "cpu_ratio": of[way][1] / of["plain"][1],
            "bytes_ratio": of[way][2] / of["plain"][2],
            "limit": SLOWER_TREES if way == "secure" else None,
        }
        for way in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=numbers, default=[10])
    parser.add_argument("--parameters", type=sizes, default=[1_000_000, 10_000_000], help="float64 numbers of a model")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--trees", type=int, default=20, help="of the boosting lines; 0: without them")
    parser.add_argument("--rows", type=int, default=500_000, help="of all nodes, of the boosting lines")
    parser.add_argument("--turns", type=int, default=2, help="so many runs of each way, in turn")
    parser.add_argument("--bits", type=numbers, default=[64], help="width of the words, as in 64,32")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    columns = ["gathering", "seconds_per_round", "ratio", "cpu_seconds_per_round", "cpu_ratio", "bytes_ratio", "limit"]
    report = Report(["nodes", "parameters", *columns, "bytes_limit", "flower_seconds"], options.json)
    for nodes in options.nodes:
        for parameters in options.parameters:
            with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
                for row in measure(nodes, parameters, options.rounds, options.turns, options.bits, Path(folder)):
                    report.add(row)
    if options.trees:
        report = Report(["nodes", "rows", *columns], options.json)
        with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
            for row in trees(4, options.rows, options.trees, options.turns, Path(folder)):
                report.add(row)


if __name__ == "__main__":
    main()
