"""What the code of a training plan may not ask of the kernel: harmless tries of each, from inside the cage."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hanse.node import cage, system_calls
from tests.waiting import PATIENCE

needs_both = pytest.mark.skipif(
    not (cage.abi() and system_calls.available()), reason="this kernel cannot shut a plan in; plans are refused here"
)
TRIES = """
import ctypes, json, os, signal, socket, subprocess, sys, threading, time
from pathlib import Path
from hanse.node import cage
place, other = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
seen = [*cage.python(), *map(Path, cage.SYSTEM)]
if sys.argv[3] == "in":
    assert cage.shut(seen)
said = {}
def attempt(name, do):
    try:
        do()
        said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def stream():
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(5)
        made.connect(place)
        made.sendall(b"let me out")
def datagram():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"let me out", place + ".datagrams")
def pair():
    one, two = socket.socketpair()
    one.sendall(b"x")
    assert two.recv(1) == b"x"
def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
def thread():
    one = threading.Thread(target=lambda: None)
    one.start()
    one.join()
attempt("socket of a file", stream)
attempt("datagram to a file", datagram)
attempt("internet", lambda: socket.socket(socket.AF_INET))
attempt("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("fork", fork)
attempt("program", lambda: subprocess.run(["/usr/bin/env"], stdout=subprocess.DEVNULL))
attempt("namespaces", lambda: os.unshare(0) if hasattr(os, "unshare") else call(CALLS["unshare"], 0x10000000))
attempt("memory of another", lambda: call(CALLS["process_vm_readv"], other, 0, 0, 0, 0, 0))
attempt("trace", lambda: call(CALLS["ptrace"], 0x4206, other, 0, 0))
attempt("descriptor of another", lambda: call(434, other, 0))
attempt("ring", lambda: call(425, 1, ctypes.create_string_buffer(120)))
attempt("bpf", lambda: call(CALLS["bpf"], 0, ctypes.create_string_buffer(128), 72))
attempt("key", lambda: call(CALLS["keyctl"], 0, -3, 0))
attempt("events", lambda: call(CALLS["perf_event_open"], ctypes.create_string_buffer(128), 0, -1, -1, 0))
attempt("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
attempt("pair", pair)
attempt("thread", thread)
print(json.dumps(said))
"""


def tried(where: str) -> dict[str, str]:
    machine = system_calls._MACHINES[os.uname().machine]
    heard: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "engine.sock")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
            server.bind(place)
            server.listen()
            box.bind(f"{place}.datagrams")
            code = TRIES.replace("import ctypes", f"CALLS = {dict(machine.refused)!r}\nimport ctypes", 1)
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
                arguments = [place, str(stranger.pid), where]
                done = subprocess.run(
                    [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=PATIENCE
                )
                stranger.kill()
            assert done.returncode == 0, done.stderr
            for one in (server, box):
                one.setblocking(False)
                try:
                    if one is server:
                        server.accept()[0].close()
                    heard.append(b"stream" if one is server else one.recv(100))
                except BlockingIOError:
                    pass
    said: dict[str, str] = json.loads(done.stdout)
    return {**said, "heard": ", ".join(map(bytes.decode, heard))}


@needs_both
def test_a_plan_reaches_no_other_program_and_starts_none() -> None:
    said = tried("in")
    assert said.pop("heard") == ""
    assert {said.pop("pair"), said.pop("thread")} == {"done"}  # what libraries need
    assert set(said.values()) == {"PermissionError"}, said


@needs_both
def test_outside_of_the_cage_the_same_tries_reach_other_programs() -> None:
    """The test above can fail."""
    said = tried("out")
    assert said["heard"] == "stream, let me out"
    for name in ("socket of a file", "datagram to a file", "internet", "fork", "program", "descriptor of another"):
        assert said[name] == "done", (name, said)


def test_every_call_has_one_number() -> None:
    for machine in system_calls._MACHINES.values():
        numbers = [machine.clone, machine.socketpair, *machine.refused.values()]
        numbers += system_calls._SAME.values()
        assert len(set(numbers)) == len(numbers)
        assert len(system_calls._program(machine)) // 8 < 256
    assert {*system_calls._MACHINES["x86_64"].refused} - {*system_calls._MACHINES["aarch64"].refused} == {
        "iopl",
        "ioperm",
        "fork",
        "vfork",
    }


def test_a_machine_whose_calls_are_not_known_is_none_for_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.node.workers import Workers

    monkeypatch.setattr(system_calls, "available", lambda: False)

    class Plain:
        home, node, pool, offline = Path("/nowhere"), "a", None, True

    plain: Any = Plain()
    assert any("system calls" in said for said in Workers(plain).exposed)
    monkeypatch.setattr(system_calls.platform, "machine", lambda: "mips")
    with pytest.raises(OSError, match="not known"):
        system_calls.refuse()
