"""After the end nothing is left: no process, no port, no temporary file; and no secret in what stays."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from demo.federation import Federation
from hanse.identity import JoinToken
from tests.waiting import PATIENCE

from .harness import ended, join, propose, until

ROOT = Path(__file__).resolve().parents[2]


def related(home: Path) -> list[psutil.Process]:
    """Processes that have this folder in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.pid != os.getpid()]


def free(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
        return True


def test_nothing_is_left_and_no_secret_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    tempfile.tempdir = None
    home, secrets = tmp_path / "f", []
    with Federation(home) as federation:
        join(federation, 2)
        secrets += [
            federation.operator_token,
            federation.account("sci", "data_scientist"),
            federation.account("own", "data_owner", ["site-a"]),
        ]
        joined = federation.rest("POST", "/api/nodes/join-tokens", {"node": "spare"})["token"]
        secrets += [joined, JoinToken.decode(joined).secret]
        done = ended(federation, propose(federation, num_rounds=2))
        assert done["state"] == "completed"
        told = [
            str(federation.rest("GET", path))
            for path in (
                "/api/state",
                "/api/events?limit=1000",
                "/api/audit?limit=1000",
                "/api/nodes",
                "/api/accounts",
                "/api/nodes/join-tokens",
                "/api/me",
                f"/api/runs/{done['session_id']}/rounds",
            )
        ]
        alive = related(home)
        assert len(alive) >= 5  # coordinator, two nodes, two workers
        addresses = (federation.http, federation.grpc)
    assert until(lambda: not related(home))
    assert all(free(a) for a in addresses)
    assert [p for p in scratch.rglob("*") if p.is_file()] == []
    assert list((home / "coordinator" / "spool").iterdir()) == []
    keys = [p.read_bytes() for p in home.rglob("*.key")]
    private = [re.sub(rb"-----[A-Z ]+-----|\s", b"", k) for k in keys]
    assert len(keys) >= 3
    for text in told:
        assert not any(s in text for s in secrets)
        assert "PRIVATE KEY" not in text
    for path in home.rglob("*"):
        if not path.is_file() or path.suffix == ".key" or path.name == "operator.token":
            continue
        raw = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in raw, path
        assert b"PRIVATE KEY" not in raw, path
        flat = re.sub(rb"\s", b"", raw)
        assert not any(k in flat for k in private), path
    for path in [*home.rglob("*.key"), home / "coordinator" / "operator.token"]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_a_program_with_a_federation_is_stopped(tmp_path: Path, how: int) -> None:
    """As the demo is: by Ctrl-C, by kill, by closing its terminal. Its processes end with it."""
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom demo.__main__ import end_on_signals\n"
        "from demo.federation import Federation\nend_on_signals()\n"
        f"with Federation(Path({str(tmp_path / 'f')!r})):\n    print('up', flush=True)\n    signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert related(tmp_path / "f")
        process.send_signal(how)
        assert process.wait(PATIENCE) != 0
        assert until(lambda: not related(tmp_path / "f"))
    finally:
        process.kill()
        process.stdout.close()  # type: ignore[union-attr]
        for left in related(tmp_path / "f"):
            left.kill()


def test_kill_9_of_a_program_with_a_federation(tmp_path: Path) -> None:
    """As the demo is, its nodes started by threads that end before them. Coordinator, node and worker end with it."""
    home = tmp_path / "f"
    code = (
        "import signal, threading\nfrom pathlib import Path\nfrom demo.federation import Federation\n"
        f"with Federation(Path({str(home)!r})) as f:\n    f.enrol('a')\n"
        "    thread = threading.Thread(target=f.start_node, args=('a',))\n    thread.start()\n    thread.join()\n"
        "    print('up', flush=True)\n    signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        until(lambda: any("worker_main" in " ".join(p.cmdline()) for p in related(home)))
        before = related(home)
        assert len([p for p in before if p.pid != process.pid]) >= 3
        process.kill()
        process.wait(PATIENCE)
        assert until(lambda: not [p for p in before if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
        assert not related(home)
    finally:
        process.kill()
        process.stdout.close()  # type: ignore[union-attr]
        for left in related(home):
            left.kill()


def test_kill_9_of_a_node_takes_its_worker_along(tmp_path: Path) -> None:
    with Federation(tmp_path / "f") as federation:
        join(federation, 1)
        node = federation.nodes["site-a"]
        assert ended(federation, propose(federation, num_rounds=1))["state"] == "completed"
        worker = psutil.Process(_worker(node.pid))
        worker.suspend()  # not even one that does nothing at all lives on
        node.kill()
        assert until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def _worker(agent: int) -> int:
    children = psutil.Process(agent).children()
    return next((c.pid for c in children if "worker_main" in " ".join(c.cmdline())), 0)


def test_a_federation_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    federation = Federation(tmp_path / "f")
    federation.coordinator.ready = "a line that never comes"
    federation.coordinator.start_timeout = 3.0
    with pytest.raises(RuntimeError, match="not ready"):
        federation.__enter__()
    assert until(lambda: not related(tmp_path / "f"))
