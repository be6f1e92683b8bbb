"""Federated statistics against Polars: count, mean, variance and a histogram of every column.

``local_polars_seconds`` is one Polars scan of one site's file for the same numbers, in the same run;
``seconds`` is the whole query over all nodes, each of which has a file of ``rows`` / ``nodes`` rows, so
``ratio`` compares with Polars over all of the rows. ``node_peak_mb`` is the most memory that the process
gained while it answered (it holds all nodes; Polars' own buffers included), files are never read whole.

What others took for 1e6 x 20 CSV on each of two nodes: Fed-BioMed 348 s (count, mean, variance; a loop
over rows), NVIDIA FLARE 15.0 s (19.6 s with quantiles, 1.38 GB).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _report import Report, numbers

EDGES = [float(e) for e in np.linspace(-5, 5, 101)]


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


def polars_seconds(paths: list[Path], columns: int) -> float:
    """The same numbers by Polars' own streaming engine: one scan over all files."""
    import polars as pl

    names = [f"x{c}" for c in range(columns)]
    scan = (pl.scan_csv if paths[0].suffix == ".csv" else pl.scan_parquet)(paths)
    wanted = []
    for n in names:
        wanted += [pl.col(n).count().alias(f"{n}.n"), pl.col(n).mean().alias(f"{n}.m"), pl.col(n).var().alias(f"{n}.v")]
        # a histogram as sums of counts per bin would be slower: this is Polars' own
        wanted.append(pl.col(n).hist(bins=EDGES).implode().alias(f"{n}.h"))
    begun = time.perf_counter()
    scan.select(wanted).collect(engine="streaming")
    return time.perf_counter() - begun


def polars_moments_seconds(paths: list[Path], columns: int) -> float:
    import polars as pl

    scan = (pl.scan_csv if paths[0].suffix == ".csv" else pl.scan_parquet)(paths)
    wanted = [e for c in range(columns) for e in (pl.col(f"x{c}").mean().alias(f"m{c}"), pl.col(f"x{c}").var())]
    begun = time.perf_counter()
    scan.select(wanted).collect(engine="streaming")
    return time.perf_counter() - begun


class Peak:
    """The most memory of its own (not file pages that are mapped) of this process, looked at fifty times
    a second."""

    def __enter__(self) -> Peak:
        self.base, self.most, self._stop = _resident(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, _resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mb(self) -> float:
        return self.most - self.base


def _resident() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("RssAnon"))


def federated(folder: Path, paths: list[Path], columns: int) -> tuple[float, float]:
    """Seconds of the query, and memory gained: nodes with catalogues, the same loop as anywhere."""
    from hanse import algorithms, bundle
    from hanse.answers import Answerer
    from hanse.config import RunConfig
    from hanse.kinds import Progress
    from hanse.messages import Message
    from hanse.node.catalogue import Catalogue
    from hanse.rounds import Forgetful, Run
    from hanse.transports.local import LocalTransport

    names = [f"x{c}" for c in range(columns)]
    items = [[s, [n], {}, []] for n in names for s in ("count", "mean", "variance")]
    items += [["histogram", [n], {"bin_edges": EDGES}, []] for n in names]
    config = RunConfig.parse({"federated_strategy": "statistics", "model_options": {"items": items}, "num_rounds": 1,
                              "target_column": "", "sample_id_column": None})  # fmt: skip
    sources = {}
    for i, path in enumerate(paths):
        catalogue = Catalogue(folder / f"node{i}")
        sources[f"node{i}"] = catalogue.source(catalogue.add(path, name=f"d{i}"))
    frozen = bundle.freeze(config, {"features": names, "kinds": {}}, {})

    def handler(node: str):  # type: ignore[no-untyped-def]
        answerer = Answerer(node, lambda _: None, {}, lambda _: sources[node])  # type: ignore[arg-type, return-value]

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            body = await asyncio.to_thread(answerer.answer, message.body, frozen.content, progress)
            return Message("reply", message.id, node, body)

        return handle

    algorithm = algorithms.build(config)

    async def go() -> None:
        transport = LocalTransport({n: handler(n) for n in sources}, "exact")
        state = await Run(algorithm, config, list(sources), transport, Forgetful()).go()
        assert algorithm.result(state).data["took"]

    with Peak() as peak:
        begun = time.perf_counter()
        asyncio.run(go())
        seconds = time.perf_counter() - begun
    return seconds, peak.mb


def fresh(folder: Path, paths: list[Path], columns: int) -> tuple[float, float]:
    """:func:`federated` in a process of its own, so that the memory is not Polars' of before."""
    folder.mkdir()
    order = json.dumps([str(folder), [str(p) for p in paths], columns])
    done = subprocess.run([sys.executable, __file__, "--child", order], check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout)
    return float(seconds), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=numbers, default=[1_000_000], help="over all nodes")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--formats", default="parquet", help="parquet,csv")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write the files (they are removed)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        home, files, width = json.loads(options.child)
        print(json.dumps(federated(Path(home), [Path(f) for f in files], width)))
        return
    columns = ["rows", "columns", "nodes", "format", "seconds", "local_polars_seconds", "ratio", "node_peak_mb",
               "polars_moments_seconds"]  # fmt: skip
    report = Report(columns, options.json, [f"{os.cpu_count()} cores; medians of {options.repeats} runs"])
    for rows in options.rows:
        for kind in options.formats.split(","):
            with tempfile.TemporaryDirectory(dir=options.folder) as name:
                folder = Path(name)
                paths = [write(folder, rows // options.nodes, options.columns, kind, k) for k in range(options.nodes)]
                ours, theirs, peaks, plain = [], [], [], []
                for k in range(options.repeats):
                    theirs.append(polars_seconds(paths, options.columns))
                    plain.append(polars_moments_seconds(paths, options.columns))
                    seconds, peak = fresh(folder / f"homes{k}", paths, options.columns)
                    ours.append(seconds)
                    peaks.append(peak)
                seconds, local = float(np.median(ours)), float(np.median(theirs))
                report.add({"rows": rows, "columns": options.columns, "nodes": options.nodes, "format": kind,
                            "seconds": seconds, "local_polars_seconds": local, "ratio": seconds / local,
                            "node_peak_mb": max(peaks), "polars_moments_seconds": float(np.median(plain))})  # fmt: skip


if __name__ == "__main__":
    main()
elif __name__ == "statistics":  # another script of this folder, or a library, means the standard module
    spec = importlib.util.spec_from_file_location("statistics", Path(sysconfig.get_path("stdlib")) / "statistics.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["statistics"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["statistics"])
