"""Decisions are for one run and one hash, are not changed in silence, and survive everything."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from one_node import Node, probe, proposal, running

from hanse.cli import group
from hanse.errors import ConfigError, Conflict, NotApproved, NotFound, WireError
from hanse.messages import dumps
from hanse.node.approvals import Approvals, Proposal
from hanse.node.settings import FILE, NodeSettings, Policy, TaskLimits
from tests.clock import off_by
from tests.waiting import PATIENCE


@pytest.fixture
def approvals(tmp_path: Path) -> Any:
    opened = Approvals(tmp_path)
    yield opened
    opened.close()


def receive(approvals: Approvals, run: str = "run-1", nbytes: int = 64, **more: Any) -> Proposal:
    return approvals.receive(Proposal.parse(proposal(probe(nbytes), run, **more)))


def test_approve_and_revoke(approvals: Approvals, tmp_path: Path) -> None:
    found = receive(approvals)
    assert [p.run for p in approvals.pending()] == ["run-1"]
    with pytest.raises(NotApproved, match="not decided yet"):
        approvals.approved("run-1", found.sha256)
    approvals.approve("run-1", found.sha256[:8], actor="ada")
    again = Approvals(tmp_path)  # another process
    assert again.approved("run-1", found.sha256).actor == "ada"
    assert not again.pending()
    assert again.approve("run-1", actor="eve").actor == "ada"  # no news
    again.revoke("run-1", actor="ada", reason="changed my mind")
    again.close()
    with pytest.raises(NotApproved, match="revoked"):
        approvals.approved("run-1", found.sha256)
    with pytest.raises(Conflict, match="is revoked"):
        approvals.revoke("run-1", actor="ada")
    with pytest.raises(Conflict, match="revoked already"):
        approvals.approve("run-1", actor="ada")
    assert oct((tmp_path / "approvals.db").stat().st_mode & 0o777) == "0o600"


def reads(approvals: Approvals) -> list[str]:
    """The statements that read proposals from now on."""
    found: list[str] = []
    approvals._db.set_trace_callback(lambda text: found.append(text) if "FROM proposals" in text else None)
    return found


def test_what_was_read_is_read_again_when_anything_was_written(approvals: Approvals, tmp_path: Path) -> None:
    first, second = receive(approvals), receive(approvals, "run-2", 128)
    approvals.approve("run-1", actor="ada")
    approvals.approve("run-2", actor="ada")
    statements = reads(approvals)
    for _ in range(3):
        assert approvals.approved("run-1", first.sha256).actor == "ada"
        assert approvals.approved("run-2", second.sha256).actor == "ada"
    assert len(statements) == 2
    approvals.revoke("run-2", actor="ada")  # this connection
    with pytest.raises(NotApproved, match="revoked"):
        approvals.approved("run-2", second.sha256)
    assert approvals.approved("run-1", first.sha256).state == "approved"
    program = "import sys; from pathlib import Path; from hanse.node.approvals import Approvals; "
    program += "Approvals(Path(sys.argv[1])).revoke('run-1', actor='ada')"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=PATIENCE)
    with pytest.raises(NotApproved, match="revoked"):
        approvals.approved("run-1", first.sha256)


def test_what_was_read_is_forgotten_when_it_is_taken_away_or_comes(approvals: Approvals, tmp_path: Path) -> None:
    found = receive(approvals)
    assert approvals.decision("run-1", found.sha256) == found
    assert approvals.decision("run-2", found.sha256) is None
    with sqlite3.connect(tmp_path / "approvals.db") as other:
        other.execute("DELETE FROM proposals")
    assert approvals.decision("run-1", found.sha256) is None
    again = Approvals(tmp_path)
    late = receive(again, "run-2")
    again.close()
    assert approvals.decision("run-2", late.sha256) == late


def test_what_was_read_expires(approvals: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    found = receive(approvals)
    approvals.approve("run-1", actor="ada", days=1)
    assert approvals.approved("run-1", found.sha256)
    statements = reads(approvals)
    monkeypatch.setattr("hanse.node.approvals.datetime", off_by(timedelta(days=2)))
    with pytest.raises(NotApproved, match="expired"):
        approvals.approved("run-1", found.sha256)
    assert not statements


def test_a_decision_is_not_turned_round(approvals: Approvals) -> None:
    receive(approvals)
    approvals.reject("run-1", actor="ada", reason="no")
    with pytest.raises(Conflict, match="rejected already"):
        approvals.approve("run-1", actor="ada")
    receive(approvals)  # proposed again: the decision stands
    assert approvals.get("run-1").state == "rejected"


def test_the_wrong_run_or_hash(approvals: Approvals) -> None:
    first = receive(approvals)
    with pytest.raises(NotFound, match="no run 'run-2'"):
        approvals.approve("run-2", actor="ada")
    with pytest.raises(NotApproved, match="was proposed with hash"):
        approvals.approve("run-1", "f" * 64, actor="ada")
    second = receive(approvals, nbytes=128)
    with pytest.raises(ConfigError, match="2 hashes"):
        approvals.approve("run-1", actor="ada")
    approvals.approve("run-1", second.sha256, actor="ada")
    with pytest.raises(NotApproved):
        approvals.approved("run-1", first.sha256)


def test_an_expired_proposal_cannot_be_approved(approvals: Approvals) -> None:
    receive(approvals, expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    assert not approvals.pending()
    with pytest.raises(NotApproved, match="expired"):
        approvals.approve("run-1", actor="ada")


def test_what_the_coordinator_has_not_heard(approvals: Approvals) -> None:
    found = receive(approvals)
    assert not approvals.unsent()
    found = approvals.approve("run-1", actor="ada")
    assert [p.run for p in approvals.unsent()] == ["run-1"]
    approvals.revoke("run-1", actor="ada")
    approvals.mark_sent(found)  # the former decision was told: the revocation still has to be
    assert [p.state for p in approvals.unsent()] == ["revoked"]
    approvals.mark_sent(approvals.get("run-1"))
    assert not approvals.unsent()


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": ""},
        {"run": "a\nb"},
        {"run": 5},
        {"text": None},
        {"expires": "soon"},
        {"expires": "2026-01-01"},
        {"dataset": "visits"},
        {"dataset": {"name": "visits"}},
        {"dataset": {"name": 1, "version": 2}},
        {"purpose": "x" * 20_000},
        {"proposer": None},
    ],
)
def test_garbage_is_no_proposal(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        Proposal.parse(proposal(probe()) | wrong)
    with pytest.raises(WireError):
        Proposal.parse({})


# ---------------------------------------------------------------- settings


def test_settings_survive_the_file(tmp_path: Path) -> None:
    policy = Policy(allowed_algorithms=("fedavg", 'odd "name" \\ ü\x7f'), allow_training_plans=True, minimum_samples=20)
    settings = NodeSettings("alpha", policy=policy, limits=TaskLimits(12.5, 100))
    settings.save(tmp_path)
    assert NodeSettings.load(tmp_path) == settings
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"nod_id": "a"}, "did you mean 'node_id'"),
        ({"policy": {"standin": "ask"}}, "did you mean 'policy.standing'"),
        ({"policy": {"standing": "accept"}}, "expected one of ask, accept-allowed"),
        ({"policy": 3}, "table of settings"),
        ({"consent": "both"}, "expected one of"),
        ({"limits": {"task_seconds": 0}}, "above 0"),
        ({"limits": {"task_seconds": float("nan")}}, "above 0"),
        ({"limits": {"memory_mb": True}}, "whole number"),
        ({"policy": {"allow_training_plans": "yes"}}, "true or false"),
        ({"policy": {"allowed_algorithms": "a"}}, "a list"),
        ({"policy": {"minimum_samples": 0}}, "at least 1"),
        ({"limits": {"threads": -1}}, "at least 0"),
    ],
)
def test_wrong_settings(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        NodeSettings.parse(raw)


def test_settings_from_text(tmp_path: Path) -> None:
    settings = NodeSettings("alpha")
    assert settings.with_value("minimum_samples", "25").policy == Policy(minimum_samples=25)
    listed = settings.with_value("policy.allowed_algorithms", "fedavg, probe")
    assert listed.policy == Policy(allowed_algorithms=("fedavg", "probe"))
    assert settings.with_value("allow_training_plans", "True").policy == Policy(allow_training_plans=True)
    assert settings.with_value("limits.task_seconds", "0.5").limits.task_seconds == 0.5
    assert settings.with_value("consent", "coordinator").consent == "coordinator"
    for key, value in (("minimum_samples", "many"), ("allow_training_plans", "1"), ("node_id", "b"), ("standing", "x")):
        with pytest.raises(ConfigError):
            settings.with_value(key, value)
    (tmp_path / FILE).write_text("node_id = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        NodeSettings.load(tmp_path)
    with pytest.raises(NotFound, match="no node here yet"):
        NodeSettings.load(tmp_path / "elsewhere")


def test_approvals_are_only_the_owners_to_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Approvals(tmp_path).close()
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o077 for path in tmp_path.iterdir())


def test_locks_are_kept_whoever_looks_besides(tmp_path: Path) -> None:
    """A process that closes a file ends all its locks on it. Without SQLite's, the next process that opens the
    database takes its memory for nobody's, and makes it anew under the feet of those who use it."""
    first = Approvals(tmp_path)
    program = (
        "import fcntl, sys\n"
        "for name, byte, many in (('approvals.db-shm', 128, 1), ('approvals.db', 0x40000002, 510)):\n"
        "    with open(f'{sys.argv[1]}/{name}', 'r+b') as file:\n"
        "        try:\n"
        "            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, many, byte)\n"
        "        except OSError:\n"
        "            print(name, 'locked')\n"
        "        else:\n"
        "            print(name, 'free')\n"
    )

    def locks() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    both = ["approvals.db-shm locked", "approvals.db locked"]
    assert locks() == both
    for _ in range(2):
        second = Approvals(tmp_path)
        assert second.proposals() == []
        second.close()
        assert locks() == both
    first.close()


def test_the_code_that_runs_share_is_kept_once(approvals: Approvals, tmp_path: Path) -> None:
    """A quarter of a megabyte a run filled a disk of 96 MB after three hundred of them."""
    first = receive(approvals, "run-0")
    approvals._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / "approvals.db").stat().st_size
    for number in range(1, 41):
        receive(approvals, f"run-{number}", nbytes=64 + number)
    approvals._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    grown = (tmp_path / "approvals.db").stat().st_size - before
    assert grown < 40 * 6_000 < 40 * len(first.text) / 5
    for found in approvals.proposals():
        assert found.content()["code"] == first.content()["code"]  # checked against the hash


def test_what_an_older_release_kept_is_read(approvals: Approvals) -> None:
    """Whole texts."""
    found = receive(approvals)
    approvals._db.execute("UPDATE proposals SET text = ?", (found.text,))
    approvals._db.execute("DELETE FROM codes")
    approvals.approve("run-1", actor="ada")
    assert approvals.approved("run-1", found.sha256).content() == found.content()


def test_code_that_no_proposal_has_any_more_is_not_kept(approvals: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever proposes much, each with another code, fills no disk."""
    from hanse.node import approvals as module

    def codes() -> int:
        return int(approvals._db.execute("SELECT count(*) FROM codes").fetchone()[0])

    def told(run: str, code: str, expires: datetime) -> Proposal:
        text = dumps({"code": {"a.py": code}, "config": {}})
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        named = {"run": run, "sha256": sha256, "text": text, "proposer": "p", "purpose": "", "dataset": None}
        return Proposal.parse({**named, "expires": expires.isoformat()})

    now = datetime.now(UTC)
    monkeypatch.setattr(module, "_UNDECIDED", 5)
    kept = approvals.receive(told("kept", "shared", now + timedelta(days=1)))
    for number in range(40):
        approvals.receive(told(f"run-{number}", f"x = {number}", now - timedelta(days=1)))
    approvals.receive(told("late", "shared", now - timedelta(days=1)))
    assert codes() <= 6
    assert approvals.get("kept").content() == kept.content()  # it was shared with what is gone
    approvals.reopen(kept)
    assert codes() <= 5
    assert approvals.receive(kept).content()["code"] == {"a.py": "shared"}


@pytest.mark.parametrize("harm", ["DELETE FROM codes", "UPDATE proposals SET text = substr(text, 1, 100)"])
def test_a_text_that_is_damaged_approves_nothing(approvals: Approvals, harm: str) -> None:
    receive(approvals)
    approvals.approve("run-1", actor="ada")
    approvals._db.execute("PRAGMA foreign_keys=OFF")
    approvals._db.execute(harm)
    assert len(approvals.proposals()) == 1  # it is listed all the same
    with pytest.raises(NotApproved, match="does not fit its hash"):
        approvals.get("run-1").content()


def test_who_takes_an_approval_back_is_told_what_that_cannot_undo(tmp_path: Path) -> None:
    def revoked(node: Node, run: str) -> str:
        arguments = ["node", "revoke", run, "--home", str(tmp_path), "--reason", "enough"]
        return str(CliRunner().invoke(group, arguments, catch_exceptions=False).output)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle, "run-1")
            await node.approved(bundle, "run-2")
            for step in range(2):
                await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, step=step)
            said = await asyncio.to_thread(revoked, node, "run-1")
            assert "from now on this node answers nothing" in said
            assert "2 answers (128 bytes of arrays) had left this node, the last at 20" in said
            assert "stays spent" in said
            with pytest.raises(NotApproved):
                await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, step=2)
            assert "nothing of it had left this node" in await asyncio.to_thread(revoked, node, "run-2")

    asyncio.run(main())


def test_a_clock_that_is_put_back_does_not_give_back_what_had_ended(approvals: Approvals, tmp_path: Path) -> None:
    """An approval of a day was good again for a node whose clock was put back after that day."""
    short, long = receive(approvals), receive(approvals, "run-2", 128)
    approvals.approve("run-1", actor="ada", days=1)
    approvals.approve("run-2", actor="ada", days=30)
    for hours in (0, 23):
        approvals.end_by(datetime.now(UTC) + timedelta(hours=hours))
        assert approvals.approved("run-1", short.sha256)
    approvals.end_by(datetime.now(UTC) + timedelta(hours=25))
    approvals.end_by(datetime.now(UTC))  # it is put back
    again = Approvals(tmp_path)  # another process
    for known in (approvals, again):
        with pytest.raises(NotApproved, match="expired, as it ended at .* clock said .* before it was put back; set"):
            known.approved("run-1", short.sha256)
        assert known.get("run-1").state == "expired"
        assert known.approved("run-2", long.sha256)
    again.close()
    later = receive(approvals, "run-3", 256)  # proposed since: it has not ended, and ends as any other
    approvals.approve("run-3", actor="ada", days=0.5)
    assert approvals.approved("run-3", later.sha256)
    approvals.end_by(datetime.now(UTC) + timedelta(hours=11))
    assert approvals.approved("run-3", later.sha256)
    approvals.end_by(datetime.now(UTC) + timedelta(hours=13))
    with pytest.raises(NotApproved, match="put back"):
        approvals.approved("run-3", later.sha256)
    soon = receive(approvals, "run-4", 512)  # approved and ended between two looks at a clock that was put back
    approvals.approve("run-4", actor="ada", days=0.01)
    approvals.end_by(datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(NotApproved, match="put back"):
        approvals.approved("run-4", soon.sha256)
    approvals.reopen(approvals.get("run-1"))
    receive(approvals)
    approvals.approve("run-1", actor="ada", days=1)  # proposed anew, and approved again
    assert approvals.approved("run-1", short.sha256)


def test_what_a_task_finds_ended_has_ended(approvals: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    found = receive(approvals)
    approvals.approve("run-1", actor="ada", days=1)
    with monkeypatch.context() as later:
        later.setattr("hanse.node.approvals.datetime", off_by(timedelta(days=2)))
        with pytest.raises(NotApproved, match="expired$"):
            approvals.approved("run-1", found.sha256)
    with pytest.raises(NotApproved, match="put back"):
        approvals.approved("run-1", found.sha256)
