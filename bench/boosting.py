"""Exact boosting over real nodes, against XGBoost on the pooled rows.

One coordinator and N nodes as real processes, over gRPC with mutual TLS, with all defaults; the rows are shared out
evenly. In the same run XGBoost (``hist``) learns the same trees of all rows in one process, with as many threads as the
nodes have together (the cores of this machine). ``ratio`` is the seconds of a tree over those of XGBoost; ``cpu_ratio``
the same of user and system time of all processes, which does not depend on what else the machine does. A run of two
trees is taken off both, and with it start, binning and end (``start_seconds``: of that run).

Of that time ``cpu_coordinator``, ``cpu_nodes`` and ``cpu_workers`` are seconds a tree of the coordinator, of the nodes'
connections and of their workers; ``cpu_counting`` is what of the workers' the compiled loops take by themselves, on one
core that has nothing else to do: all rows in bins that are as good as drawn, each node parted into halves and one of
these counted.

``floor_seconds`` and ``floor_cpu`` are those of a tree where the same loops in as many processes send the same sums
over bare TLS to one that adds them up and finds the splits, with nothing else of a federation (``_boosting_floor.py``).
``apart_seconds`` and ``apart_cpu`` are the same where a node is two processes, as it is in a federation: one with the
connection, and one with the rows that it passes sums on for. ``messages_seconds`` and ``messages_cpu`` are those where
what passes between them are Hanse's messages, and there is still nothing else of a federation
(``_boosting_messages.py``).

``bytes_per_tree`` is what one node sends a tree; ``asks_per_tree`` how often it is asked. ``binned_mb`` is one node's
data in bins of a byte a value. ``node_growth_mb`` is how far the resident size of a node's worker rises at its highest
above that of a worker which has learned of 2,000 rows and waits, with libraries
loaded and loops compiled; ``node_peak_mb`` is that highest size as a whole, and ``growth_ratio`` the growth over the
binned data. It says something where these are large: that is what the line of one node is for, whose table (8 bytes a
value) is larger than what a node keeps in memory. ``loss`` and ``pooled_loss`` are on rows that nobody learned of. The
last line has the second shape once more, over lines of ``--line-ms`` there and back between nodes and coordinator;
``echo_ms`` is what a bare echo of a kilobyte took over such a line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _boosting_messages
import numpy as np
from _boosting_floor import per_tree
from _line import echo_s, line_of
from _processes import family, own_seconds, peak_mb, reset_peak, resident_mb, spent
from _report import Report, numbers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hanse  # noqa: E402
from demo.federation import Federation  # noqa: E402
from demo.federation import hanse as command  # noqa: E402
from hanse.boosting.kernel import add_up, part  # noqa: E402
from hanse.boosting.scales import packable  # noqa: E402

SHORT = 2
WARM_ROWS = 2000
SHAPES = {  # rows, columns, whether these are 0 and 1, nodes, trees
    "500000x30": (500_000, 30, False, 4, 100),
    "32561x123": (32_561, 123, True, 2, 50),  # that of a9a
    "2000000x30": (2_000_000, 30, False, 1, 5),
}
SLOW = "32561x123"  # the shape that is learned over slow lines, too


def rows(n: int, columns: int, binary: bool) -> tuple[Any, Any]:
    """(n, columns) values and (n,) classes with some signal."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, columns)).astype(np.float32)
    if binary:
        X = (X > 1.2).astype(np.float32)
    score = X[:, 0] + X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3]) - X[:, 4 : columns // 2].sum(1) / 8
    return X, (score + rng.normal(size=n) > score.mean()).astype(int)


def learn(federation: Federation, token: str, trees: int, depth: int, dataset: str = "all") -> tuple[float, Any, Any]:
    """Seconds, processor time by the kind of process, and the result."""
    before, began = cpu_by_kind(federation), time.perf_counter()
    with hanse.connect(federation.url, token) as connected:
        result = connected.experiment(
            MODEL,
            target="y",
            tags=[dataset],
            rounds=trees,
            test_fraction=0.0,
            min_available_nodes=len(federation.nodes),
            min_completed=len(federation.nodes),
            model_options={"max_depth": depth},
        ).run(progress=False)
    return time.perf_counter() - began, cpu_by_kind(federation) - before, result


def cpu_by_kind(federation: Federation) -> Any:
    """(3,) seconds of the coordinator, of the nodes' connections and of their workers until now."""
    nodes = [process.pid for process in federation.nodes.values()]
    own = sum(map(own_seconds, nodes))
    return np.array([spent(federation.coordinator.pid), own, sum(map(spent, nodes)) - own])


def idles(pid: int, at_most: float = 0.05, of: float = 0.5) -> None:
    """Returns when a process has used hardly any processor time of late: what it does beside its runs is done."""
    while True:
        before = own_seconds(pid)
        time.sleep(of)
        if own_seconds(pid) - before <= at_most * of:
            return


def counting(rows: int, columns: int, depth: int, packs: bool) -> float:
    """Processor time in which one core counts all levels of a tree, the least of five; ``packs``: both sums of a bin as
    one number."""
    rng, starts = np.random.default_rng(0), (np.arange(columns + 1) * 258).astype(np.uint64)
    bins = rng.integers(0, 256, (rows, columns), np.uint8)
    pairs = rng.integers(0, 1 << 20, (1, rows, 2), np.int32)
    edges, numbers, took = np.full(columns, 256), np.zeros(columns, np.int64), list[float]()
    size = (columns * 258, *[2] * (not packs))
    for _ in range(6):  # the first compiles
        began, order = time.thread_time(), np.arange(rows, dtype=np.int32)
        places = np.array([[0, 0, rows]] + [[-1, 0, 0]] * (1 << depth))
        add_up(bins, pairs, order, places[:1], starts, np.zeros((1, *size), np.int64))
        for level in range(1, depth):
            many, first = 1 << (level - 1), (1 << (level - 1)) - 1
            splits = np.array([[first + i, 2 * (first + i) + 1, level % columns, 127, 0] for i in range(many)])
            part(bins, splits, np.zeros((many, 0), np.uint8), edges, numbers, order, np.empty_like(order), places)
            built = places[splits[:, 1]]
            add_up(bins, pairs, order, built, starts, np.zeros((many, *size), np.int64))
        took.append(time.thread_time() - began)
    return min(took[1:])


MODEL = "xgboost"


def federated(X: Any, y: Any, nodes: int, trees: int, depth: int, home: Path, line_ms: float = 0.0) -> dict[str, Any]:
    import polars as pl

    with contextlib.ExitStack() as stack:
        federation, echo_ms = stack.enter_context(Federation(home)), 0.0
        names = [f"node-{k}" for k in range(nodes)]
        for k, name in enumerate(names):
            own = {f"x{i}": X[k::nodes, i] for i in range(X.shape[1])}
            frame, place = pl.DataFrame({**own, "y": y[k::nodes]}), federation.enrol(name, standing="accept-allowed")
            for tag, part in {"all": frame, "warm": frame.head(WARM_ROWS)}.items():
                file = home / f"{name}-{tag}.parquet"
                part.write_parquet(file)
                command("node", "dataset", "add", str(file), "--name", tag, "--tags", tag, "--home", str(place))
            if line_ms:  # from here on it dials the line
                port = federation.grpc.rpartition(":")[2]
                line = stack.enter_context(line_of(int(port), line_ms / 1000))
                echo_ms = 1000 * echo_s(line.one_way_s)
                settings = place / "node.toml"
                settings.write_text(settings.read_text().replace(f"127.0.0.1:{port}", f"127.0.0.1:{line.port}"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(federation.start_node, names))
        token = federation.account("scientist", "data_scientist")
        learn(federation, token, 1, depth, "warm")  # workers start, code is compiled
        workers = [pid for process in federation.nodes.values() for pid in family(process.pid)[1:]]
        idle = {pid: resident_mb(pid) for pid in workers}
        for pid in workers:
            reset_peak(pid)
        learn(federation, token, SHORT, depth)  # the coordinator loads what such sums are worth (a second, once)
        idles(federation.coordinator.pid)
        short = learn(federation, token, SHORT, depth)
        seconds, cpu, result = learn(federation, token, trees, depth)
        steps = [s for s in result.rounds if s.round is not None]
        sent = sum(s.bytes_up for s in steps) / nodes / trees
        each = (cpu - short[1]) / (trees - SHORT)
        peak, growth = max((peak_mb(pid), peak_mb(pid) - idle[pid]) for pid in workers)
    return {
        "seconds": (seconds - short[0]) / (trees - SHORT),
        "cpu_seconds": each.sum(),
        **dict(zip(("cpu_coordinator", "cpu_nodes", "cpu_workers"), each.tolist(), strict=True)),
        "start_seconds": short[0],
        "asks_per_tree": len(steps) / trees,
        "bytes_per_tree": sent,
        "node_peak_mb": peak,
        "node_growth_mb": growth,
        "echo_ms": echo_ms,
        "binned_mb": len(X[::nodes]) * X.shape[1] / 1e6,
        "result": result,
    }


def pooled(X: Any, y: Any, trees: int, depth: int) -> tuple[float, float, Any]:
    import xgboost

    data = xgboost.QuantileDMatrix(X, y)
    options = {"objective": "binary:logistic", "max_depth": depth, "nthread": os.cpu_count()}
    found = {}
    for n in (1, SHORT, trees):
        cpu, began = time.process_time(), time.perf_counter()
        booster = xgboost.train(options, data, n)
        found[n] = time.perf_counter() - began, time.process_time() - cpu
    each = [(found[trees][i] - found[SHORT][i]) / (trees - SHORT) for i in (0, 1)]
    return each[0], each[1], booster


def loss(p: Any, y: Any) -> float:
    return float(-np.log(np.clip(np.where(y == 1, p, 1 - p), 1e-12, 1)).mean())


def measure(shape: str, nodes: int, trees: int, depth: int, line_ms: float = 0.0) -> dict[str, Any]:
    import pandas as pd
    import xgboost

    n, columns, binary, *_ = SHAPES[shape]
    X, y = rows(n + n // 5, columns, binary)
    with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
        found = federated(X[:n], y[:n], nodes, trees, depth, Path(folder), line_ms)
    seconds, cpu, booster = pooled(X[:n], y[:n], trees, depth)
    floor, apart = (per_tree(X[:n], y[:n], nodes, trees, depth, apart) for apart in (False, True))
    messages = _boosting_messages.per_tree(X[:n], y[:n], nodes, trees, depth)
    result = found.pop("result")
    frame = pd.DataFrame(X[n:], columns=[f"x{i}" for i in range(columns)])
    packs = not binary and packable((1.0, 0.25), n // 255) is not None  # the bins of this many rows are even
    return {
        "shape": shape,
        "nodes": nodes,
        "trees": trees,
        "line_ms": line_ms,
        **found,
        "cpu_counting": nodes * counting(n // nodes, columns, depth, packs),
        "growth_ratio": found["node_growth_mb"] / found["binned_mb"],
        "pooled_seconds": seconds,
        "floor_seconds": floor["seconds"],
        "floor_cpu": floor["cpu_coordinator"] + floor["cpu_nodes"],
        "apart_seconds": apart["seconds"],
        "apart_cpu": apart["cpu_coordinator"] + apart["cpu_nodes"],
        "messages_seconds": messages["seconds"],
        "messages_cpu": messages["cpu_coordinator"] + messages["cpu_nodes"],
        "ratio": found["seconds"] / seconds,
        "cpu_ratio": found["cpu_seconds"] / cpu,
        "loss": loss(np.asarray(result.predictor().predict_proba(frame))[:, 1], y[n:]),
        "pooled_loss": loss(booster.predict(xgboost.DMatrix(X[n:])), y[n:]),
    }


def main() -> None:
    global MODEL
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--nodes", type=numbers, default=None, help="of each shape; default 4, 2 and 1")
    parser.add_argument("--trees", type=numbers, default=None, help="of each shape; default 100, 50 and 5")
    parser.add_argument("--line-ms", type=float, default=20.0, help="there and back, of the last line; 0: without it")
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    MODEL = options.model
    shapes = options.shapes.split(",")
    nodes = options.nodes or [SHAPES[shape][3] for shape in shapes]
    trees = options.trees or [SHAPES[shape][4] for shape in shapes]
    columns = ["shape", "nodes", "trees", "line_ms", "echo_ms", "seconds", "pooled_seconds", "ratio"]
    columns += ["cpu_seconds", "cpu_ratio"]
    columns += ["floor_seconds", "floor_cpu", "apart_seconds", "apart_cpu", "messages_seconds", "messages_cpu"]
    columns += ["cpu_coordinator", "cpu_nodes", "cpu_workers", "cpu_counting"]
    columns += ["asks_per_tree", "bytes_per_tree", "start_seconds", "node_peak_mb", "node_growth_mb"]
    columns += ["binned_mb", "growth_ratio"]
    columns += ["loss", "pooled_loss"]
    report = Report(columns, options.json)
    for shape, count, rounds in zip(shapes, nodes, trees, strict=True):
        report.add(measure(shape, count, rounds, options.depth))
    if options.line_ms and SLOW in shapes:
        at = shapes.index(SLOW)
        report.add(measure(SLOW, nodes[at], trees[at], options.depth, options.line_ms))


if __name__ == "__main__":
    main()
