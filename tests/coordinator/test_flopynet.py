"""FLOPY-NET's face on the same objects (LEDGER F20 to F42)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import hanse

from .federation import PROBE, Federation

pytestmark = pytest.mark.databases


def test_root_health_status(tmp_path: Path) -> None:
    """F20, F21, F28 to F32: null where there is nothing to say."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            root = await f.ok(None, "GET", "/")
            assert root["version"] == hanse.__version__
            assert "POST /start" in root["endpoints"]
            assert (await f.ok(None, "GET", "/health"))["status"] == "healthy"
            idle = await f.ok("sci", "GET", "/status")
            assert (idle["status"], idle["clients"], idle["rounds"]) == ("ready", 0, None)
            assert idle["current_accuracy"] is idle["estimated_completion"] is None
            await f.node("a")
            f.nodes["a"].hold = asyncio.Event()
            session = await f.propose()
            waiting = await f.ok("sci", "GET", "/status")
            assert (waiting["status"], waiting["clients"], waiting["rounds"]) == ("waiting_for_clients", 1, 0)
            await f.consent(session, "a")
            running = await f.ok("sci", "GET", "/status")
            assert (running["status"], running["training_active"], running["estimated_completion"]) == (
                "training",
                True,
                None,
            )
            f.nodes["a"].hold.set()
            await f.state(session["session_id"], "completed")
            done = await f.ok("owner-a", "GET", "/status")
            assert (done["status"], done["rounds"], done["max_rounds"], done["current_round"]) == ("completed", 3, 3, 3)
            assert done["current_accuracy"] is None  # a probe has none

    asyncio.run(body())


def test_start(tmp_path: Path) -> None:
    """F22: 202; 409 when running or nothing is ready; 422 when too few nodes are on line."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.refused("sci", "POST", "/start", {**PROBE, "min_available_nodes": 1}, 422)
            await f.node("a")
            await f.refused("sci", "POST", "/start", None, 409)
            await f.refused("sci", "POST", "/start", {"session_id": "ghost"}, 404)
            await f.refused("sci", "POST", "/start", {"session_id": "x", "num_rounds": 3}, 422)
            made = await f.ok("sci", "POST", "/start", {**PROBE, "auto_start": False}, 202)
            assert made["state"] == "awaiting_consent"
            session = await f.ok("sci", "GET", f"/api/training/sessions/{made['session_id']}")
            await f.refused("sci", "POST", "/start", {"session_id": made["session_id"]}, 409)
            await f.consent(session, "a")
            f.nodes["a"].hold = asyncio.Event()
            assert (await f.ok("sci", "POST", "/start", None, 202))["status"] == "training"
            assert "is running" in await f.refused("sci", "POST", "/start", PROBE, 409)
            f.nodes["a"].hold.set()
            await f.state(made["session_id"], "completed")
            waiting = await f.propose(auto_start=False)
            await f.consent(waiting, "a")
            f.transport.detach("a")
            while f.it.presence.online():
                await f.it.presence.changed()
            await f.refused("sci", "POST", "/start", {"session_id": waiting["session_id"]}, 422)

    asyncio.run(body())


def test_register_and_clients(tmp_path: Path) -> None:
    """F24 to F26, F33 to F37: the address is that of the connection, whatever the body says."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("client-1")
            sent = {
                "client_id": "client-1",
                "ip_address": "192.168.100.100",
                "capabilities": {"model_types": ["pytorch"], "compute_power": "gpu", "data_samples": 1000},
            }
            made = await f.ok("owner-client-1", "POST", "/register", sent, 201)
            assert made["ip_address"] == "127.0.0.1"
            await f.ok("owner-client-1", "POST", "/register", sent, 200)
            for wrong in ({"compute_power": "quantum"}, {"data_samples": -1}, {"model_types": "pytorch"}, {"x": 1}):
                await f.refused("owner-client-1", "POST", "/register", {**sent, "capabilities": wrong}, 422)
            one = await f.ok("sci", "GET", "/clients/client-1")
            assert one["capabilities"] == {"model_types": ["pytorch"], "compute_power": "gpu", "data_samples": 1000}
            assert (one["status"], one["connected"]) == ("online", False)
            await f.refused("sci", "GET", "/clients/nobody", None, 404)
            listed = await f.ok("sci", "GET", "/clients")
            assert (listed["total"], listed["connected"]) == (1, 0)

    asyncio.run(body())
