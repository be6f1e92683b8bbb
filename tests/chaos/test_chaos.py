"""The chaos run itself: that it goes through, and that its proof finds what is wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import proof
from tests.chaos.world import Process

RUN = {
    "session_id": "run-1",
    "state": "completed",
    "reason": "",
    "config": {"name": "exact"},
    "result": {"sha256": "a"},
}


class Told:
    """A coordinator that says so."""

    def __init__(self, *sessions: dict[str, Any]) -> None:
        self.sessions = {session["session_id"]: session for session in sessions}

    async def ask(self, method: str, path: str) -> Any:
        if path.startswith("/api/training/sessions?"):
            asked = dict(one.split("=") for one in path.partition("?")[2].split("&"))
            begin = int(asked["offset"])
            return {"sessions": list(self.sessions.values())[begin : begin + int(asked["limit"])]}
        return self.sessions[path.rpartition("/")[2]]


@pytest.mark.parametrize(
    ("session", "wrong"),
    [
        (RUN, ""),
        ({**RUN, "state": "failed", "reason": "node ulm was lost", "result": None}, ""),
        ({**RUN, "result": {"sha256": "b"}}, "ended with b, undisturbed with a"),
        ({**RUN, "result": None}, "ended with None"),
        ({**RUN, "state": "running"}, "is running"),
        ({**RUN, "state": "paused", "reason": "the disk is full"}, "is paused"),
        ({**RUN, "state": "failed", "result": None}, "without a reason"),
    ],
)
def test_a_run_that_ended_otherwise_is_found(session: dict[str, Any], wrong: str) -> None:
    found, ends = asyncio.run(proof.runs(Told(session), {"exact": "a"}, {"run-1": "exact"}))  # type: ignore[arg-type]
    assert ends == {session["state"]: 1}
    assert bool(found) == bool(wrong)
    assert wrong in " ".join(found)


def test_a_run_that_was_lost_is_found() -> None:
    found, _ = asyncio.run(proof.runs(Told(), {"exact": "a"}, {"run-1": "exact"}))  # type: ignore[arg-type]
    assert found == ["run run-1 was taken and is not there any more"]


def test_all_of_many_runs_are_looked_at() -> None:
    """An hour had 1,300, of which a thousand were listed."""
    told = Told(*({**RUN, "session_id": f"run-{number}"} for number in range(1300)))
    found, ends = asyncio.run(
        proof.runs(told, {"exact": "a"}, {f"run-{n}": "exact" for n in range(1300)})  # type: ignore[arg-type]
    )
    assert (found, ends) == ([], {"completed": 1300})


def test_an_answer_that_no_audit_log_knows_is_found(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text(
        '{"action": "task.answered", "subject": "run-1", "detail": {"step": 3}}\n'
        '{"action": "task.refused", "subject": "run-1", "detail": {"step": 4}}\n'
    )
    assert proof._answered(log) == {("run-1", 3)}


@pytest.mark.parametrize(
    ("program", "disk"),
    [
        ("raise OSError(errno.ENOSPC, 'No space left on device')", True),
        ("raise hanse.errors.ConfigError('mend that')", False),
        ("raise KeyError('x')", False),
        ("os.abort()", False),
    ],
)
def test_only_a_node_that_says_what_its_disk_is_may_have_ended(tmp_path: Path, program: str, disk: bool) -> None:
    process = Process("ulm", ["--version"], tmp_path / "log", {}, tmp_path)
    started = f"import errno, os, hanse.cli, hanse.errors\ndef fails(*_, **__): {program}\nhanse.cli.group = fails\n"
    with process.log.open("ab") as log:
        process.popen = subprocess.Popen([sys.executable, "-c", f"{started}hanse.cli.main()"], stderr=log)
    process.popen.wait(60)
    assert process.ended_by_its_disk is disk, process.last_words()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_minute_of_chaos(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seed", "3", "--minutes", "1"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "0 lost" in done.stdout
