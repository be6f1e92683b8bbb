"""Files that are damaged, cut off, or cannot be written: a sentence, never a traceback, and nothing leaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from demo.federation import Federation
from hanse.errors import HanseError
from hanse.store.audit import AuditLog
from tests.coordinator import federation
from tests.node.one_node import probe, running
from tests.waiting import PATIENCE, ending

from .harness import join, propose, until

DAMAGE = {
    "garbage": lambda raw: b"\xff\x00\x01" * 100,
    "cut off": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "another shape": lambda raw: b"[1, 2, 3]",
}


def damaged(home: Path, to: Path, file: str, how: str) -> Path:
    shutil.copytree(home, to)
    path = to / file
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    for beside in ("-wal", "-shm"):
        (to / (file + beside)).unlink(missing_ok=True)
    return to


def settled(process: subprocess.Popen[str]) -> str | None:
    """What a process said that ended; None once it is at rest. A busy machine makes a start slow, so it is at rest when
    it used the processor for less than a tenth of each of the last six seconds."""
    used, rest = 0.0, 0
    end = time.monotonic() + PATIENCE
    while rest < 6 and time.monotonic() < end:
        try:
            return process.communicate(timeout=1)[0]
        except subprocess.TimeoutExpired:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = psutil.Process(process.pid).cpu_times()
                before, used = used, times.user + times.system
                rest = rest + 1 if used > 0.2 and used - before < 0.1 else 0
    return None


def outcome(arguments: list[str], ends: bool = False) -> tuple[int | None, str]:
    """What a command says, and how it ends; None: it was still at work and was then asked to stop.

    Args:
        ends: it has to end by itself, and is waited for.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "hanse.cli", *arguments],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with ending(process):
        said = process.communicate(timeout=PATIENCE)[0] if ends else settled(process)
        if said is not None:
            return process.returncode, said
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
        return None, said


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a federation that has worked and was stopped."""
    folder = tmp_path_factory.mktemp("files") / "f"
    with Federation(folder) as federation:
        join(federation, 1)
        run = propose(federation, num_rounds=1)
        until(lambda: federation.rest("GET", f"/api/training/sessions/{run}")["state"] == "completed")
    return folder


@pytest.mark.long
@pytest.mark.timeout(600)
def test_damaged_files_of_a_node(homes: Path, tmp_path: Path) -> None:
    files = (
        "node.toml",
        "catalogue.json",
        "approvals.db",
        "identity.json",
        "node.key",
        "node.crt",
        "authority.crt",
        "audit.jsonl",
        "summaries.json",
    )
    cases = [(file, how) for file in files for how in DAMAGE]
    fatal = {(file, "garbage") for file in ("node.toml", "approvals.db", "identity.json", "node.key")}

    def start(case: tuple[str, str]) -> tuple[tuple[str, str], int | None, str]:
        home = damaged(homes / "site-a", tmp_path / f"{case[0]}-{case[1]}".replace(" ", "-"), *case)
        return case, *outcome(["node", "start", "--home", str(home)], case in fatal)

    with ThreadPoolExecutor(4) as pool:
        for case, code, said in pool.map(start, cases):
            assert "Traceback" not in said, (case, said[-1500:])
            assert code in (None, 1), (case, code, said)
            assert code == 1 or case not in fatal, (case, said)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_damaged_files_of_a_coordinator(homes: Path, tmp_path: Path) -> None:
    files = ["coordinator.json", "hanse.db", "audit.jsonl", "audit.jsonl.head"]
    files += [f"authority/{p.name}" for p in (homes / "coordinator" / "authority").iterdir() if p.is_file()]
    cases = [(file, how) for file in files for how in DAMAGE]
    fatal = {(file, how) for file, how in cases if how == "garbage" and (file == "hanse.db" or file.endswith(".key"))}

    def start(case: tuple[str, str]) -> tuple[tuple[str, str], int | None, str]:
        name = f"{case[0]}-{case[1]}".replace(" ", "-").replace("/", "-")
        home = damaged(homes / "coordinator", tmp_path / name, *case)
        return case, *outcome(
            [
                "coordinator",
                "start",
                "--home",
                str(home),
                "--plain-http",
                "--http",
                "127.0.0.1:0",
                "--listen",
                "grpc://127.0.0.1:0",
            ],
            case in fatal,
        )

    with ThreadPoolExecutor(4) as pool:
        for case, code, said in pool.map(start, cases):
            assert "Traceback" not in said, (case, said[-1500:])
            assert code in (None, 1), (case, code, said)
            assert code == 1 or case not in fatal, (case, said)


def test_a_damaged_approvals_file_says_no(tmp_path: Path) -> None:
    """Deny by default: what cannot be read was not approved. The owner's commands get an answer."""

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            node.agent.approvals._db.execute("UPDATE decisions SET until = 'garbage'")
            with pytest.raises(HanseError):
                await node.task(bundle, {"round": 1})
            node.agent.approvals._db.execute("DROP TABLE decisions")
            with pytest.raises(HanseError):
                await node.task(bundle, {"round": 1})
            assert "task.answered" not in node.actions()
            from hanse.node.control import ask

            with pytest.raises(HanseError):
                await asyncio.to_thread(ask, node.home, "approve", run="run-1", actor="owner")

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(homes: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(homes / "site-a", home)
    home.chmod(0o500)
    code, said = outcome(["node", "start", "--home", str(home)])
    home.chmod(0o700)
    assert code == 1
    assert "Traceback" not in said


def test_a_full_disk_at_the_node(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the audit log cannot grow, so nothing leaves; when there is room again, it goes on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            import numpy as np

            ask, x = {"round": 1}, {"x": np.ones(16, np.float32)}
            await node.task(bundle, ask, x)
            left = len(node.coordinator.left)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "audit.jsonl").stat().st_size + 10, hard))
            try:
                with pytest.raises((HanseError, OSError)):
                    await node.task(bundle, ask, x, step=1)
                assert node.agent.worker.pid is not None
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert bytes(node.coordinator.left[left:]).count(b"safetensors") == 0
            await node.task(bundle, ask, x, step=2)
            assert node.agent.audit.verify().ok

    asyncio.run(main())


def test_a_clock_that_jumps_moves_no_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of rounds and the presence of nodes use the clock that nobody can set: here it goes a day on, or a
    day back, each time that anybody looks at it."""
    started, jumps = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: started + 86_400 * (-1) ** next(jumps))

    async def main() -> None:
        async with federation.Federation(tmp_path / "f") as f:
            f.people("a")
            node = await f.node("a")
            for _ in range(3):
                assert f.it.presence.online() == {"a"}
                assert f.it.presence.status("a", None) == "online"
            node.hold = asyncio.Event()
            session = await f.propose(round_timeout_s=20.0, consent_timeout_s=10 * 86_400.0)
            await f.consent(session, "a")
            await f.until(lambda _: bool(node.tasks))
            await asyncio.sleep(0.1)
            node.hold.set()
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            assert all(not r.record["failures"] for r in f.store.rounds.list(session["session_id"]))

    asyncio.run(main())
    assert next(jumps) > 10  # it was looked at


def test_an_audit_log_whose_end_was_cut_off_says_so(tmp_path: Path) -> None:
    kept = AuditLog(tmp_path / "audit.jsonl")
    for number in range(5):
        kept.append("node", "task.answered", f"run-{number}")
    kept.close()
    for how, whole in (("last line", False), ("half a line", True)):
        path = tmp_path / f"{how}.jsonl"
        raw = (tmp_path / "audit.jsonl").read_bytes()
        lines = raw.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]) if how == "last line" else raw + b'{"seq": 9')
        shutil.copy(tmp_path / "audit.jsonl.head", path.with_name(path.name + ".head"))
        log = AuditLog(path)
        assert log.verify().ok is whole
        log.close()
