"""What the coordinator holds of models does not grow with the number of nodes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from demo.federation import Federation

from .harness import ended, join, propose

MODEL = 20 << 20
PROBE = {"federated_strategy": "probe", "num_rounds": 4}


def peak_above_idle(home: Path, nodes: int) -> float:
    """In models: the coordinator's largest resident size while nodes exchange models with it, above what it
    has with all of them connected."""
    with Federation(home) as federation:
        join(federation, nodes)
        everyone = {**PROBE, "min_available_nodes": nodes, "min_completed": nodes}
        assert ended(federation, propose(federation, **everyone, model_options={"bytes": 1024}))["state"] == "completed"
        status, pid = Path(f"/proc/{federation.coordinator.pid}/status"), federation.coordinator.pid
        idle = psutil.Process(pid).memory_info().rss
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        done = ended(federation, propose(federation, **everyone, model_options={"bytes": MODEL}), 240)
        assert done["state"] == "completed", done["reason"]
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return (int(peak) * 1024 - idle) / MODEL


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak memory")
def test_peak_memory_does_not_grow_with_the_nodes(tmp_path: Path) -> None:
    few, many = peak_above_idle(tmp_path / "few", 3), peak_above_idle(tmp_path / "many", 24)
    assert few < 3, (few, many)
    # Each of the 21 more connections keeps what TLS needed once: a quarter of a megabyte that is read into, as much
    # encrypted, and a slice on its way out. Of no message a chunk stays there, which is another megabyte.
    assert (many - few) * MODEL / 21 < 1.25 * (1 << 20), (few, many)
