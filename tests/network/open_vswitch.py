"""A real Open vSwitch in a namespace, with a database and sockets of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.network.namespaces import Machine, run
from tests.waiting import until

PROGRAMS = ("tc", "ethtool", "ovs-vsctl", "ovs-ofctl", "ovs-vswitchd", "ovsdb-server", "ovsdb-tool")
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
BRIDGE = "br0"


@dataclass
class OpenVSwitch:
    """The bridge ``br0`` of a machine; ``ports`` of it are interfaces there.

    Args:
        folder: of its database, sockets and logs.
    """

    machine: Machine
    folder: Path
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Both processes; the bridge is as it was, if there was one, without its flows."""
        db = self.folder / "conf.db"
        if not db.exists():
            run("ovsdb-tool", "create", str(db), _SCHEMA)
        self._launch("ovsdb-server", str(db), f"--remote=punix:{self.folder}/db.sock")
        self._wait("db.sock")
        self.vsctl("--no-wait", "init")
        self._launch("ovs-vswitchd", f"unix:{self.folder}/db.sock")

    def bridge(self, ports: Sequence[str], controller: str) -> None:
        """Makes the bridge of these interfaces, which calls the controller (``tcp:HOST:PORT``)."""
        self.vsctl(
            *("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "protocols=OpenFlow13"),
            *(word for port in ports for word in ("--", "add-port", BRIDGE, port)),
            *("--", "set-controller", BRIDGE, controller),
            *("--", "set", "controller", BRIDGE, "max_backoff=1000", "connection_mode=out-of-band"),
        )

    def vsctl(self, *words: str) -> str:
        # one that was killed has left its socket, which is there before the new one listens
        return run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--retry", "--timeout=120", *words)

    def flows(self) -> list[str]:
        """What it has now, a line each, by whoever set it."""
        said = run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", f"unix:{self.folder}/{BRIDGE}.mgmt")
        return [row.strip() for row in said.splitlines() if "priority" in row or "actions" in row]

    def meters(self) -> str:
        return run("ovs-ofctl", "-O", "OpenFlow13", "dump-meters", f"unix:{self.folder}/{BRIDGE}.mgmt")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _launch(self, program: str, *words: str) -> None:
        environment = {**os.environ, "OVS_RUNDIR": str(self.folder), "OVS_LOGDIR": str(self.folder)}
        environment |= {"OVS_DBDIR": str(self.folder), "OVS_SYSCONFDIR": str(self.folder)}
        with (self.folder / f"{program}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [*self.machine.prefix, program, *words, "-vconsole:warn"], env=environment, stdout=log, stderr=log
                )
            )

    def _wait(self, name: str) -> None:
        until((self.folder / name).exists, 0.02)


@contextlib.contextmanager
def open_vswitch(machine: Machine, folder: Path) -> Iterator[OpenVSwitch]:
    """Started, and ended with the block."""
    it = OpenVSwitch(machine, folder)
    try:
        it.start()
        yield it
    finally:
        it.stop()
