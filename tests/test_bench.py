"""What bench/ measures a federation with still is one: its light nodes are asked, agree and answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
