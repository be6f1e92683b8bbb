"""A federated run through a switch: its large transfers are preferred while they last, and a controller that is away
changes nothing but that."""

from __future__ import annotations

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


# Counts the bytes of IPv4 packets that come in with DSCP 46 (a kernel need not have filters that count), to a file.
_COUNT = """
import os, select, socket, sys
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
heard.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
file, total = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 0
print("counting", flush=True)
while True:
    packet = heard.recv(1 << 16)
    if packet[15] >> 2 == 46:
        total += len(packet)
    if not select.select([heard], [], [], 0)[0]:
        os.pwrite(file, str(total).encode(), 0)
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_large_transfers_of_a_run_are_preferred_while_they_last(driver: str, tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with place(driver, tmp_path) as (switch, server, node, _):
        try:
            environment = controlled(processes, switch, driver)
            federation(processes, server, node, tmp_path, environment)
            processes.start(node, "counter", "counting", "-c", _COUNT, str(tmp_path / "marked"))
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
                assert int((tmp_path / "marked").read_text()) > BYTES * (ROUNDS - 1)
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
