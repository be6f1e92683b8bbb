"""A federation whose coordinator is behind a narrow line, with a switch that can prefer what it sends: in namespaces,
of the processes that an institution would start. For tests, and for ``bench/network.py``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hanse.identity import Authority
from tests.network.controller import TOKEN
from tests.network.namespaces import Machine, line, machines
from tests.network.open_vswitch import open_vswitch
from tests.waiting import until

RATE = 100  # megabits per second that the line carries
STREAMS = 4
SERVER, NODE, BULK = "10.3.0.10", "10.3.0.101", "10.3.0.201"
CONTROL = "10.4.0.1"  # where the coordinator reaches the controller, beside the line
DRIVERS = {
    "openflow": ("--set", f"rate_mbit_s={RATE}"),
    "linux": ("--set", f"rate_mbit_s={RATE}", "--set", "interfaces=server"),
}
_HANSE = ("-m", "hanse.cli")
_SINK = """
import socket, threading
server = socket.create_server(("0.0.0.0", 5001))
def swallow(stream):
    room = bytearray(1 << 16)
    while stream.recv_into(room): pass
while True: threading.Thread(target=swallow, args=(server.accept()[0],), daemon=True).start()
"""
_SOURCE = f"""
import socket, threading
def pour():
    stream, block = socket.create_connection(("{SERVER}", 5001)), bytes(1 << 16)
    while True: stream.sendall(block)
for _ in range({STREAMS}): threading.Thread(target=pour, daemon=True).start()
threading.Event().wait()
"""


class Processes:
    """What was started, to be ended.

    Args:
        home: folder of logs.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, machine: Machine, name: str, ready: str, *words: str, **environment: str) -> None:
        """A process there; returns when it has printed ``ready``."""
        log = self.home / f"{name}.log"
        told = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        with log.open("wb") as file:
            process = subprocess.Popen([*machine.prefix, sys.executable, *words], stdout=file, stderr=file, env=told)
        self._started.append(process)
        end = time.monotonic() + 240
        while ready not in log.read_text():
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"{name} is not ready: {log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def narrow(switch: Machine) -> None:
    """The line to the server takes ``RATE`` Mbit/s. Open vSwitch takes such a queue off a port that it is given, so it
    is made after that."""
    switch.run("tc", "qdisc", "add", "dev", "server", "root", "handle", "1:", "htb", "default", "1")
    rate = ("rate", f"{RATE}mbit", "burst", "64k")
    switch.run("tc", "class", "add", "dev", "server", "parent", "1:", "classid", "1:1", "htb", *rate)


@contextlib.contextmanager
def place(driver: str, home: Path) -> Iterator[tuple[Machine, Machine, Machine, Machine]]:
    """A switch of the driver's kind; a server behind a narrow line, a node and a host of bulk streams at it."""
    with machines("switch", "server", "node", "bulk") as (switch, server, node, bulk):
        for port, machine, address in (("server", server, SERVER), ("node", node, NODE), ("bulk", bulk, BULK)):
            line(switch, port, machine, address)
        switch.run("ip", "link", "add", "name", "control", "type", "veth", "peer", "name", "eth1", "netns", server.name)
        for machine, interface, address in ((switch, "control", CONTROL), (server, "eth1", "10.4.0.2")):
            machine.run("ip", "address", "add", f"{address}/24", "dev", interface)
            machine.run("ip", "link", "set", interface, "up")
        if driver == "openflow":
            with open_vswitch(switch, home) as it:
                it.bridge(("server", "node", "bulk"), "tcp:127.0.0.1:6633")
                narrow(switch)
                yield switch, server, node, bulk
            return
        switch.run("ip", "link", "add", "name", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        for port in ("server", "node", "bulk"):
            switch.run("ip", "link", "set", port, "master", "br0")
        narrow(switch)
        yield switch, server, node, bulk


def controlled(processes: Processes, switch: Machine, driver: str) -> dict[str, str]:
    """Starts a controller at the switch; the variables by which a coordinator asks it."""
    home = processes.home
    if driver == "linux":  # its queues take the place of what makes the line narrow, and are as narrow
        switch.run("tc", "qdisc", "delete", "dev", "server", "root")
    authority = Authority.open(home / "control")
    key, certificate = authority.issue_server([CONTROL])
    for name, content in (("key", key), ("crt", certificate + authority.pem)):
        (home / f"controller.{name}").write_bytes(content)
    tls = ("--tls-cert", str(home / "controller.crt"), "--tls-key", str(home / "controller.key"))
    given = ("--driver", driver, "--http", f"{CONTROL}:8181", *tls, *DRIVERS[driver])
    words = (*_HANSE, "network", "controller", *given)
    processes.start(switch, "controller", "controller at", *words, SDN_CONTROLLER_TOKEN=TOKEN)
    return {
        "SDN_CONTROLLER_URL": f"https://{CONTROL}:8181",
        "SDN_CONTROLLER_TOKEN": TOKEN,
        "SDN_CONTROLLER_CA": str(home / "control" / "authority.crt"),
    }


def streams(processes: Processes, server: Machine, bulk: Machine) -> None:
    """Fills the line to the server."""
    processes.start(server, "sink", "", "-c", _SINK)
    time.sleep(1)
    processes.start(bulk, "source", "", "-c", _SOURCE)
    time.sleep(3)  # until the streams have filled the line


def reached(machine: Machine, address: str, port: int) -> None:
    """Returns when there is a way. A switch whose controller does not answer begins to forward after some seconds."""

    def there() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 2):
            return True
        return False

    until(lambda: machine.do(there), 0.2)


def federation(
    processes: Processes, server: Machine, node: Machine, home: Path, environment: Mapping[str, str]
) -> None:
    """A coordinator with those variables and one node, ``site``, that accepts what its rules allow; both on line."""
    coordinator, site = str(home / "coordinator"), str(home / "site")
    where = ("--http", f"{SERVER}:8000", "--listen", f"grpc://{SERVER}:7443", "--host-name", SERVER)
    words = (*_HANSE, "coordinator", "start", "--home", coordinator, *where)
    processes.start(server, "coordinator", "ready", *words, **environment)
    joining = (*_HANSE, "coordinator", "join-token", "site", "--home", coordinator)
    token = server.run(sys.executable, *joining).strip()
    reached(node, SERVER, 8000)
    node.run(sys.executable, *_HANSE, "node", "init", "--home", site, "--join", token, "--name", "site")
    node.run(sys.executable, *_HANSE, "node", "policy", "set", "standing", "accept-allowed", "--home", site)
    processes.start(node, "node", "on line", *_HANSE, "node", "start", "--home", site)


def rounds_of(server: Machine, home: Path, rounds: int, nbytes: int) -> list[dict[str, Any]]:
    """The records of a run that sends so many bytes each way in each round."""
    script = str(Path(__file__).with_name("one_run.py"))
    words = [*server.prefix, sys.executable, script, f"https://{SERVER}:8000", str(home), str(rounds), str(nbytes)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told
