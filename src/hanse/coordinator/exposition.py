"""The coordinator's figures in the text format of Prometheus (version 0.0.4).

All are read from what there is when they are asked for, so nothing is counted twice and no library is needed to keep
counters.

>>> print(text([Figure("hanse_nodes", "gauge", "Nodes by status", {(("status", "online"),): 3.0})]), end="")
# HELP hanse_nodes Nodes by status
# TYPE hanse_nodes gauge
hanse_nodes{status="online"} 3
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import hanse
from hanse import validity
from hanse.coordinator.health import Examiner, Health
from hanse.coordinator.service import Coordinator
from hanse.store.nodes import ENROLLED

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric: its name, ``gauge`` or ``counter``, what it means, and its values by labels."""

    name: str
    kind: str
    help: str
    values: Mapping[Labels, float]


def text(figures: Iterable[Figure]) -> str:
    """The figures as Prometheus reads them."""
    lines = []
    for figure in figures:
        lines += [f"# HELP {figure.name} {figure.help}", f"# TYPE {figure.name} {figure.kind}"]
        for labels, value in figure.values.items():
            told = ",".join(f'{name}="{_escaped(said)}"' for name, said in labels)
            lines.append(f"{figure.name}{f'{{{told}}}' if told else ''} {value:.17g}")
    return "\n".join(lines) + "\n"


async def figures(
    it: Coordinator, examiner: Examiner, shown: Callable[[str], bool] = lambda node: True
) -> list[Figure]:
    """All that there is to tell now. ``shown``: of which nodes by name."""
    health = await examiner.health()
    return await asyncio.to_thread(_figures, it, health, shown)


def _figures(it: Coordinator, health: Health, shown: Callable[[str], bool]) -> list[Figure]:
    nodes = [n for n in it.store.nodes.list() if n.status == ENROLLED]
    statuses = Counter(it.presence.status(n.id, n.last_heartbeat) for n in nodes)
    ends = {n.id: validity.time(n.capabilities.get("certificate_ends")) for n in nodes}
    spent = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    last = it.store.events.last()
    return [
        Figure("hanse_info", "gauge", "The release that runs", {(("release", hanse.__version__),): 1.0}),
        Figure("hanse_ready", "gauge", "1: a look found nothing wrong", _of("look", _good(health))),
        Figure("hanse_nodes", "gauge", "Enrolled nodes by status", _of("status", statuses)),
        Figure("hanse_nodes_connected", "gauge", "Nodes that can be asked now", {(): float(len(it.presence.online()))}),
        Figure("hanse_nodes_warned", "gauge", "Nodes with a warning", {(): float(health.warnings)}),
        Figure(
            "hanse_certificate_end_seconds",
            "gauge",
            "When the certificate of a node ends, in seconds since 1970",
            _of("node", {id: end.timestamp() for id, end in ends.items() if end is not None and shown(id)}),
        ),
        Figure("hanse_runs", "gauge", "Runs by state", _of("state", it.store.runs.states())),
        Figure("hanse_events_total", "counter", "Events that were recorded, ever", {(): float(last)}),
        Figure(
            "hanse_disk_free_bytes", "gauge", "Free where the coordinator's home is", {(): float(health.free_bytes)}
        ),
        Figure("process_cpu_seconds_total", "counter", "Processor time", {(): spent.ru_utime + spent.ru_stime}),
        Figure("process_resident_memory_bytes", "gauge", "Memory", {(): float(pages * os.sysconf("SC_PAGE_SIZE"))}),
        Figure("process_open_fds", "gauge", "Open files", {(): float(len(os.listdir("/proc/self/fd")))}),
    ]


def _good(health: Health) -> dict[str, float]:
    return {name: float(not said) for name, said in health.looks.items()}


def _of(label: str, values: Mapping[str, float]) -> dict[Labels, float]:
    return {((label, str(name)),): float(value) for name, value in sorted(values.items())}


def _escaped(said: str) -> str:
    return said.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
