"""A file larger than memory: the worker's peak does not grow with the rows, whatever is asked."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from one_node import ATTACKS, FakeCoordinator, Node, running

import hanse.bundle
from hanse import algorithms, features
from hanse.config import RunConfig
from hanse.messages import Json, Message, Record
from hanse.node.agent import Agent
from hanse.node.catalogue import Catalogue
from hanse.node.settings import Policy, TaskLimits
from hanse.registry import names
from hanse.rounds import Forgetful, Loop
from hanse.transport import Progress
from hanse.transports.local import LocalTransport

ALLOWED = Policy(allow_federated_analytics=True, allow_node_statistics=True, allow_extremes=True)
SMALL = (str(ATTACKS / "worker_in_small_pieces.py"),)
PAIR = {"group": "arm", "groups": ["x", "y"]}
QUANTITIES = ["x0", "x1", "x2", "x3", "age"]
QUERY: dict[str, list[list[Json]]] = {  # every file of hanse.statistics
    "count": [["count", ["id"], {}, []], ["count", ["x0"], {}, ["arm", "ward"]]],
    "mean": [["mean", [c], {}, []] for c in QUANTITIES],
    "sum": [["sum", ["seen"], {}, []]],
    "variance": [["variance", [c], {}, []] for c in QUANTITIES],
    "std": [["std", ["x0"], {}, ["ward"]]],
    "moments": [["moments", ["x1"], {}, []]],
    "min": [["min", ["x0"], {}, []]],
    "max": [["max", ["x0"], {}, []]],
    "missing": [["missing", ["x2"], {}, []]],
    "sparsity": [["sparsity", [*QUANTITIES, "ward", "seen"], {}, []]],
    "median": [["median", [c], {}, []] for c in QUANTITIES],
    "quantile": [["quantile", ["x3"], {"q": [0.01, 0.5], "depth": 2}, ["arm"]]],
    "cells": [["cells", ["x0"], {"depth": 1}, []]],
    "histogram": [["histogram", ["x0"], {"bins": 50}, ["arm"]], ["histogram", ["x1"], {"bin_edges": [-1, 0, 1]}, []]],
    "levels": [["levels", ["id"], {}, []], ["levels", ["ward"], {}, []]],
    "value_counts": [["value_counts", ["id"], {}, []], ["value_counts", ["age"], {}, []]],
    "distinct": [["distinct", ["id"], {}, []], ["distinct", ["x0"], {}, []]],
    "crosstab": [["crosstab", ["arm", "ward"], {}, []]],
    "pair_means": [["pair_means", QUANTITIES, {}, []]],
    "covariance": [["covariance", QUANTITIES, {}, []]],
    "correlation": [["correlation", QUANTITIES, {}, []]],
    "kaplan_meier": [["kaplan_meier", ["age", "event"], {}, ["arm"]]],
    "logrank": [["logrank", ["age", "event"], PAIR, []]],
    "t_test": [["t_test", ["x0"], PAIR, []]],
    "mann_whitney": [["mann_whitney", ["x0"], PAIR, []]],
    "smd": [["smd", ["x0"], PAIR, []]],
}


def write(path: Path, rows: int, columns: int = 4) -> Path:
    """A table of ``rows`` rows in the format of the name, written in parts."""
    rng = np.random.default_rng(0)

    def part(start: int, n: int) -> pl.DataFrame:
        return pl.DataFrame(
            {
                **{f"x{c}": rng.standard_normal(n) for c in range(columns)},
                "age": rng.integers(20, 90, n),
                "event": rng.random(n) < 0.5,
                "arm": rng.choice(["x", "y"], n),
                "ward": rng.choice([f"ward {w}" for w in range(12)], n),
                "seen": np.datetime64("2020-01-01") + rng.integers(0, 900, n),
                "id": [f"P{start + i:09d}" for i in range(n)],
            }
        )

    parts = [(start, min(200_000, rows - start)) for start in range(0, rows, 200_000)]
    if path.suffix == ".parquet":
        drafts = [path.with_name(f"draft{start}.parquet") for start, _ in parts]
        for draft, (start, n) in zip(drafts, parts, strict=True):
            part(start, n).write_parquet(draft)
        pl.scan_parquet(drafts).sink_parquet(path, row_group_size=1 << 14)
        for draft in drafts:
            draft.unlink()
    else:
        with path.open("wb") as file:
            for start, n in parts:
                mark = "\t" if path.suffix == ".tsv" else ","
                part(start, n).write_csv(file, include_header=start == 0, separator=mark)
    return path


def everything() -> list[list[Json]]:
    assert sorted(QUERY) == sorted(names("statistics"))  # a new one has to be proven here, too
    return [item for items in QUERY.values() for item in items]


async def asked(node: Node, items: list[list[Json]], dataset: str = "data") -> tuple[dict[str, Any], float]:
    """The state after the query, and the peak memory of the worker that answered it, in MB."""
    found = Catalogue(node.home).get(dataset)
    config = RunConfig.parse(
        {
            "federated_strategy": "statistics",
            "model_options": {"items": items},
            "num_rounds": 1,
            "target_column": "",
            "sample_id_column": None,
        }
    )
    alignment = features.survey({"alpha": dict(found.schema)}, sorted({c for i in items for c in i[1]}))
    bound = {"alpha": {"name": found.name, "version": found.version}}
    bundle = hanse.bundle.freeze(config, alignment.to_json(), bound)
    await node.propose(bundle)

    async def handle(peer: str, message: Message, progress: Progress) -> Message:
        data = {**message.body.data, "bundle": bundle.sha256, "run": "run-1"}
        message = message._replace(sender="coordinator", body=Record(data, message.body.arrays))
        return await node.coordinator.handler("coordinator", message, progress)

    algorithm = algorithms.build(config)
    state = await Loop(algorithm, config, ["alpha"], LocalTransport({"alpha": handle}, "exact"), Forgetful()).go()
    return dict(algorithm.result(state).data), _peak(node)


def _peak(node: Node) -> float:
    with open(f"/proc/{node.agent.worker.pid}/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("VmHWM"))


@pytest.mark.timeout(600)  # it is about memory: on a busy machine it may take its time
@pytest.mark.parametrize("kind", ["csv", pytest.param("tsv", marks=pytest.mark.long), "parquet"])
def test_the_peak_does_not_grow_with_the_rows(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "__init__", _with_small_pieces(Agent.__init__))
    rows = 20_000
    table_mb = 8 * rows * 10 * 8 / 1e6  # what it would take to hold the larger table, ids not counted

    async def main(times: int) -> tuple[dict[str, Any], float]:
        home = tmp_path / str(times)
        home.mkdir()
        Catalogue(home).add(write(home / f"data.{kind}", rows * times), "data")
        async with running(home, policy=ALLOWED, coordinator=FakeCoordinator()) as node:
            return await asked(node, everything())

    small, large = asyncio.run(main(1)), asyncio.run(main(8))
    assert large[0]["took"]
    assert not small[0]["lacking"]
    assert large[1] - small[1] < table_mb / 2, (small[1], large[1], table_mb)


def _with_small_pieces(init: Any) -> Any:
    def made(self: Agent, home: Path, connection: Any) -> None:
        init(self, home, connection, SMALL)

    return made


@pytest.mark.long
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_ten_million_rows_within_a_limit_that_is_a_fifth_of_them(tmp_path: Path, kind: str) -> None:
    """The node's own limit on the worker's memory holds; the values alone are 1.6 GB."""
    wanted = ("mean", "variance", "median")
    items: list[list[Json]] = [[stat, [c], {}, []] for c in ("x0", "x7", "age") for stat in wanted]
    items += [
        ["histogram", ["x1"], {"bins": 50}, ["arm"]],
        ["crosstab", ["arm", "ward"], {}, []],
        ["kaplan_meier", ["age", "event"], {}, ["arm"]],
        ["covariance", QUANTITIES, {}, []],
        ["value_counts", ["id"], {}, []],
    ]

    async def main() -> tuple[dict[str, Any], float]:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "hanse.cli",
                "node",
                "dataset",
                "add",
                str(path),
                "--home",
                str(tmp_path),
                "--name",
                "data",
            ],
            check=True,
            preexec_fn=_little_memory,
        )
        async with running(tmp_path, policy=ALLOWED, limits=TaskLimits(memory_mb=320)) as node:
            return await asked(node, items)

    path = write(tmp_path / f"data.{kind}", 10_000_000, columns=14)
    found, peak = asyncio.run(main())
    assert found["took"]
    assert peak < 500


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (800 << 20, 800 << 20))  # of which allocators use about a third
