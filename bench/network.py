"""What it brings to have a network prefer a federation's traffic: rounds over a line of 100 Mbit/s that four bulk
streams fill, without a preference and with one, through Open vSwitch and through queues of Linux.

The machines are namespaces of this one (root, and Open vSwitch); the coordinator, the node and the controller are the
processes that an institution would start, a run is a probe (its rounds send arrays to and fro, and compute nothing).
The coordinator is behind the line, so what nodes send it is what the streams are in the way of.

    python bench/network.py [--picture docs/images/network.png] [--most 0.4] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench._report import Report, size  # noqa: E402
from tests.network.federated import (  # noqa: E402
    DRIVERS,
    RATE,
    STREAMS,
    Processes,
    controlled,
    federation,
    place,
    rounds_of,
    streams,
)
from tests.network.namespaces import lacking  # noqa: E402
from tests.network.open_vswitch import PROGRAMS  # noqa: E402

_TRAFFIC = {"alone": "none", "bulk": f"{STREAMS} streams", "preferred": f"{STREAMS} streams, preferred"}


def measure(driver: str, rounds: int, nbytes: int, home: Path) -> Iterator[dict[str, Any]]:
    """The rounds of one run with the line to itself, one with bulk streams, one with them and a preference."""
    for name, traffic in _TRAFFIC.items():
        folder = home / name
        folder.mkdir()
        processes = Processes(folder)
        with place(driver, folder) as (switch, server, node, bulk):
            try:
                environment = controlled(processes, switch, driver) if name == "preferred" else {}
                federation(processes, server, node, folder, environment)
                if name != "alone":
                    streams(processes, server, bulk)
                done = rounds_of(server, folder / "coordinator", rounds, nbytes)
            finally:
                processes.stop()
        later = done[1:]  # in the first a moment passes before anything is preferred
        lines = [step["participants"]["site"].get("line", {}) for step in later]
        yield {
            "driver": driver,
            "traffic": traffic,
            "seconds_per_round": statistics.median(step["seconds"] for step in later),
            "up_mbit_s": statistics.median(one.get("up_mbit_s", 0.0) for one in lines),
            "latency_ms": statistics.median(one.get("latency_ms", 0.0) for one in lines),
        }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds of a round, a bar for each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    names = [f"{row['driver']}: {row['traffic']}" for row in rows]
    colours = ["#2e7d32" if "preferred" in name else "#9e9e9e" for name in names]
    bars = axes.barh(names, [row["seconds_per_round"] for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.2f s", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("seconds per round")
    axes.margins(x=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--bytes", type=size, default=20 << 20, help="of each message, such as 20M")
    parser.add_argument("--driver", choices=sorted(DRIVERS), action="append")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--most", type=float, help="fails where a preferred round takes more of one that is not")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    if why := lacking(*PROGRAMS):
        sys.exit(f"it cannot be measured here: {why}")
    report = Report(("driver", "traffic", "seconds_per_round", "up_mbit_s", "latency_ms", "of_bulk"), given.json)
    rows: list[dict[str, Any]] = []
    for driver in given.driver or ["openflow", "linux"]:
        with tempfile.TemporaryDirectory(prefix="hanse-network-") as folder:
            bulk = 0.0  # seconds of a round beside the streams
            for row in measure(driver, given.rounds, given.bytes, Path(folder)):
                bulk = row["seconds_per_round"] if row["traffic"] == _TRAFFIC["bulk"] else bulk
                row["of_bulk"] = round(row["seconds_per_round"] / bulk, 3) if bulk else None
                rows.append(row)
                report.add(row)
    if given.picture:
        draw(rows, given.picture)
    worst = max((row for row in rows if row["traffic"] == _TRAFFIC["preferred"]), key=lambda row: row["of_bulk"])
    if given.most and worst["of_bulk"] > given.most:
        alone = next(row["seconds_per_round"] for row in rows if row["driver"] == worst["driver"])
        sys.exit(
            f"a preferred round takes {worst['of_bulk']:g} of what it takes without ({worst['driver']}); expected at "
            f"most {given.most:g}. With the line to itself it takes {alone:.1f} s, of which the line needs "
            f"{given.bytes * 8 / RATE / 1e6:.1f}; where that is much more, it is this machine that is busy"
        )


if __name__ == "__main__":
    main()
