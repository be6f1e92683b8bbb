"""Who may call what: the whole matrix of routes and roles."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from hanse.coordinator.access import ALL, OPEN_IN_PART, TABLE
from hanse.coordinator.routes import ROUTERS

from .federation import Federation

ROLES = {"op": "operator", "owner-a": "data_owner", "sci": "data_scientist"}
ROUTES = sorted(
    (method, route.path)
    for r in ROUTERS
    for route in r.routes
    if isinstance(route, APIRoute)
    for method in route.methods
)


def test_every_route_is_in_the_table_and_nothing_else() -> None:
    assert sorted(TABLE) == ROUTES


def concrete(path: str) -> str:
    return (
        path.replace("{session_id}", "run-x")
        .replace("{client_id}", "a")
        .replace("{node_id}", "a")
        .replace("{token_id}", "join-x")
        .replace("{account_id}", "acc-x")
        .replace("{name}", "app.js")
    )


@pytest.mark.databases
def test_the_full_matrix(tmp_path: Path) -> None:
    """Deny by default: 401 without and with a wrong token, 403 for each role that the table does not name."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            f.tokens["wrong"] = "hanse_" + "A" * 32
            for method, path in ROUTES:
                if path == "/api/events/stream":
                    f.it.chronicle.closed = True  # the stream ends at once
                roles = TABLE[method, path]
                for who in (None, "wrong"):
                    answer = await f.call(who, method, concrete(path))
                    closed = bool(roles) and not (who is None and (method, path) in OPEN_IN_PART)
                    assert (answer.status_code == 401) == closed, (method, path, who, answer.status_code)
                for who, role in ROLES.items():
                    answer = await f.call(who, method, concrete(path))
                    denied = answer.status_code == 403 and "this is for a" in answer.text
                    assert denied == (bool(roles) and role not in roles), (method, path, role, answer.text)
                    assert answer.status_code not in (401, 500), (method, path, role, answer.text)

    asyncio.run(body())


def test_a_route_that_is_not_in_the_table_is_closed_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            monkeypatch.setattr("hanse.coordinator.access.TABLE", {k: v for k, v in TABLE.items() if k[1] != "/api/me"})
            assert await f.refused("op", "GET", "/api/me", None, 403) == "nobody may call this"

    asyncio.run(body())


@pytest.mark.databases
def test_disabled_and_rotated_tokens_open_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            me = await f.ok("sci", "GET", "/api/me")
            assert me["account"]["role"] == "data_scientist"
            id = me["account"]["id"]
            fresh = await f.ok("op", "POST", f"/api/accounts/{id}/token")
            await f.refused("sci", "GET", "/api/me", None, 401)
            f.tokens["sci"] = fresh["token"]
            await f.ok("sci", "GET", "/api/me")
            await f.ok("op", "POST", f"/api/accounts/{id}/disable")
            await f.refused("sci", "GET", "/api/me", None, 401)
            made = await f.ok("op", "POST", "/api/accounts", {"name": "o", "role": "data_owner", "nodes": ["n"]}, 201)
            assert made["account"]["nodes"] == ["n"]
            assert made["token"] not in (await f.call("op", "GET", "/api/accounts")).text
            await f.refused("op", "POST", "/api/accounts", {"name": "o", "role": "data_owner"}, 409)
            await f.refused("op", "POST", "/api/accounts", {"name": "p", "role": "king"}, 422)
            gone = await f.ok("op", "DELETE", f"/api/accounts/{made['account']['id']}/nodes/n")
            assert gone["nodes"] == []

    asyncio.run(body())


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"{", 400),
        (b'{"reason": NaN}', 400),
        (b'{"reason": "a", "reason": "b"}', 400),
        (b"\xff\xfe", 400),
        (b"[1]", 422),
        (b'{"because": "x"}', 422),
        (b'{"reason": 3}', 422),
        (b"[" * 100_000, 400),
    ],
)
def test_garbage_bodies(tmp_path: Path, raw: bytes, status: int) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            f.store.runs.create({}, proposer="sci", run_id="r")
            answer = await f.call("sci", "POST", "/api/training/sessions/r/cancel", raw=raw)
            assert answer.status_code == status, answer.text
            assert set(answer.json()["error"]) <= {"code", "message", "details"}
            assert str(f.store.runs.get("r").state) == "pending"

    asyncio.run(body())


def test_too_large_a_body_is_413_announced_or_not(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            big = b'{"reason": "' + b"x" * (17 << 20) + b'"}'
            answer = await f.call("op", "POST", "/api/state", raw=big)
            assert answer.status_code == 413

            async def pieces() -> object:
                for _ in range(17):
                    yield b" " * (1 << 20)

            headers = {"authorization": f"Bearer {f.tokens['op']}"}
            chunked = await f.http.post("/api/state", content=pieces(), headers=headers)  # type: ignore[arg-type]
            assert chunked.status_code == 413

    asyncio.run(body())


def test_errors_have_one_shape_and_headers_protect_the_page(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            for path, status in (
                ("/nothing", 404),
                ("/api/me?x=1", 200),
                ("/api/events?limit=x", 422),
                ("/../etc", 404),
            ):
                answer = await f.call("sci", "GET", path)
                assert answer.status_code == status
                assert "default-src 'self'" in answer.headers["content-security-policy"]
                if status != 200:
                    assert answer.json()["error"]["code"]
            assert (await f.call("sci", "PUT", "/api/me")).status_code == 405
            secret = await f.call(None, "GET", "/page/..%2f..%2fapp.py")
            assert secret.status_code == 404

    asyncio.run(body())


def test_the_documentation_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            docs = (await f.call(None, "GET", "/docs")).text
            assert "http://" not in docs
            assert "https://" not in docs
            assert "/api/clients/register" in docs
            schema = (await f.call(None, "GET", "/openapi.json")).json()
            paths = {(m.upper(), p) for p, ms in schema["paths"].items() for m in ms}
            assert paths == set(TABLE)
            consent = schema["paths"]["/api/training/sessions/{session_id}/consent"]["post"]["requestBody"]
            assert "code_hash" in consent["content"]["application/json"]["schema"]["properties"]

    asyncio.run(body())


def test_the_documented_routes_are_the_real_ones() -> None:
    """docs/rest.md names every route."""
    text = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
    for _, path in ROUTES:
        if path == "/page/{name}":
            continue
        last = path.replace("session_id", "id").replace("node_id", "id").replace("token_id", "id")
        last = last.replace("account_id", "id").replace("/nodes/{id}", "/nodes/{id}")
        stems = {path, last, last.replace("/accounts/{id}/nodes/{id}", "/accounts/{id}/nodes/{node}")}
        base, _, verb = last.rpartition("/")  # "/pause | resume" share a line
        named = any(s in text for s in stems) or (base in text and f" {verb}" in text) or f"`/{verb}`" in text
        assert named, path
    assert len(ALL) == 3
