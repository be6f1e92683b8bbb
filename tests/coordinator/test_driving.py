"""Who drives a run, and what becomes of it while the storage fails."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from hanse import registry, rounds
from hanse.codec import encode
from hanse.coordinator import background, consent, driving, sessions
from hanse.coordinator.settings import CoordinatorSettings
from hanse.differences import differences
from hanse.errors import StorageFailed
from hanse.messages import Record
from tests.extending import install
from tests.waiting import PATIENCE

from .federation import Federation
from .live import GrpcSite, Live, until_online, until_state
from .test_sessions import START, patients

install("engines/counted.py")


def test_an_engine_in_one_file_drives_a_run(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(engine="counted")) as f:
            f.people("a")
            await f.node("a", standing="accept")
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            assert (run, None) in registry.find("engines", "counted").DRIVEN

    asyncio.run(body())


def test_what_columns_count_is_worked_out_once_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of boosting takes one step a level of its trees, of which the last alone changes the model. Nor is any
    state encoded for it: those inside a tree are not kept, but for one after the first step of every tenth."""
    models: list[int] = []
    inside: list[object] = []

    def counted(result: Record) -> dict[str, float]:
        models.append(len(result.arrays["model.size"]))
        return real(result)

    def encoded(value: Any, *known: Any) -> Record:
        if getattr(value, "growing", None) is not None:
            inside.append(value)
        return encode(value, *known)

    real = driving.importance
    monkeypatch.setattr(driving, "importance", counted)
    monkeypatch.setattr("hanse.typed.encode", encoded)
    monkeypatch.setattr(rounds, "REPEATABLE_SECONDS", math.inf)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", {"d": patients(0)}, tags={"d": ["heart"]}, standing="accept")
            options = {"max_depth": 3, "min_child_weight": 0}
            told = {"model_name": "xgboost", "num_rounds": 3, "tags": ["heart"], "sample_id_column": "Sample"}
            run = (await f.ok("sci", "POST", START, {**told, "model_options": options}, 201))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed", f.store.runs.get(run).reason
            shares = [r.record["feature_importance"] for r in f.store.rounds.list(run) if r.round == 3]
            assert len(shares) >= 3
            assert all(set(own) == {"age", "pressure"} and sum(own.values()) == pytest.approx(1) for own in shares)
            assert shares[0] == shares[1] != shares[-1]

    asyncio.run(body())
    assert models == [0, 1, 2, 3]
    assert len(inside) == 1


def test_a_fault_of_storage_pauses_a_run_with_its_reason_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "_RETRY_S", 0.05)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", standing="accept")
            real, left = f.store.rounds.checkpoint, [2]

            def full(*args: object, **more: object) -> object:
                if left[0]:
                    left[0] -= 1
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*args, **more)  # type: ignore[arg-type]

            monkeypatch.setattr(f.store.rounds, "checkpoint", full)
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            told = [e.detail for e in f.store.events.since(run=run, kinds=["run.state"])]
            assert [t["to"] for t in told if t["to"] == "paused"] == ["paused", "paused"]
            assert any("No space left" in t["reason"] and "by itself" in t["reason"] for t in told)
            assert f.store.runs.get(run).retry_at is None

    asyncio.run(body())


def test_what_an_earlier_release_proposed_is_read_or_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bundles said of all ways to combine at once how they are gathered: after an upgrade such a run failed with an
    error of the coordinator, and whoever looked at one got nothing."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", standing="accept")
            done = (await f.propose())["session_id"]
            assert await f.state(done, "completed", "failed") == "completed"
            real = f.store.runs.bundle

            def then(run: str) -> Any:
                waits = f.store.runs.get(run).state in ("pending", "awaiting_consent")
                return real(run) if waits else {**real(run), "gathering": "plain"}

            monkeypatch.setattr(f.store.runs, "bundle", then)
            monkeypatch.setattr(sessions, "_shown", {})
            shown = await f.ok("sci", "GET", f"/api/training/sessions/{done}")
            assert "it does not run here: an earlier build of Hanse" in shown["code_preview"]
            assert "# ---- hanse.algorithms.probe" in shown["code_preview"]
            assert list(differences(f.store.runs.bundle(done), real(done)))[0].startswith("an earlier build of Hanse")
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "failed"
            assert f.store.runs.get(run).reason.endswith("reads it otherwise: gathering; propose it again")

    asyncio.run(body())


def test_a_verdict_that_cannot_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "_RETRY_S", 0.05)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            real, left = f.store.runs.transition, [3]

            def full(run: str, to: str, *args: object, **more: object) -> object:
                if str(to) in ("failed", "rejected", "paused") and left[0]:
                    left[0] -= 1
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(run, to, *args, **more)  # type: ignore[arg-type]

            monkeypatch.setattr(f.store.runs, "transition", full)
            site.answerer = None  # type: ignore[assignment]  # it breaks
            run = (await f.propose(max_failed_rounds=0))["session_id"]
            assert await f.state(run, "completed", "failed", "rejected") in ("failed", "rejected")
            assert left == [0]

    asyncio.run(body())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes all room that is left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as out, pytest.raises(OSError, match="No space"):
        while True:
            out.write(b"x" * 4096)
    return file


def test_a_full_disk_delays_a_run_and_no_more(small_disk: Path) -> None:
    async def body() -> None:
        live = Live(small_disk).start()
        try:
            site = await GrpcSite.enrol(live, "n")
            site.slow = 0.05
            await site.connect()
            await until_online(live, 1)
            settings = {
                "federated_strategy": "probe",
                "num_rounds": 20,
                "sample_id_column": None,
                "expected_client_ids": ["n"],
                "model_options": {"bytes": 600_000},
            }
            run = (await live.ok("POST", "/api/training/start", settings))["session_id"]
            await until_state(live, run, "running")
            filler = await asyncio.to_thread(fill, small_disk)
            await asyncio.sleep(3)
            filler.unlink()
            session = await until_state(live, run, "completed", "failed", "cancelled")
            assert session["state"] == "completed", session["reason"]
            records = (await live.ok("GET", f"/api/runs/{run}/rounds"))["rounds"]
            assert [r["round"] for r in records] == list(range(1, 21))
            assert (await live.ok("GET", "/api/audit/verify"))["ok"]
            await site.link.close()
        finally:
            live.stop()

    asyncio.run(body())


def test_starting_on_a_full_disk_is_a_sentence(small_disk: Path) -> None:
    fill(small_disk)
    command = [sys.executable, "-m", "hanse.cli", "coordinator", "start", "--home", str(small_disk / "home")]
    command += ["--plain-http", "--http", "127.0.0.1:0", "--listen", "grpc://127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr or "full" in done.stderr


def test_a_decision_that_cannot_be_written_now_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node said yes while the database was away; nobody is to wait for the node's next connection."""
    monkeypatch.setattr(consent, "_FAULT_S", 0.02)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", standing="accept")
            real, left = f.store.consents.decide, [7]

            def away(*args: object, **more: object) -> object:
                if left[0]:
                    left[0] -= 1
                    raise OperationalError("INSERT", {}, Exception("connection is bad"))
                return real(*args, **more)  # type: ignore[arg-type]

            monkeypatch.setattr(f.store.consents, "decide", away)
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            assert left == [0]

    asyncio.run(body())
    assert "Traceback" not in caplog.text


def test_a_request_while_the_database_is_away_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()

            def away() -> object:
                raise OperationalError("SELECT", {}, Exception("connection is bad"))

            with monkeypatch.context() as patch:
                patch.setattr(f.store.database, "read", away)
                answer = await f.call("op", "GET", "/api/nodes")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "storage_failed"
            assert "connection is bad" in answer.json()["error"]["message"]
            assert answer.headers["x-content-type-options"] == "nosniff"

            def wrong() -> object:
                raise ZeroDivisionError("/secret/place")

            with monkeypatch.context() as patch:
                patch.setattr(f.store.database, "read", wrong)
                answer = await f.call("op", "GET", "/api/nodes")
            assert answer.status_code == 500
            assert "secret" not in answer.text

    asyncio.run(body())
    lines = [r for r in caplog.records if r.name.endswith(".guard") and "connection is bad" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].exc_info is None
    assert "Traceback" in caplog.text  # what nobody has thought of is told whole


def test_what_a_node_says_while_the_database_is_away_is_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            node = await f.node("a")

            def away(*args: object, **more: object) -> object:
                raise OperationalError("SELECT", {}, Exception("connection to /secret/socket is bad"))

            with monkeypatch.context() as patch:
                patch.setattr(f.store.database, "read", away)
                patch.setattr(f.store.database, "write", away)
                for said in (
                    await node.hello(),
                    await node.say("datasets", datasets=[]),
                    await node.say("consent", run="r", sha256="0" * 64, decision="accept"),
                ):
                    assert said.body.data["code"] == "storage_failed"
                    assert "secret" not in said.body.data["message"]
                with pytest.raises(StorageFailed, match="its log says how"):
                    await f.it.accept("a", "f" * 64)
            assert (await node.hello()).kind == "welcome"

    asyncio.run(body())
    assert "Traceback" not in caplog.text
    assert "connection to /secret/socket is bad" in caplog.text


def test_an_end_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proposal that expires, the states of a run that is over, a proposal that is sent: no timer comes again."""
    monkeypatch.setattr(background, "_RETRY_S", 0.01)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a")
            left = {"settle": 3, "forget": 3, "bundle": 3}

            def flaky(what: str, real: Any) -> Any:
                def now(*args: object, **more: object) -> object:
                    if left[what]:
                        left[what] -= 1
                        raise OperationalError("UPDATE", {}, Exception("database or disk is full"))
                    return real(*args, **more)

                return now

            run = (await f.propose(consent_timeout_s=0.3))["session_id"]
            monkeypatch.setattr(f.store.consents, "settle", flaky("settle", f.store.consents.settle))
            monkeypatch.setattr(f.store.rounds, "forget", flaky("forget", f.store.rounds.forget))
            assert await f.state(run, "expired") == "expired"
            while left["forget"]:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(f.store.runs, "bundle", flaky("bundle", f.store.runs.bundle))
            run = (await f.propose())["session_id"]
            while run not in node.proposals:
                await asyncio.sleep(0.01)
            assert left == {"settle": 0, "forget": 0, "bundle": 0}

    asyncio.run(asyncio.wait_for(body(), PATIENCE))
    assert "Traceback" not in caplog.text
