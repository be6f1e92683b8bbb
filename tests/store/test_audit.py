"""The audit log: chained, shared, repaired in the open, and not to be bent."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.disk_faults import disk_fault
from hanse.errors import ConfigError, Tampered
from hanse.store.audit import GENESIS, AuditLog
from tests.clock import off_by
from tests.examples import examples


def filled(folder: Path, count: int = 6) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl", sync=False)
    for i in range(count):
        log.append("alice", "run.approved", f"run-{i}", {"hash": "ab" * 4, "n": i})
    return log


def test_entries_are_chained_and_survive_reopening(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "deep" / "audit.jsonl")
    first = log.append("alice", "approved", "run-1", {"b": 1, "a": [1.5, None, "é\n"]})
    second = log.append("bob", "rejected", "run-2")
    assert (first.seq, first.previous, second.previous) == (1, GENESIS, first.hash)
    log.close()
    again = AuditLog(log.path)
    third = again.append("eve", "looked", "run-1", sync=False)
    assert third.previous == second.hash
    assert again.entries() == [first, second, third]
    assert again.entries(since=1, limit=1) == [second]
    assert again.verify().ok
    assert again.head == (3, third.hash)
    assert os.stat(log.path).st_mode & 0o077 == 0


def test_the_time_of_a_line_is_that_of_the_clock_wherever_it_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, said = filled(tmp_path, 0), []
    first = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    for seconds in (0, 1e-6, 59.999_999, 60, 3600, 86400, 31 * 86400, 365 * 86400, 366 * 86400, -1):
        now = first + timedelta(seconds=seconds)
        monkeypatch.setattr("hanse.store.audit.datetime", SimpleNamespace(now=lambda zone, now=now: now))
        said.append(
            (log.append("alice", "looked", "run-1", {"n": seconds}).time, now.isoformat(timespec="microseconds"))
        )
    assert [one for one, _ in said] == [other for _, other in said]
    assert log.verify().ok


def test_empty_log_is_fine(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    assert log.verify() == AuditLog(tmp_path / "a.jsonl").verify()
    assert log.verify().ok
    assert log.head == (0, GENESIS)


def test_detail_is_kept_as_it_will_be_read(tmp_path: Path) -> None:
    log = filled(tmp_path, 0)
    entry = log.append("a", "b", "c", {10: "x", 9: ("y",), "surrogate": "\ud800", "big": 10**30})  # type: ignore[dict-item]
    assert entry.detail["9"] == ["y"]
    assert log.verify().ok
    assert log.entries() == [entry]


def test_plain_details_are_kept_as_they_will_be_read(tmp_path: Path) -> None:
    log = filled(tmp_path, 0)
    detail = {"b": True, "a": 1, "none": None, "text": 'a "quoted" ü\n\ud800', "most": 2**63 - 1, "over": 2**64}
    entry = log.append("a", "b", "c", detail)
    detail["a"] = 2  # the entry is what was written, not what the caller goes on with
    assert entry.detail["a"] == 1
    assert entry.detail["b"] is True
    assert log.entries() == [entry]
    assert log.verify().ok


@pytest.mark.parametrize("detail", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}, {"x": 10**5000}])
def test_what_is_not_json_is_refused_and_nothing_written(tmp_path: Path, detail: dict[str, object]) -> None:
    log = filled(tmp_path, 1)
    with pytest.raises(ConfigError, match="JSON"):
        log.append("a", "b", "c", detail)
    with pytest.raises(ConfigError, match="text"):
        log.append(None, "b", "c")  # type: ignore[arg-type]
    assert log.verify().entries == 1


@examples(50)
@given(data=st.data())
def test_any_tampering_is_found(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = filled(Path(folder))
        raw = log.path.read_bytes()
        lines = raw.splitlines(keepends=True)
        i = data.draw(st.integers(0, len(lines) - 1))
        j = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["flip", "delete", "swap", "repeat", "cut", "rewrite", "space"]))
        if kind == "flip":
            at = data.draw(st.integers(0, len(raw) - 1))
            changed = raw[:at] + bytes([raw[at] ^ (1 << data.draw(st.integers(0, 7)))]) + raw[at + 1 :]
        elif kind == "delete":
            changed = b"".join(lines[:i] + lines[i + 1 :])
        elif kind == "swap":
            lines[i], lines[j] = lines[j], lines[i]
            changed = b"".join(lines)
        elif kind == "repeat":
            changed = b"".join(lines[:j] + [lines[i]] + lines[j:])
        elif kind == "cut":
            changed = raw[: data.draw(st.integers(0, len(raw) - 1))]
        elif kind == "rewrite":
            entry = json.loads(lines[i])
            entry["actor"] = data.draw(st.text(max_size=5))
            lines[i] = json.dumps(entry).encode() + b"\n"
            changed = b"".join(lines)
        else:
            lines[i] = b" " + lines[i]
            changed = b"".join(lines)
        if changed == raw:
            return
        log.path.write_bytes(changed)
        verdict = AuditLog(log.path).verify()
        assert not verdict.ok, (kind, verdict)
        assert verdict.reason
        assert verdict.first_bad is not None


def test_a_forged_tail_is_found_by_the_head_and_a_forged_log_by_a_published_head(tmp_path: Path) -> None:
    log = filled(tmp_path, 4)
    published = log.head
    other = tmp_path / "other"
    forged = AuditLog(other / "audit.jsonl", sync=False)
    for i in range(5):
        forged.append("mallory", "run.approved", f"run-{i}")
    log.path.write_bytes(forged.path.read_bytes())
    assert not AuditLog(log.path).verify().ok
    Path(f"{log.path}.head").write_bytes(Path(f"{forged.path}.head").read_bytes())
    assert AuditLog(log.path).verify().ok  # both files were rewritten: only ...
    assert not AuditLog(log.path).verify(published).ok  # ... what was published elsewhere tells


def test_a_missing_head_file_or_log_is_found(tmp_path: Path) -> None:
    log = filled(tmp_path, 3)
    log.path.unlink()
    assert not AuditLog(log.path).verify().ok
    log = filled(tmp_path / "second", 3)
    Path(f"{log.path}.head").unlink()
    assert not AuditLog(log.path).verify().ok


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_half_a_line_is_cut_off_and_the_repair_is_recorded(tmp_path: Path, cut: int) -> None:
    log = filled(tmp_path, 3)
    whole = log.path.read_bytes()
    log.close()
    half = b'{"action":"x","actor":"alice","detail":{"n":1},"previous":"abcdef","seq":4,"su'[:cut]
    log.path.write_bytes(whole + half)
    reopened = AuditLog(log.path, sync=False)
    assert reopened.verify().entries == 3  # unacknowledged; everything before is whole
    entry = reopened.append("alice", "after", "run-9")
    recovered = reopened.entries(since=3)[0]
    assert (recovered.action, recovered.detail["torn_bytes"], entry.seq) == ("audit.recovered", cut, 5)
    assert recovered.detail["torn_text"] == half.decode()
    assert reopened.verify().ok


def test_lost_entries_stay_visible_for_ever(tmp_path: Path) -> None:
    log = filled(tmp_path, 5)
    log.close()
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:3]))
    reopened = AuditLog(log.path, sync=False)
    reopened.append("alice", "after", "x")
    assert reopened.entries(since=3)[0].detail["lost_entries"] == 2
    verdict = reopened.verify()
    assert not verdict.ok
    assert verdict.first_bad == 4
    assert "2 entries were lost" in verdict.reason


def test_a_log_that_shrinks_while_open_stops_the_writer(tmp_path: Path) -> None:
    log = filled(tmp_path, 5)
    os.truncate(log.path, 100)
    with pytest.raises(Tampered, match="removed"):
        log.append("a", "b", "c")


def test_garbage_as_last_line_stops_the_writer(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    with open(log.path, "ab") as file:
        file.write(b"\xff\xfe garbage\n")
    with pytest.raises(Tampered, match="not an entry"):
        AuditLog(log.path).append("a", "b", "c")


def test_long_entries_are_found_again_from_the_tail(tmp_path: Path) -> None:
    log = filled(tmp_path, 1)
    big = log.append("a", "b", "c", {"text": "x" * 300_000})
    assert AuditLog(log.path, sync=False).append("a", "b", "d").previous == big.hash
    assert log.append("a", "b", "e").seq == 4
    assert log.verify().ok


def _append_many(path: str, name: str, count: int) -> None:
    log = AuditLog(path, sync=False)
    for i in range(count):
        log.append(name, "did", str(i))


def test_processes_and_threads_share_a_log(tmp_path: Path) -> None:
    path = str(tmp_path / "audit.jsonl")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(path, f"p{i}", 200)) for i in range(2)]
    for worker in workers:
        worker.start()
    mine = AuditLog(path, sync=False)
    threads = [
        threading.Thread(target=lambda n=n: [mine.append(n, "did", str(i)) for i in range(100)]) for n in ("t1", "t2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert mine.verify() == AuditLog(path).verify()
    assert mine.verify().ok
    for name, count in (("p0", 200), ("p1", 200), ("t1", 100), ("t2", 100)):
        assert [e.subject for e in mine.entries() if e.actor == name] == [str(i) for i in range(count)]


_WRITER = """
import sys
from hanse.store.audit import AuditLog
log = AuditLog(sys.argv[1], sync=False)
while True:
    print(log.append("p", "did", "x", {"pad": "y" * 500}).seq, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    acknowledged = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split("\n")
        process.stdout.close()
        process.wait()
        acknowledged = max([acknowledged, *(int(s) for s in said[:-1] if s)])
        log = AuditLog(path, sync=False)
        assert log.append("test", "looked", "x").seq > acknowledged
        assert log.verify().ok
        log.close()


@pytest.mark.long
def test_appending_is_cheap(tmp_path: Path) -> None:
    log = filled(tmp_path, 10)
    took, floor = [], []
    with (tmp_path / "plain").open("ab", buffering=0) as plain:
        for _ in range(20):  # the best of many, beside lines that are hashed and written and no more
            began = time.process_time()
            for _ in range(50):
                log.append("alice", "task.answered", "run-1", {"hash": "ab" * 32, "step": 3})
            took.append(time.process_time() - began)
            began = time.process_time()
            for _ in range(50):
                line = json.dumps(
                    {"who": "alice", "what": "task.answered", "on": "run-1", "hash": "ab" * 32, "step": 3}
                )
                plain.write(line.encode() + hashlib.sha256(line.encode()).hexdigest().encode())
            floor.append(time.process_time() - began)
    assert min(took) < 10 * min(floor)


def test_the_audit_log_needs_no_database_library() -> None:
    code = (
        "import sys, hanse.store.audit, hanse.store.blobs; "
        "print([m for m in sys.modules if m in ('sqlalchemy', 'psycopg', 'fastapi')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_line_that_does_not_fit_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("a", "b", "c")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, line: real(fd, line[:40]))
        with pytest.raises(OSError, match="only 40 of") as said:
            log.append("a", "b", "d")
    assert disk_fault(said.value) == "No space left on device"
    assert log.append("a", "b", "e").seq == 2
    assert log.verify().ok


# ---------------------------------------------------------------- old lines that are removed


def dated(folder: Path, monkeypatch: pytest.MonkeyPatch, *days_ago: float) -> AuditLog:
    """A log with a line of each of these days."""
    log = AuditLog(folder / "audit.jsonl", sync=False)
    for days in days_ago:
        _now(monkeypatch, -days)
        log.append("alice", "run.approved", "run-1", {"days": days})
    _now(monkeypatch, 0)
    return log


def _now(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    monkeypatch.setattr("hanse.store.audit.datetime", off_by(timedelta(days=days)))


def test_old_lines_go_and_the_rest_is_verified_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = dated(tmp_path, monkeypatch, 400, 300, 200, 20, 1)
    heads = {entry.seq: entry.hash for entry in log.entries()}
    other = AuditLog(log.path, sync=False)  # another process, with the longer file open
    other.append("bob", "looked", "run-1")
    assert log.cut(100, "operator") == 3
    assert [entry.seq for entry in log.each()] == [4, 5, 6, 7]
    told = log.entries()[-1]
    assert (told.actor, told.action, dict(told.detail)) == (
        "operator",
        "audit.cut",
        {"first": 1, "last": 3, "hash": heads[3], "days": 100},
    )
    assert log.verify().ok
    assert log.verify(head=(5, heads[5])).ok
    assert log.verify(head=(3, heads[3])).ok  # the last that went: its hash is there
    assert "was removed" in log.verify(head=(2, heads[2])).reason
    assert not log.verify(head=(5, heads[4])).ok
    assert other.append("bob", "looked again", "run-1").seq == 8
    assert log.append("alice", "x", "y").seq == 9
    assert AuditLog(log.path).verify().ok
    assert log.cut(100, "operator") == 0
    assert log.cut(10, "operator") == 1  # a second time, of what is left
    assert log.verify().ok
    assert os.stat(log.path).st_mode & 0o077 == 0


def test_lines_that_went_otherwise_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = dated(tmp_path, monkeypatch, 400, 300, 200, 20, 1)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[2:]))
    assert "entries 1 to 2 are missing, and no entry says" in log.verify().reason
    log.path.write_bytes(b"".join(lines))
    again = AuditLog(log.path, sync=False)
    assert again.cut(250, "operator") == 2
    whole = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(whole[1:]))  # one more than the entry says
    assert "entries 1 to 3 are missing" in AuditLog(log.path).verify().reason
    log.path.write_bytes(b"".join([*lines[:1], *whole]))
    assert AuditLog(log.path).verify().first_bad == 2


def test_a_clock_that_is_ahead_or_a_damaged_line_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = dated(tmp_path, monkeypatch, 3, 2, 1)
    _now(monkeypatch, 600)
    assert log.cut(30, "operator") == 0
    _now(monkeypatch, 0)
    assert AuditLog(tmp_path / "none.jsonl").cut(1, "operator") == 0
    old = dated(tmp_path / "old", monkeypatch, 400, 1)
    whole = old.path.read_bytes()
    for damaged in (b"{}\n" + whole, whole + b"{}\n", whole.replace(b'"time":"2', b'"time":"x')):
        old.path.write_bytes(damaged)
        assert AuditLog(old.path).cut(30, "operator") == 0
        assert old.path.read_bytes() == damaged


@pytest.mark.parametrize("at", ["write_whole"])
def test_who_is_killed_while_old_lines_go_has_all_or_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    log = dated(tmp_path, monkeypatch, 400, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"hanse.store.audit.{at}", killed)
        with pytest.raises(KeyboardInterrupt):
            log.cut(30, "operator")
    again = AuditLog(log.path)
    assert (again.verify().ok, len(again.entries())) == (True, 3)
    assert again.cut(30, "operator") == 1
    assert again.verify().ok
