"""Machines that are namespaces of this one, with lines between them: for tests and benchmarks.

Their names begin with ``hanse-``, nothing of the machine's own network is touched, and all of it is gone at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

Found = TypeVar("Found")
_number = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


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

    def do(self, work: Callable[[], Found]) -> Found:
        """What the work gives, in a thread of this process whose network is that of the machine: an interpreter for
        each question that is asked there took most of the time."""

        def there() -> Found:
            with open(f"/var/run/netns/{self.name}") as its:
                if _LIBC.setns(its.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"{self.name} cannot be entered")
            return work()

        with ThreadPoolExecutor(1) as alone:
            return alone.submit(there).result()


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
