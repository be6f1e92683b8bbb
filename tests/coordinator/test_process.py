"""A coordinator as a process: first start, enrolment, streams, commands, and what survives kill -9."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hanse.cli import group
from hanse.errors import ConfigError, HanseError
from hanse.identity import JoinToken, csr
from hanse.store.audit import AuditLog
from tests.transports.grpc_federation import new_key
from tests.waiting import PATIENCE, ending, eventually

from .live import GrpcSite, Live, until_online, until_state

PROBE = {"federated_strategy": "probe", "num_rounds": 3, "sample_id_column": None}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    it = Live(tmp_path_factory.mktemp("live") / "home").start()
    yield it
    assert it.stop() == 0


def hanse(*arguments: str) -> str:
    """One command; errors are raised."""
    done = CliRunner().invoke(group, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_first_start(live: Live) -> None:
    """The operator's token is printed once and kept in a file that only the owner can read."""
    [said] = [line for line in live.printed if "operator token" in line]
    assert "operator.token): sign in with it on the page" in said
    assert stat.S_IMODE((live.home / "operator.token").stat().st_mode) == 0o600
    assert stat.S_IMODE(live.home.stat().st_mode) == 0o700
    me = asyncio.run(live.ok("GET", "/api/me"))
    assert me["account"]["role"] == "operator"
    assert me["coordinator"]["address"] == live.address


def test_enrolment_is_for_one_node_once(live: Live) -> None:
    """Join token -> certificate; used, foreign, unknown: 401. The same token cannot be used twice at a time."""

    async def body() -> None:
        made = await live.ok("POST", "/api/nodes/join-tokens", {"node": "one"})
        token, key = JoinToken.decode(made["token"]), new_key()
        assert (token.url, token.address, token.node_id) == (live.url, live.address, "one")
        request = {"token": token.secret, "node_id": "one", "csr": csr(key, "one").decode()}
        async with live.client() as http:
            other = await http.post("/api/nodes/enrol", json={**request, "node_id": "two"})
            assert other.status_code == 401
            answers = await asyncio.gather(*(http.post("/api/nodes/enrol", json=request) for _ in range(4)))
            assert sorted(a.status_code for a in answers) == [201, 401, 401, 401]
            assert "BEGIN CERTIFICATE" in next(a for a in answers if a.status_code == 201).json()["certificate"]
            for _ in range(20):
                last = await http.post("/api/nodes/enrol", json={**request, "token": "hanse_" + "x" * 32})
            assert last.status_code == 429
            listed = (await http.get("/api/nodes/join-tokens")).json()["join_tokens"]
            assert next(t for t in listed if t["id"] == made["id"])["used_by"] == "one"
            assert token.secret not in json.dumps(listed)
            assert (await http.delete(f"/api/nodes/join-tokens/{made['id']}")).status_code == 409

    asyncio.run(body())


def test_a_revoked_node_is_put_out_and_stays_out(live: Live) -> None:
    async def body() -> None:
        site = await GrpcSite.enrol(live, "n")
        try:
            await site.connect()
            await until_online(live, 1)
            stolen = GrpcSite("n", site.identity)  # the same certificate works only while it counts
            command = ["coordinator", "revoke", "n", "--reason", "lost", "--home", str(live.home)]
            await asyncio.to_thread(hanse, *command)  # asks the coordinator that runs, which ends the connection
            assert (await live.ok("GET", "/api/nodes/n"))["status"] == "revoked"

            async def gone() -> bool:
                return not (await live.ok("GET", "/api/nodes/n"))["connected"]

            await eventually(gone)
            with pytest.raises((HanseError, TimeoutError)):
                await asyncio.wait_for(stolen.connect(), 1)
            await stolen.link.close()
            events = (await live.ok("GET", "/api/events?kind=node.refused&limit=1000"))["events"]
            assert any(e["detail"]["what"] == "not accepted" for e in events)
            # a token that names the node gives it a new certificate once it is reinstated
            await live.ok("POST", "/api/nodes/n/reinstate", {})
            again = await GrpcSite.enrol(live, "n")
            await again.connect()
            await until_online(live, 1)
            await again.link.close()
        finally:
            await site.link.close()

    asyncio.run(body())


def test_events_as_a_stream(live: Live) -> None:
    """What is committed arrives by itself, in order; after a break it goes on where it was."""

    async def read(lines: object, count: int) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        async with asyncio.timeout(PATIENCE):
            async for line in lines:  # type: ignore[attr-defined]
                assert line != ": alive"  # it was not the sign of life that brought it
                if line.startswith("data: "):
                    found.append(json.loads(line[6:]))
                    if len(found) == count:
                        break
        return found

    async def body() -> None:
        async with live.client() as http:
            last = (await http.get("/api/events?limit=1000")).json()["last_event_id"]
            async with http.stream("GET", "/api/events/stream") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                lines = stream.aiter_lines()
                assert await anext(lines) == ": connected"
                await http.post("/api/accounts", json={"name": "s1", "role": "data_scientist"})
                await http.post("/api/accounts", json={"name": "s2", "role": "data_scientist"})
                first = await read(lines, 2)
            await http.post("/api/accounts", json={"name": "s3", "role": "data_scientist"})
            async with http.stream(
                "GET", "/api/events/stream", headers={"last-event-id": str(first[0]["id"])}
            ) as stream:
                later = await read(stream.aiter_lines(), 2)
            assert [e["detail"]["name"] for e in (*first, *later)] == ["s1", "s2", "s2", "s3"]  # type: ignore[index]
            assert first[0]["id"] > last  # type: ignore[operator]
            assert (await http.get("/api/events/stream", headers={"last-event-id": "x"})).status_code == 422
            made = (await http.post("/api/accounts", json={"name": "s4", "role": "data_scientist"})).json()
        async with live.client(made["token"]) as scientist:
            shown = (await scientist.get("/api/events?limit=1000")).json()["events"]
            assert not any(e["kind"].startswith(("account.", "join_token.", "node.refused")) for e in shown)

    asyncio.run(body())


def test_https_with_the_own_authority(tmp_path: Path) -> None:
    """Without --plain-http the page speaks TLS, with a certificate of the authority that nodes know."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hanse.cli",
            "coordinator",
            "start",
            "--home",
            str(tmp_path / "h"),
            "--http",
            "127.0.0.1:0",
            "--listen",
            "grpc://127.0.0.1:0",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with ending(process):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready"):
                break
        url = json.loads((tmp_path / "h" / "coordinator.json").read_text())["url"]
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(tmp_path / "h" / "authority" / "authority.crt"))
        with urllib.request.urlopen(f"{url}/api/authority", context=context) as answer:
            assert answer.read() == (tmp_path / "h" / "authority" / "authority.crt").read_bytes()
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_plain_http_is_for_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        hanse("coordinator", "start", "--home", str(tmp_path), "--http", "0.0.0.0:0", "--plain-http")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        hanse("coordinator", "start", "--home", str(tmp_path), "--http", "8000")


def test_two_coordinators_on_one_port(live: Live, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another coordinator"):
        hanse("coordinator", "start", "--home", str(tmp_path), "--http", f"127.0.0.1:{live.http_port}", "--plain-http")


def test_a_second_coordinator_on_the_same_home_is_refused(live: Live) -> None:
    before = (live.home / "coordinator.json").read_text()
    command = [sys.executable, "-m", "hanse.cli", "coordinator", "start", "--home", str(live.home), "--plain-http"]
    command += ["--http", "127.0.0.1:0", "--listen", "grpc://127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    assert live.popen is not None
    assert f"a coordinator is running in this folder already (process {live.popen.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout
    assert (live.home / "coordinator.json").read_text() == before


def test_commands(live: Live) -> None:
    home = ["--home", str(live.home)]
    token = hanse("coordinator", "account", "add", "clara", "--role", "data_owner", "--node", "clinic", *home).split()[
        -1
    ]
    assert asyncio.run(live.ok("GET", "/api/me", token=token))["account"]["nodes"] == ["clinic"]
    assert "clara" in hanse("coordinator", "account", "list", *home)
    new = hanse("coordinator", "token", "rotate", "clara", *home).strip()
    assert asyncio.run(live.ok("GET", "/api/me", token=new))["account"]["name"] == "clara"
    join = JoinToken.decode(hanse("coordinator", "join-token", "clinic", "--valid", "30m", "--owner", "clara", *home))
    assert (join.url, join.address, join.node_id) == (live.url, live.address, "clinic")
    assert "node" in hanse("coordinator", "nodes", *home)
    assert "run" in hanse("coordinator", "runs", *home)
    file = live.home.parent / "federated_state.json"
    hanse("coordinator", "export", str(file), *home)
    assert json.loads(file.read_text())["schema_version"] == 1
    assert "skipped" in hanse("coordinator", "import", str(file), *home)
    hanse("coordinator", "account", "disable", "clara", *home)
    for wrong in (["join-token", "x", "--valid", "soon"], ["token", "rotate", "nobody"], ["join-token", "../x"]):
        with pytest.raises(HanseError):
            hanse("coordinator", *wrong, *home)
    assert "unbroken" in hanse("coordinator", "audit", "--verify", *home)
    assert "account.created" in hanse("coordinator", "audit", *home)


def test_state_goes_out_and_in(live: Live, tmp_path: Path) -> None:
    """M73 to M77: federated_state.json by REST."""

    async def body() -> None:
        state = await live.ok("GET", "/api/state")
        assert set(state) >= {"clients", "active_sessions", "completed_sessions", "schema_version"}
        assert live.operator not in json.dumps(state)
        done = await live.ok("POST", "/api/state", state)
        assert done["added"] == []
        async with live.client() as http:
            assert (await http.post("/api/state", json={"schema_version": 99})).status_code == 422

    asyncio.run(body())


def test_on_postgresql(live: Live, tmp_path: Path, postgres_server: Callable[[], str]) -> None:
    """``hanse coordinator start --database postgresql://...``: nodes enrol, a run survives kill -9 and ends with
    the same bytes as on SQLite; nothing of it is in a SQLite file."""

    async def body() -> None:
        database = ("--database", postgres_server())
        other = Live(tmp_path / "home", *database).start()
        try:
            result = await probe_run(other, ["p0", "p1"], 6, [0.3], 0.1)
            assert "completed" in hanse("coordinator", "runs", "--home", str(other.home), *database)
        finally:
            other.stop()
        assert not (other.home / "hanse.db").exists()
        assert (live.home / "hanse.db").exists()
        assert result == await probe_run(live, ["p0", "p1"], 6, [], 0.0)

    asyncio.run(body())


async def probe_run(live: Live, names: list[str], rounds: int, kills: list[float], slow: float) -> str:
    """SHA-256 of the result of a probe run whose coordinator is killed at these times (seconds after the start)."""
    nodes = [await GrpcSite.enrol(live, name) for name in names]
    for node in nodes:
        node.slow = slow
        await node.connect()
    await until_online(live, len(nodes))
    settings = {
        **PROBE,
        "num_rounds": rounds,
        "seed": 7,
        "model_options": {"bytes": 600_000},
        "reconnect_timeout_s": 20,
        "expected_client_ids": names,
    }
    run = (await live.ok("POST", "/api/training/start", settings))["session_id"]
    await until_state(live, run, "running", "completed")
    for pause in kills:
        await asyncio.sleep(pause)
        live.kill()
        live.start()
    session = await until_state(live, run, "completed", "failed", "cancelled")
    assert session["state"] == "completed", session["reason"]
    records = (await live.ok("GET", f"/api/runs/{run}/rounds"))["rounds"]
    assert [r["round"] for r in records] == list(range(1, rounds + 1))
    assert all(len(r["participants"]) == len(nodes) for r in records)
    assert (await live.ok("GET", "/api/audit/verify"))["ok"]
    for node in nodes:
        await node.link.close()
    return str(session["result"]["sha256"])


def killed(calm: Live, tmp_path: Path, moments: int) -> None:
    async def body() -> None:
        draw = random.Random(4)
        names = [f"k{moments}-{i}" for i in range(3)]
        rough = Live(tmp_path / "home").start()
        try:
            kills = [draw.uniform(0.0, 0.8) for _ in range(moments)]
            result = await probe_run(rough, names, 30, kills, 0.05 if moments < 5 else 0.25)
        finally:
            rough.stop()
        assert result == await probe_run(calm, names, 30, [], 0.0)
        log = AuditLog(rough.home / "audit.jsonl")
        assert log.verify().ok
        numbers = [e.detail["event"] for e in log.entries() if "event" in e.detail]
        assert numbers == sorted(set(numbers))  # nothing twice, nothing out of order

    asyncio.run(body())


def test_kill_9_and_the_same_bytes(live: Live, tmp_path: Path) -> None:
    """M75, M77: killed at two random moments of a 30-round run, it goes on and ends with the same bytes."""
    killed(live, tmp_path, 2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_kill_9_at_ten_moments(live: Live, tmp_path: Path) -> None:
    killed(live, tmp_path, 10)


def test_a_restart_loses_neither_nodes_nor_proposals(tmp_path: Path) -> None:
    """M77: kill -9, start again: registry, history, accounts and the open proposal with its expiry are there."""

    async def body() -> None:
        live = Live(tmp_path / "home").start()
        try:
            site = await GrpcSite.enrol(live, "n")
            await site.connect()
            await until_online(live, 1)
            done = (await live.ok("POST", "/api/training/start", PROBE))["session_id"]
            await until_state(live, done, "completed")
            await site.link.close()
            settings = {**PROBE, "expected_client_ids": ["n"], "consent_timeout_s": 2.5}
            short = (await live.ok("POST", "/api/training/start", settings))["session_id"]
            settings = {**PROBE, "expected_client_ids": ["n"]}
            open_ = (await live.ok("POST", "/api/training/start", settings))["session_id"]
            live.kill()
            live.start()
            assert [n["id"] for n in (await live.ok("GET", "/api/nodes"))["nodes"]] == ["n"]
            listed = (await live.ok("GET", "/api/training/sessions"))["sessions"]
            assert {s["session_id"]: s["state"] for s in listed if s["session_id"] != short} == {
                done: "completed",
                open_: "awaiting_consent",
            }
            assert sum("operator token" in line for line in live.printed) == 1
            await until_state(live, short, "expired")
            back = GrpcSite("n", site.identity)
            await back.connect()  # says hello, gets the proposal, accepts
            await until_state(live, open_, "completed")
            await back.link.close()
        finally:
            live.stop()

    asyncio.run(body())
