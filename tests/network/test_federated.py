"""A federated run through a switch: its large transfers are preferred while they last, and a controller that is away
changes nothing but that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.network.controller import Controller
from tests.network.federated import CONTROL, DRIVERS, Processes, controlled, federation, place, rounds_of
from tests.network.namespaces import Machine, lacking
from tests.network.open_vswitch import PROGRAMS

WHY = lacking(*PROGRAMS)
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
ROUNDS, BYTES = 3, 4 << 20


def look(switch: Machine, path: str, home: Path) -> Any:
    """What the controller says."""
    asker = Controller(switch, home)
    return asker.ask("GET", path, url=f"https://{CONTROL}:8181", authority=home / "control" / "authority.crt")[1]


def count_marked(machine: Machine) -> None:
    """From here on the machine counts what comes in with DSCP 46."""
    machine.run("tc", "qdisc", "add", "dev", "eth0", "ingress")
    expedited = ("match", "ip", "dsfield", "0xb8", "0xfc", "action", "pass")
    machine.run("tc", "filter", "add", "dev", "eth0", "parent", "ffff:", "protocol", "ip", "u32", *expedited)


def marked(machine: Machine) -> int:
    """Bytes that it has counted."""
    said = machine.run("tc", "-s", "filter", "show", "dev", "eth0", "parent", "ffff:")
    return int(re.search(r"Sent (\d+) bytes", said)[1])  # type: ignore[index]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_large_transfers_of_a_run_are_preferred_while_they_last(driver: str, tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with place(driver, tmp_path) as (switch, server, node, _):
        try:
            environment = controlled(processes, switch, driver)
            federation(processes, server, node, tmp_path, environment)
            count_marked(node)
            before = look(switch, "/fl/stats", tmp_path)
            assert before["connected"]
            assert before["priorities"] == []
            done = rounds_of(server, tmp_path / "coordinator", ROUNDS, BYTES)
            assert [step["status"] for step in done] == ["ok"] * ROUNDS
            for step in done:
                line = step["participants"]["site"]["line"]
                assert {"up_mbit_s", "down_mbit_s", "latency_ms", "packet_loss"} == set(line)
            after = look(switch, "/fl/stats", tmp_path)
            assert [server["server_ip"] for server in after["servers"]] == ["10.3.0.10"]
            assert after["clients"] == ["10.3.0.101"]
            log = (tmp_path / "coordinator.log").read_text()
            assert "not preferred" not in log
            if driver == "linux":  # the queue keeps its count when its filters are gone
                first = next(p for p in after["ports"] if p["queue"] == "preferred")
                assert first["bytes"] > BYTES * (ROUNDS - 1)  # the first moment of the first round came before
            else:  # flows are gone with their counts; what they marked was counted where it arrived
                assert marked(node) > BYTES * (ROUNDS - 1)
        finally:
            processes.stop()


@pytest.mark.timeout(600)
def test_without_its_controller_a_run_goes_on_and_says_so(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    nobody = {"SDN_CONTROLLER_URL": f"https://{CONTROL}:8181"}
    with place("linux", tmp_path) as (_, server, node, _):
        try:
            federation(processes, server, node, tmp_path, nobody)
            done = rounds_of(server, tmp_path / "coordinator", ROUNDS, BYTES)
            assert [step["status"] for step in done] == ["ok"] * ROUNDS
            assert (
                "traffic is not preferred: the network controller does not answer"
                in (tmp_path / "coordinator.log").read_text()
            )
        finally:
            processes.stop()
