"""A real Open vSwitch: what it was asked to prefer is in its flows, and what may happen to it, its controller and
whoever lies to them."""

from __future__ import annotations

import contextlib
import errno
import re
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.network.controller import Controller, controller
from tests.network.namespaces import Machine, lacking, line, machines
from tests.network.open_vswitch import PROGRAMS, OpenVSwitch, open_vswitch

WHY = lacking(*PROGRAMS)
pytestmark = [pytest.mark.skipif(bool(WHY), reason=WHY), pytest.mark.timeout(900)]
SERVER, CLIENT, OTHER = "10.2.0.10", "10.2.0.101", "10.2.0.66"


@dataclass
class Lab:
    """A server and two clients at one switch, which has a controller."""

    switch: OpenVSwitch
    controller: Controller
    server: Machine
    client: Machine
    other: Machine

    def ask(self, path: str, **body: Any) -> tuple[int, Any]:
        return self.controller.ask("POST", path, body)

    def register(self) -> None:
        assert self.ask("/fl/register/server", server_ip=SERVER, server_port=7443)[0] == 201
        assert self.ask("/fl/register/client", client_ip=CLIENT)[0] == 201

    def prefer(self, **more: Any) -> tuple[int, Any]:
        return self.ask("/fl/prioritize", src_ip=CLIENT, dst_ip=SERVER, **more)

    def preferred(self) -> list[str]:
        """Flows of preferences, in the switch's own words."""
        return [row for row in self.switch.flows() if re.search(r"priority=1\d\d\d", row)]

    def counted(self) -> int:
        """Packets that were preferred."""
        return sum(int(re.search(r"n_packets=(\d+)", row)[1]) for row in self.preferred())  # type: ignore[index]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path) as it:
        yield it


@contextlib.contextmanager
def laboratory(tmp_path: Path) -> Iterator[Lab]:
    with machines("switch", "server", "client", "other") as (at, server, client, other):
        for port, machine, address in (("p1", server, SERVER), ("p2", client, CLIENT), ("p3", other, OTHER)):
            line(at, port, machine, address)
        given = ("--driver", "openflow", "--set", "rate_mbit_s=100", "--within", "10.2.0.0/24")
        with open_vswitch(at, tmp_path) as switch, controller(at, tmp_path, *given) as it:
            switch.bridge(("p1", "p2", "p3"), "tcp:127.0.0.1:6633")
            it.connected()
            yield Lab(switch, it, server, client, other)


def reached(source: Machine, address: str) -> bool:
    """Whether a packet comes there and one comes back: nobody listens, and that is said."""
    return source.do(lambda: called(address, 9, 3)) == errno.ECONNREFUSED


def called(address: str, port: int, seconds: float, own: str = "") -> int:
    """The error number of one try to connect, from an address where one is given."""
    with socket.socket() as one:
        one.settimeout(seconds)
        if own:
            one.bind((own, 0))
        return one.connect_ex((address, port))


def knock(machine: Machine, address: str, port: int = 7443) -> None:
    """One TCP packet there, from the machine's own address."""
    machine.do(lambda: called(address, port, 1))


def test_a_preference_is_flows_that_mark_and_meter_and_it_ends_by_itself(lab: Lab) -> None:
    assert reached(lab.client, SERVER)  # a switch with a controller is a switch
    lab.register()
    status, said = lab.prefer(priority=200, duration=600)
    assert (status, said["success"], said["port"]) == (201, True, 7443)
    there, back = sorted(lab.preferred(), key=lambda row: "tp_src" in row)
    assert f"nw_src={CLIENT},nw_dst={SERVER},tp_dst=7443" in there
    assert f"nw_src={SERVER},nw_dst={CLIENT},tp_src=7443" in back
    for row in (there, back):
        assert "priority=1200" in row
        assert "hard_timeout=600" in row
        assert "set_field:46->ip_dscp" in row
        assert "set_queue:1" in row
    rest = [row for row in lab.switch.flows() if "priority=100," in row]
    assert len(rest) == 2
    assert all("meter:18497" in row for row in rest)
    assert "rate=10000" in lab.switch.meters()
    knock(lab.client, SERVER)
    assert lab.counted() >= 2
    stats = lab.controller.ask("GET", "/fl/stats")[1]
    assert stats["priorities"][0]["flows"][0]["packets"] + stats["priorities"][0]["flows"][1]["packets"] >= 2
    assert lab.prefer(duration=2)[0] == 201  # said again, it counts from now
    lab.controller.until(lambda: not lab.preferred())
    lab.controller.until(lambda: lab.controller.ask("GET", "/fl/stats")[1]["priorities"] == [])
    assert not [row for row in lab.switch.flows() if "meter" in row]
    assert reached(lab.client, SERVER)


def test_released_it_is_gone_at_once_and_said_twice_it_is_there_once(lab: Lab) -> None:
    lab.register()
    assert lab.ask("/fl/register/client", client_ip=CLIENT) == (
        200,
        {"success": True, "client_ip": CLIENT, "new": False},
    )
    assert lab.prefer()[0] == 201
    assert lab.prefer()[0] == 201
    assert len(lab.preferred()) == 2
    assert lab.ask("/fl/release", src_ip=CLIENT, dst_ip=SERVER)[1]["released"] is True
    assert lab.preferred() == []
    assert lab.ask("/fl/release", src_ip=CLIENT, dst_ip=SERVER)[1]["released"] is False


def test_a_switch_that_was_restarted_is_told_again(lab: Lab) -> None:
    lab.register()
    assert lab.prefer()[0] == 201
    lab.switch.stop()
    lab.controller.until(lambda: lab.controller.ask("GET", "/health")[0] == 503)
    status, said = lab.prefer()
    assert (status, said["success"]) == (503, False)
    assert "no switch is connected" in said["error"]["message"]
    assert lab.controller.ask("GET", "/topology")[0] == 503
    lab.switch.start()
    lab.controller.until(lambda: lab.controller.ask("GET", "/health")[0] == 200 and len(lab.preferred()) == 2)


def test_with_its_controller_killed_a_preference_still_ends_and_traffic_goes_on(lab: Lab) -> None:
    lab.register()
    assert lab.prefer(duration=20)[0] == 201
    lab.controller.stop(signal.SIGKILL)
    assert lab.preferred()
    lab.controller.until(lambda: not lab.preferred(), 0.5)
    assert reached(lab.client, SERVER)
    lab.controller.start()
    lab.controller.connected()
    assert lab.prefer()[0] == 404  # a new controller knows nobody, and says so
    lab.register()
    assert lab.prefer()[0] == 201
    lab.controller.stop()  # an orderly end takes all of it away
    assert lab.preferred() == []
    assert reached(lab.client, SERVER)


def test_a_forged_address_gets_nothing(lab: Lab) -> None:
    """Not in packets: a flow fits only what enters where its host was learned. Not in a request: who is not there, not
    of the network or not registered is not preferred."""
    lab.register()
    assert lab.prefer()[0] == 201
    lab.other.run("ip", "address", "add", f"{CLIENT}/32", "dev", "eth0")
    lab.other.do(lambda: called(SERVER, 7443, 1, CLIENT))
    sent = [row for row in lab.preferred() if "tp_dst" in row]
    assert "n_packets=0" in sent[0]
    hosts = lab.controller.ask("GET", "/v1.0/topology/hosts")[1]
    assert len([h for h in hosts if h["ip"] == CLIENT]) == 1
    for address, status in (
        ("10.2.0.77", 201),
        ("192.0.2.1", 422),
        ("10.2.0.255", 422),
        ("8.8.8.8 ", 422),
        ("::1", 422),
    ):
        assert lab.ask("/fl/register/client", client_ip=address)[0] == status
    status, said = lab.ask("/fl/prioritize", src_ip="10.2.0.77", dst_ip=SERVER)
    assert status == 404
    assert "no host at the switch says that it has 10.2.0.77" in said["error"]["message"]
    assert len(lab.preferred()) == 2
    assert lab.ask("/fl/prioritize", src_ip=OTHER, dst_ip=SERVER)[0] == 404


def test_what_the_switch_says_is_shown(lab: Lab) -> None:
    lab.register()
    assert lab.prefer()[0] == 201
    topology = lab.controller.ask("GET", "/topology")[1]
    assert len(topology["switches"]) == 1
    ports = {host["ip"]: host["port"] for host in topology["hosts"]}
    names = {port["port"]: port["name"] for port in topology["ports"]}
    assert (names[ports[SERVER]], names[ports[CLIENT]]) == ("p1", "p2")
    before = {p["name"]: p["tx_bytes"] for p in lab.controller.ask("GET", "/stats/ports")[1]}
    assert reached(lab.client, SERVER)
    after = {p["name"]: p["tx_bytes"] for p in lab.controller.ask("GET", "/stats/ports")[1]}
    assert after["p1"] > before["p1"]
    assert len([f for f in lab.controller.ask("GET", "/stats/flows")[1] if f.get("client") == CLIENT]) == 2


def test_queues_are_made_at_the_ports_of_the_line_and_taken_away(tmp_path: Path) -> None:
    """Also those that a killed controller left; a port that is not there is said before anything is served."""
    with machines("switch", "server") as (at, server):
        line(at, "p1", server, SERVER)
        database = ("--set", f"database=unix:{tmp_path}/db.sock", "--set", "rate_mbit_s=100")
        given = ("--driver", "openflow", *database, "--set", "ports=p1")
        with open_vswitch(at, tmp_path) as switch:
            switch.bridge(("p1",), "tcp:127.0.0.1:6633")
            with controller(at, tmp_path, *given) as it:
                it.connected()
                it.stop(signal.SIGKILL)
                it.start()
                queues = switch.vsctl("--columns=other_config", "list", "queue")
                assert queues.count('min-rate="90000000"') == 1
                assert queues.count('min-rate="10000000"') == 1
                it.until(lambda: "rate 90Mbit ceil 100Mbit" in at.run("tc", "class", "show", "dev", "p1"))
            assert switch.vsctl("list", "queue").strip() == ""
            assert switch.vsctl("get", "port", "p1", "qos").strip() == "[]"
            assert "htb" not in at.run("tc", "qdisc", "show", "dev", "p1")
            wrong = Controller(at, tmp_path, "--driver", "openflow", *database, "--set", "ports=p7")
            with pytest.raises(AssertionError, match="Open vSwitch has no port 'p7'"):
                wrong.start()
            wrong.stop()
            assert switch.vsctl("list", "queue").strip() == ""
