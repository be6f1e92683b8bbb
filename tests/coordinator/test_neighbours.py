"""What neighbours may not do to a coordinator, and what they may not do to each other."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from pathlib import Path

import pytest

from hanse.identity import JoinToken, csr
from tests.transports.grpc_federation import new_key
from tests.waiting import PATIENCE

from .federation import PROBE, Federation, summary
from .live import Live


def test_connections_that_say_nothing_do_not_shut_others_out(tmp_path: Path) -> None:
    """1,100 of them, and a coordinator that was started with 256 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few files for this test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
    with contextlib.ExitStack() as ends:
        try:
            live = Live(tmp_path / "home")
            live.start()
            ends.callback(live.stop)
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            for port in (live.http_port, live.grpc_port):
                for _ in range(1100):
                    ends.callback(socket.create_connection(("127.0.0.1", port)).close)
            made = asyncio.run(_from_elsewhere(live))
            assert made == 200
            assert (tmp_path / "coordinator.err").stat().st_size < 10_000
        finally:
            with contextlib.suppress(ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 4096), 4096))


async def _from_elsewhere(live: Live) -> int:
    """The status of a request from another address of this machine."""
    import httpx

    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    headers = {"authorization": f"Bearer {live.operator}"}
    async with httpx.AsyncClient(transport=transport, base_url=live.url, headers=headers, timeout=PATIENCE) as http:
        return (await http.get("/api/me")).status_code


def test_wrong_enrolments_do_not_hold_up_an_honest_one_behind_the_same_address(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            made = await f.ok("op", "POST", "/api/nodes/join-tokens", {"node": "one"}, 201)
            token, key = JoinToken.decode(made["token"]), new_key()
            request = {"token": token.secret, "node_id": "one", "csr": csr(key, "one").decode()}
            for n in range(15):
                wrong = {**request, "token": f"hanse_{n:032d}"}
                status = (await f.call(None, "POST", "/api/nodes/enrol", wrong)).status_code
                assert status == (401 if n < 10 else 429)
            assert (await f.call(None, "POST", "/api/nodes/enrol", request)).status_code == 201
            assert (await f.call(None, "POST", "/api/nodes/enrol", request)).status_code == 429  # it is used now

    asyncio.run(body())


def test_nobody_speaks_for_a_revoked_node(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a")
            await f.node("b")
            session = await f.propose(**PROBE)
            await f.ok("op", "POST", "/api/nodes/a/revoke", {"reason": "lost"})
            consent = {"client_id": "a", "decision": "accept", "code_hash": session["code_hash"]}
            path = f"/api/training/sessions/{session['session_id']}/consent"
            said = await f.refused("owner-a", "POST", path, consent, 403)
            assert "revoked" in said
            await f.refused("owner-a", "POST", "/api/clients/a/heartbeat", {}, 403)
            await f.refused("owner-a", "POST", "/api/clients/register", {"client_id": "a", **summary()}, 403)
            assert f.store.consents.list(session["session_id"]) == []

    asyncio.run(body())


@pytest.mark.parametrize("change", ["disable", "token", "unlink"])
def test_a_stream_ends_when_what_its_account_may_see_changes(tmp_path: Path, change: str) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            from hanse.coordinator.routes.events import _stream

            who = f.store.accounts.find("owner-a")
            assert who is not None
            stream = _stream(f.it, who, f.store.events.last())
            assert await anext(stream) == b": connected\n\n"
            rest = asyncio.ensure_future(_drain(stream))
            await asyncio.sleep(0.05)
            assert not rest.done()
            if change == "disable":
                f.store.accounts.disable(who.id)
            elif change == "token":
                f.store.accounts.rotate_token(who.id)
            else:
                f.store.accounts.unlink(who.id, "a")
            await asyncio.wait_for(rest, PATIENCE)

    asyncio.run(body())


async def _drain(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


def test_a_result_with_one_flipped_byte_is_refused(tmp_path: Path) -> None:
    import os

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", standing="accept")
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            path = f"/api/runs/{run}/model"
            assert (await f.call("sci", "GET", path)).status_code == 200
            sha = f.store.runs.get(run).result
            assert sha is not None
            file = f.store.blobs.path(sha)
            times = file.stat()
            raw = bytearray(file.read_bytes())
            raw[-1] ^= 1
            file.chmod(0o600)
            file.write_bytes(bytes(raw))
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk that forgets does
            answer = await f.call("sci", "GET", path)
            assert answer.status_code == 400
            assert "does not fit its hash" in answer.text

    asyncio.run(body())


def test_listening_on_all_addresses_without_a_name_is_said(tmp_path: Path) -> None:
    live = Live(tmp_path / "home", "--listen", "grpc://0.0.0.0:0")
    live.start()
    live.stop()
    said = (tmp_path / "coordinator.err").read_text()
    assert "--host-name" in said
    assert "grpc://localhost:" in said
