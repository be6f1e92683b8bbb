"""Federated statistics against Polars: count, mean, variance and a histogram of every column.

``seconds``: the whole query over all nodes (agents with a warm worker process each; every file has ``rows`` / ``nodes``
rows; registration is not counted), ``cold_seconds`` with workers that have just started. ``local_polars_seconds``: one
process, all files, all cores, the same numbers in the fastest of the ways of ``WAYS`` (``polars_way``), checked to be
the same. ``node_peak_mb``: the most that one node held resident, its worker and the process of its agent together (here
that process holds all agents and the coordinator's part, so it is rather too much).

With ``--against CHECKOUT`` the query is measured there too, over the same files and with its own Python, in turn (A B A
B ...); the ratios are taken pair by pair, and both sides' numbers must be the same. Polars then has no part in it.

Rows of other platforms are cited, not measured here: their figures for 1e6 x 20 CSV on each of two nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from _against import columns as ratio_columns
from _against import ratios
from _report import Report, numbers

from hanse.messages import Message, Record
from hanse.transport import Handler, Progress
from hanse.transports import Caller

BINS = 100
EDGES = [float(e) for e in np.linspace(-3, 3, BINS + 1)]  # of normal numbers: no bin of less than the owners' minimum


def write(folder: Path, rows: int, columns: int, kind: str, seed: int) -> Path:
    """A file of normal numbers, written in parts."""
    import polars as pl

    rng = np.random.default_rng(seed)
    path = folder / f"site{seed}.{kind}"

    def parts() -> Iterator[pl.DataFrame]:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            yield pl.DataFrame({f"x{c}": rng.standard_normal(n) for c in range(columns)})

    if kind == "csv":
        with path.open("wb") as file:
            for i, part in enumerate(parts()):
                part.write_csv(file, include_header=i == 0)
        return path
    drafts = []
    for i, part in enumerate(parts()):
        drafts.append(folder / f"draft{seed}-{i}.parquet")
        part.write_parquet(drafts[-1])
    pl.scan_parquet(drafts).sink_parquet(path)
    for draft in drafts:
        draft.unlink()
    return path


Numbers = dict[str, tuple[int, float, float, list[int]]]  # column to count, mean, variance, rows per bin


def _scan(paths: list[Path]) -> Any:
    import polars as pl

    return (pl.scan_csv if paths[0].suffix == ".csv" else pl.scan_parquet)(paths)


def _moments(names: list[str]) -> list[Any]:
    import polars as pl

    return [
        e
        for n in names
        for e in (pl.col(n).count().alias(f"{n}.n"), pl.col(n).mean().alias(f"{n}.m"), pl.col(n).var().alias(f"{n}.v"))
    ]


def _place(name: str) -> Any:
    """The bin by arithmetic, which even edges allow; -1 and 100 are beyond them."""
    import polars as pl

    return ((pl.col(name) - EDGES[0]) / (EDGES[1] - EDGES[0])).floor().clip(-1, BINS).cast(pl.Int8)


def _together(found: Any, names: list[str], counts: list[list[int]]) -> Numbers:
    row = found.row(0, named=True)
    return {n: (row[f"{n}.n"], row[f"{n}.m"], row[f"{n}.v"], c) for n, c in zip(names, counts, strict=True)}


def one_scan_with_hist(paths: list[Path], names: list[str]) -> Numbers:
    import polars as pl

    wanted = [pl.col(n).hist(bins=EDGES).implode().alias(f"{n}.h") for n in names]
    found = _scan(paths).select(_moments(names) + wanted).collect(engine="streaming")
    return _together(found, names, [found[f"{n}.h"][0].to_list() for n in names])


def one_scan_with_counts(paths: list[Path], names: list[str]) -> Numbers:
    wanted = [_place(n).value_counts().implode().alias(f"{n}.h") for n in names]
    found = _scan(paths).select(_moments(names) + wanted).collect(engine="streaming")
    tables = [{h[n]: h["count"] for h in found[f"{n}.h"][0]} for n in names]
    return _together(found, names, [[table.get(i, 0) for i in range(BINS)] for table in tables])


def two_scans_with_groups(paths: list[Path], names: list[str]) -> Numbers:
    """The bins of all columns at once: Polars reads the files once for all of them."""
    import polars as pl

    found = _scan(paths).select(_moments(names)).collect(engine="streaming")
    scans = [_scan(paths).select(_place(n).alias("k")).group_by("k").len() for n in names]
    tables = [dict(table.iter_rows()) for table in pl.collect_all(scans, engine="streaming")]
    return _together(found, names, [[table.get(i, 0) for i in range(BINS)] for table in tables])


WAYS = (one_scan_with_hist, one_scan_with_counts, two_scans_with_groups)


def check_same(a: Numbers, b: Numbers) -> None:
    """Rows exactly on an edge may count in either bin."""
    for name, (n, mean, variance, counts) in a.items():
        off = np.abs(np.array(counts) - np.array(b[name][3])).sum()
        if n != b[name][0] or off > 1e-6 * n or not np.allclose([mean, variance], b[name][1:3], rtol=1e-9, atol=1e-9):
            raise SystemExit(f"{name}: the two sides did not compute the same numbers")


class Line:
    """An agent's line to a coordinator in the same process."""

    def __call__(self, caller: Caller) -> Line:
        self.node, self.handler, self.report = caller.node, caller.handler, caller.report
        return self

    def start(self) -> None:
        self.report("connected", "here")

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        hello = {"node": self.node, "heartbeat_interval_s": 60.0, "proposals": []} if message.kind == "hello" else {}
        return Message("reply", message.id, "coordinator", Record(hello))

    async def close(self) -> None:
        pass


def resident_mb(pid: int | str) -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("VmHWM"))


async def federated(folder: Path, paths: list[Path], columns: int) -> tuple[float, float, float, Numbers]:
    """Seconds of the first and of the second query, the peak memory of a node, and the numbers."""
    from hanse import algorithms, bundle, features
    from hanse.algorithms.statistics import Query
    from hanse.config import RunConfig
    from hanse.node.agent import Agent
    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import NodeSettings, Policy
    from hanse.queries import Known
    from hanse.rounds import Forgetful, Loop
    from hanse.statistics import variance
    from hanse.transports.local import LocalTransport

    names = [f"x{c}" for c in range(columns)]
    items: list[Any] = [[s, [n], {}, []] for n in names for s in ("count", "mean", "variance")]
    items += [["histogram", [n], {"bin_edges": EDGES}, []] for n in names]
    config = RunConfig.parse(
        {
            "federated_strategy": "statistics",
            "model_options": {"items": items},
            "num_rounds": 1,
            "target_column": "",
            "sample_id_column": None,
            "purpose": "speed",
        }
    )
    policy = Policy(allow_federated_analytics=True, allow_node_statistics=True)
    agents: dict[str, tuple[Agent, Line]] = {}
    datasets, schemas = {}, {}
    for i, path in enumerate(paths):
        node, home = f"node{i}", folder / f"node{i}"
        NodeSettings(node, policy=policy).save(home)
        add = [sys.executable, "-m", "hanse.cli", "node", "dataset", "add", str(path), "--home", str(home)]
        subprocess.run([*add, "--name", "data"], check=True, stdout=subprocess.DEVNULL)  # not in the agent's memory
        added = Catalogue(home).get("data")
        datasets[node], schemas[node] = {"name": "data", "version": added.version}, dict(added.schema)
        line = Line()
        agents[node] = (Agent(home, line), line)
    frozen = bundle.freeze(config, features.survey(schemas, names).to_json(), datasets)
    tasks = [asyncio.create_task(agent.run()) for agent, _ in agents.values()]
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    algorithm = algorithms.build(config)

    def handler(line: Line, run: str) -> Handler:
        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            data = {**message.body.data, "bundle": frozen.sha256, "run": run}
            body = Record(data, message.body.arrays)
            return await line.handler("coordinator", replace(message, sender="coordinator", body=body), progress)

        return handle

    async def query(run: str) -> tuple[float, Any]:
        for node, (_, line) in agents.items():
            said = {
                "run": run,
                "sha256": frozen.sha256,
                "text": frozen.text,
                "proposer": "bench",
                "purpose": "speed",
                "expires": expires,
                "dataset": datasets[node],
            }
            await line.handler("coordinator", Message("proposal", run, "coordinator", Record(said)), lambda: None)
        transport = LocalTransport({n: handler(line, run) for n, (_, line) in agents.items()}, "exact")
        begun = time.perf_counter()
        state = await Loop(algorithm, config, list(agents), transport, Forgetful()).go()
        return time.perf_counter() - begun, algorithm.result(state)

    try:
        for agent, _ in agents.values():
            await agent.worker.start()
        cold, _ = await query("first")
        seconds, found = await query("second")
        peak = resident_mb("self") + max(resident_mb(agent.worker.pid or 0) for agent, _ in agents.values())
    finally:
        for agent, _ in agents.values():
            agent.stop()
        await asyncio.gather(*tasks)
    plan = Query.of(found.data["query"]).plan
    numbers: Numbers = {}
    for n in names:
        of = {
            i.stat: {
                k.split(".", 1)[1]: found.arrays[k][0] for k in found.arrays if k.startswith(f"{plan.items.index(i)}.")
            }
            for i in plan.items
            if i.columns == (n,)
        }
        spread = variance.final(of["variance"], {"ddof": 1}, Known())
        mean = float(of["mean"]["sum"] / of["mean"]["n"])
        numbers[n] = (int(of["count"]["n"]), mean, float(spread), of["histogram"]["counts"][1:-1].tolist())
    return cold, seconds, peak, numbers


def fresh(
    folder: Path, paths: list[Path], columns: int, program: tuple[str, str] = (sys.executable, __file__)
) -> tuple[float, float, float, Numbers]:
    """:func:`federated` in a process of its own, so that the memory is not Polars' of before. ``program``: a Python,
    and this script for it."""
    folder.mkdir()
    order = json.dumps([str(folder), [str(p) for p in paths], columns])
    done = subprocess.run([*program, "--child", order], check=True, stdout=subprocess.PIPE, text=True, timeout=1800)
    cold, seconds, peak, found = json.loads(done.stdout)
    return float(cold), float(seconds), float(peak), found


COMPARED = ("seconds", "cold_seconds", "node_peak_mb")


def against(checkout: Path, folder: Path, paths: list[Path], columns: int, pairs: int) -> dict[str, Any]:
    """Ratios of this checkout over the other, over the same files."""
    number = itertools.count()
    first: list[Numbers] = []

    def measured(place: Path) -> dict[str, float]:
        program = str(place / ".venv" / "bin" / "python"), str(place / "bench" / Path(__file__).name)
        cold, seconds, peak, found = fresh(folder / f"homes{next(number)}", paths, columns, program)
        first.append(found)
        check_same(first[0], found)
        return {"seconds": seconds, "cold_seconds": cold, "node_peak_mb": peak}

    return ratios(measured, checkout, COMPARED, pairs)


CITED = [  # docs/statistics.md names the source; other machine, other rows: not measured here
    ("Fed-BioMed 6.4.1", "count, mean; then variance", "150 + 198", "-"),
    ("NVIDIA FLARE 2.9", "count, mean, variance, histogram", "15.0", "1380"),
    ("NVIDIA FLARE 2.9", "the same with quantiles", "19.6", "1380"),
]


def cite() -> None:
    print("\nCited, not measured here: 1e6 x 20 CSV (181 MB) on each of 2 nodes")
    print(f"{'':>20}  {'':>36}  {'seconds':>12}  {'peak MB':>8}")
    for who, what, seconds, peak in CITED:
        print(f"{who:>20}  {what:>36}  {seconds:>12}  {peak:>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=numbers, default=[1_000_000], help="over all nodes")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--format", default="parquet,csv", help="parquet,csv")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write the files (they are removed)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--against", type=Path, help="another checkout with its .venv: give ratios to it instead")
    parser.add_argument("--pairs", type=int, default=5, help="with --against: so many runs of each, in turn")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        home, files, width = json.loads(options.child)
        print(json.dumps(asyncio.run(federated(Path(home), [Path(f) for f in files], width))))
        return
    columns = [
        "rows",
        "columns",
        "nodes",
        "format",
        "seconds",
        "local_polars_seconds",
        "ratio",
        "node_peak_mb",
        "cold_seconds",
        "polars_way",
    ]
    notes = [f"{os.cpu_count()} cores; medians of {options.repeats} runs, interleaved"]
    if options.against:
        columns = ["rows", "columns", "nodes", "format", "pairs", *ratio_columns(COMPARED)]
        notes = [f"{os.cpu_count()} cores; ratios to {options.against}, medians over {options.pairs} pairs"]
    report = Report(columns, options.json, notes)
    names = [f"x{c}" for c in range(options.columns)]
    for rows in options.rows:
        for kind in options.format.split(","):
            with tempfile.TemporaryDirectory(dir=options.folder) as name:
                folder = Path(name)
                paths = [write(folder, rows // options.nodes, options.columns, kind, k) for k in range(options.nodes)]
                asked = {"rows": rows, "columns": options.columns, "nodes": options.nodes, "format": kind}
                if options.against:
                    other = options.against.resolve()
                    report.add({**asked, **against(other, folder, paths, options.columns, options.pairs)})
                    continue
                ours, cold, peaks = [], [], []
                theirs: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
                for k in range(options.repeats):
                    first, seconds, peak, found = fresh(folder / f"homes{k}", paths, options.columns)
                    ours.append(seconds)
                    cold.append(first)
                    peaks.append(peak)
                    for way in WAYS:
                        begun = time.perf_counter()
                        local = way(paths, names)
                        theirs[way.__name__].append(time.perf_counter() - begun)
                        check_same(local, found)
                best = min(theirs, key=lambda w: np.median(theirs[w]))
                seconds, plain = float(np.median(ours)), float(np.median(theirs[best]))
                report.add(
                    {
                        **asked,
                        "seconds": seconds,
                        "local_polars_seconds": plain,
                        "ratio": seconds / plain,
                        "node_peak_mb": max(peaks),
                        "cold_seconds": float(np.median(cold)),
                        "polars_way": best,
                    }
                )
    if not (options.json or options.against):
        cite()


if __name__ == "__main__":
    main()
elif __name__ == "statistics":  # another script of this folder, or a library, means the standard module
    spec = importlib.util.spec_from_file_location("statistics", Path(sysconfig.get_path("stdlib")) / "statistics.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["statistics"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["statistics"])
