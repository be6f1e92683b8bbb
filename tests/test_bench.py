"""What bench/ measures with is still there: its light nodes take part in a run, its slow site is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.mark.long
def test_a_few_light_nodes_take_part_in_a_run_and_come_back() -> None:
    command = [sys.executable, str(BENCH / "scale.py"), "--nodes", "3", "--idle", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["nodes"] == 3
    assert min(told[name] for name in ("round_seconds", "statistic_seconds", "restart_seconds")) > 0


@pytest.mark.long
def test_a_site_that_the_bench_makes_slow_holds_fedavg_up_and_not_fedbuff() -> None:
    """It stands in for a method of a simulation, which was renamed beneath it."""
    code = "import json, strategies; print(json.dumps(strategies.measure_slow(2)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert {name: len(times) for name, (times, _) in told.items()}.keys() == {"fedavg", "fedbuff"}
    assert told["fedavg"][0][-1] > 2 * 0.49  # each of two rounds waited half a second for it; clocks are of two kinds


@pytest.mark.long
@pytest.mark.parametrize("packs", [True, False])
def test_the_least_that_a_tree_takes_is_measured_with_the_loops_of_a_run(packs: bool) -> None:
    """It calls them by itself, and what one of them takes was changed beneath it."""
    code = (
        "import json, boosting, _boosting_floor as floor, _boosting_messages as messages\n"
        f"rows = boosting.rows(3000, 5, {not packs})\n"
        "found = [floor.per_tree(*rows, 2, 1, 3), floor.per_tree(*rows, 2, 1, 3, apart=True)]\n"
        "print(json.dumps([*found, messages.per_tree(*rows, 2, 1, 3)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    together, apart, messages = json.loads(done.stdout.splitlines()[-1])
    assert together["bytes"] == apart["bytes"] == messages["bytes"] > 0
    assert min(found["cpu_nodes"] for found in (together, apart, messages)) > 0


@pytest.mark.long
def test_policies_are_measured_on_and_off_in_one_federation() -> None:
    command = [sys.executable, str(BENCH / "policy.py"), "--nodes", "2", "--pairs", "2", "--rounds", "3", "--json"]
    done = subprocess.run([*command, "--decisions", "20"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    _, policies, control = map(json.loads, done.stdout.splitlines())
    assert (policies["of"], control["of"]) == ("policies", "control")
    assert policies["cpu_us_per_task"] > 0
    assert policies["cpu_within"] > 0


def test_what_is_added_is_found_beside_a_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import policy

    drift = 1.001 ** np.arange(80)
    taken = [(cpu, 2 * cpu) for cpu in drift * [1.02 if policy.KINDS[k % 4] else 1 for k in range(80)]]
    rows = policy.compared(taken)
    for what in ("cpu", "time"):
        assert rows["policies"][f"{what}_added"] == pytest.approx(0.02, abs=1e-9)
        assert rows["control"][f"{what}_added"] == pytest.approx(0.001, abs=1e-9)
    assert rows["policies"]["cpu_within"] == pytest.approx(0.001 * 2.02 / 39**0.5, rel=0.01)
    assert rows["control"]["cpu_within"] < 1e-9
