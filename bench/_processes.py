"""What the processes of a federation have used: processor time and memory."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def spent(pid: int) -> float:
    """User and system time of a process and of all that it has started, but for those that end while it is read."""
    total = 0.0
    for each in family(pid):
        with contextlib.suppress(psutil.Error):
            total += sum(psutil.Process(each).cpu_times()[:2])
    return total


def own_seconds(pid: int) -> float:
    """User and system time of one process until now, in seconds."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def cpu_seconds(federation: Federation) -> float:
    """User and system time of the coordinator, the nodes and their workers until now."""
    return sum(spent(process.pid) for process in (federation.coordinator, *federation.nodes.values()))


def peak_mb(pid: int) -> float:
    """Peak resident size of a process, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel tells no peak memory")


def resident_mb(pid: int) -> float:
    """Resident size of a process now, in MB."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def reset_peak(pid: int) -> None:
    """Its peak is counted anew from here."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
