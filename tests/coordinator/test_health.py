"""/health and /ready that mean it, and the figures for Prometheus."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from hanse.coordinator.health import Examiner
from hanse.coordinator.settings import CoordinatorSettings
from hanse.store.states import RunState

from .federation import Federation
from .live import Live


def fresh(f: Federation) -> None:
    """The next look is a new one."""
    f.app.state.examiner = Examiner(f.it)


def test_a_coordinator_that_works(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            for route, status in (("/health", "healthy"), ("/ready", "ready")):
                found = await f.ok(None, "GET", route)
                assert found["status"] == status
                assert set(found["checks"].values()) == {"ok"}
                assert found["warnings"] == 0

    asyncio.run(body())


def test_a_database_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            real = f.store.database.write

            def broken() -> object:
                raise OperationalError("INSERT", {}, Exception("database or disk is full in /secret/place"))

            monkeypatch.setattr(f.store.database, "write", broken)
            answer = await f.call(None, "GET", "/ready")
            assert answer.status_code == 503
            assert answer.json()["status"] == "not ready"
            assert answer.json()["checks"]["database"] == "it cannot be written to"
            assert "secret" not in answer.text
            alive = await f.call(None, "GET", "/health")  # a restart would not help
            assert (alive.status_code, alive.json()["status"]) == (200, "degraded")
            monkeypatch.setattr(f.store.database, "write", real)
            fresh(f)
            assert (await f.ok(None, "GET", "/ready"))["status"] == "ready"

    asyncio.run(body())


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(least_free_mb=10**9)) as f:
            found = await f.call(None, "GET", "/ready")
            assert found.status_code == 503
            assert re.fullmatch(r"\d+ MB are free; 1000000000 are needed", found.json()["checks"]["disk"])
            assert (await f.call(None, "GET", "/health")).status_code == 200

    asyncio.run(body())


def test_a_run_that_nobody_computes(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            site.hold = asyncio.Event()
            run = (await f.propose())["session_id"]
            await f.until(lambda _: bool(site.tasks))
            assert (await f.ok(None, "GET", "/health"))["status"] == "healthy"
            f.it.runs._driver._tasks.pop(run).cancel()  # as if its task had died
            fresh(f)
            answer = await f.call(None, "GET", "/health")
            assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
            assert "nobody computes" in answer.json()["checks"]["driver"]
            f.store.runs.transition(run, RunState.CANCELLED, "test")
            fresh(f)
            assert (await f.ok(None, "GET", "/health"))["status"] == "healthy"

    asyncio.run(body())


def test_a_port_that_does_not_answer(tmp_path: Path) -> None:
    async def body() -> None:
        live = Live(tmp_path / "home").start()
        try:
            async with live.client() as http:
                assert (await http.get("/health")).json()["checks"]["listener"] == "ok"
        finally:
            assert live.stop() == 0
        assert "Traceback" not in (tmp_path / "coordinator.err").read_text()
        async with Federation(tmp_path / "other") as f:

            async def closed() -> bool:
                return False

            f.app.state.examiner.answers = closed
            answer = await f.call(None, "GET", "/health")
            assert answer.status_code == 503
            assert answer.json()["checks"]["listener"] == "the port for nodes does not answer"

    asyncio.run(body())


def test_anybody_may_ask_and_the_look_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            looks = 0
            real = f.app.state.examiner._look

            async def counted() -> object:
                nonlocal looks
                looks += 1
                return await real()

            monkeypatch.setattr(f.app.state.examiner, "_look", counted)
            await asyncio.gather(*(f.ok(None, "GET", "/health") for _ in range(50)))
            assert looks == 1

    asyncio.run(body())


def test_figures_for_prometheus(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", standing="accept")
            await f.node("b", online=False)
            run = (await f.propose(expected_client_ids=["a"]))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            assert (await f.call(None, "GET", "/metrics", headers={"accept": "text/plain"})).status_code == 401
            json_of_a_run = await f.ok("sci", "GET", "/metrics")
            assert json_of_a_run["run"] == run
            scrape = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            answer = await f.call("op", "GET", "/metrics", headers={"accept": scrape})
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            values = {}
            for line in answer.text.splitlines():
                if not line.startswith("#"):
                    name, value = re.fullmatch(r'([a-z_]+(?:\{[a-z_]+="(?:[^"\\]|\\.)*"\})?) (\S+)', line).groups()  # type: ignore[union-attr]
                    assert name not in values
                    values[name] = float(value)
            assert values['hanse_runs{state="completed"}'] == 1
            assert values['hanse_runs{state="failed"}'] == 0
            assert values['hanse_nodes{status="online"}'] == 2  # heard of lately
            assert values["hanse_nodes_connected"] == 1
            assert values['hanse_ready{look="database"}'] == 1
            assert values["hanse_events_total"] == f.store.events.last()
            assert values["process_resident_memory_bytes"] > 10e6
            told = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")]
            assert len(told) == len(set(told))

    asyncio.run(body())
