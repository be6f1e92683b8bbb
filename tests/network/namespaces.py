"""Machines that are namespaces of this one, with lines between them: for tests and benchmarks.

Their names begin with ``hanse-``, nothing of the machine's own network is touched, and all of it is gone at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_number = itertools.count()


def lacking(*programs: str) -> str:
    """Why such machines cannot be made here; "" where they can."""
    if os.geteuid() != 0:
        return "namespaces and queues need root"
    missing = [name for name in ("ip", *programs) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["ip", "netns", "add", name := f"hanse-{os.getpid()}-try"], capture_output=True, text=True)
    if tried.returncode:
        return f"no namespaces here: {tried.stderr.strip()}"
    made = subprocess.run(
        ["ip", "-n", name, "link", "add", "name", "one", "type", "veth", "peer", "name", "two"], capture_output=True
    )
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return "this kernel has no veth" if made.returncode else ""


def run(*arguments: str) -> str:
    """What a program printed. Raises ``CalledProcessError`` with what it said in a note."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Machine:
    """One namespace. ``prefix`` in front of a command runs it there."""

    name: str
    address: str = ""
    prefix: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = ("ip", "netns", "exec", self.name)

    def run(self, *arguments: str) -> str:
        return run(*self.prefix, *arguments)


@contextlib.contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """So many, without any line between them."""
    made = [Machine(f"hanse-{os.getpid()}-{next(_number)}-{name}") for name in names]
    try:
        for machine in made:
            run("ip", "netns", "add", machine.name)
            machine.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        for machine in made:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False)


def line(one: Machine, port: str, two: Machine, address: str) -> None:
    """A line from ``port`` of one machine to ``eth0`` of another, which has the address (a /24) there."""
    one.run("ip", "link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", two.name)
    one.run("ip", "link", "set", port, "up")
    two.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    two.run("ip", "link", "set", "eth0", "up")
    two.address = address
    for machine, interface in (
        (one, port),
        (two, "eth0"),
    ):  # what a switch without hardware sees has to be whole packets
        machine.run("ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
