"""The REST interface against those who mean it badly: odd bodies, odd paths, odd tokens, races, slow clients."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hanse.coordinator import enrolment
from hanse.coordinator.access import TABLE
from tests.coordinator.federation import PROBE, Federation
from tests.coordinator.live import Live
from tests.waiting import PATIENCE, until

Json = Any
ODD_IDS = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%0a",
    "' OR 1=1 --",
    '"; DROP TABLE runs; --',
    "x" * 3000,  # noqa: E501
    "%ff%fe",
    "*",
    "a/b",
    "${7*7}",
    "{{7*7}}",
    "<script>",
    "\u202e",
    "-1",
    "null",
]
ODD_VALUES: list[Json] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**39,
    1e308,
    -0.0,
    "",
    " ",
    "x" * 5000,
    "\0",
    "\u202e",
    [],
    [[]],
    {},  # noqa: E501
    {"a": {}},
    "' OR 1=1 --",
    ["a"] * 1000,
]
LEAKS = re.compile(
    r"Traceback|\.py\b|sqlalchemy|sqlite|site-packages|/tmp/|/home/|File \"|0x[0-9a-f]{8}", re.IGNORECASE
)


def clean(answer: httpx.Response) -> None:
    """No server error, and no inside in what is said."""
    assert answer.status_code != 500, (answer.request.method, str(answer.request.url)[:200], answer.text[:500])
    if answer.status_code >= 400 and answer.status_code != 404:
        assert not LEAKS.search(answer.text), answer.text[:500]


def names(body: Json) -> list[str]:
    return list(body) if isinstance(body, dict) else []


BODIES: dict[tuple[str, str], dict[str, Json]] = {
    ("POST", "/api/training/start"): {
        **PROBE,
        "name": "n",
        "tags": ["a"],
        "model_options": {},
        "seed": 1,
        "fraction": 0.5,
        "expected_client_ids": ["a"],
        "features": ["x"],
    },
    ("POST", "/api/clients/register"): {
        "client_id": "a",
        "num_samples": 10,
        "num_features": 2,
        "data_sparsity": 0.1,
        "class_distribution": {"x": 10},
        "feature_coverage": 1.0,
        "features": ["p", "q"],
        "metadata_columns": ["y"],
        "sample_id_column": "Sample",
        "capabilities": {},
    },
    ("POST", "/register"): {"client_id": "a", "ip_address": "1.2.3.4", "capabilities": {"data_samples": 4}},
    ("POST", "/api/accounts"): {"name": "new", "role": "operator", "nodes": ["a"]},
    ("POST", "/api/nodes/join-tokens"): {"node": "b", "valid_s": 10.0, "owner": "owner-a"},
    ("POST", "/api/nodes/enrol"): {"token": "x", "node_id": "b", "csr": "x"},
    ("POST", "/api/state"): {"format": "federated_state", "version": 1, "runs": [], "nodes": []},
    ("POST", "/start"): {**PROBE},
}


def test_odd_bodies_and_odd_ids(tmp_path: Path) -> None:
    """Every route, every field, with what it does not expect: 4xx, or taken; never 500, never a path or a traceback."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a")
            chance = random.Random(1)
            f.it.chronicle.closed = True  # streams end at once
            for (method, path), roles in sorted(TABLE.items()):
                who = "owner-a" if roles == frozenset({"data_owner"}) else "op"
                for odd in ODD_IDS:
                    if "{" in path:
                        clean(await f.call(who, method, re.sub(r"\{\w+\}", odd.replace("\0", "%00"), path), {}))
                for query in (
                    "limit=-1",
                    "limit=99999999999999999999",
                    "offset=-5",
                    "since=x",
                    "since=9223372036854775808",  # noqa: E501
                    "state=' OR 1=1",
                    "include=" + "x" * 500,
                    "client_ids=" + ",".join("ab" * 500),
                    "tags=%00",
                    "kind=%27%3B",
                    "window=1e9",
                    "tolerance=nan",
                    "first=a:b&second=%00:-1",
                    "after=99999999999999999999",
                    "run=%00",
                    "version=-1",
                    "limit=1&limit=2",
                ):
                    if method == "GET":
                        clean(await f.call(who, method, re.sub(r"\{\w+\}", "a", path) + "?" + query))
                if method != "POST":
                    continue
                plain = re.sub(r"\{\w+\}", "a", path)
                for raw in (
                    b"",
                    b"null",
                    b"[]",
                    b"1",
                    b'"x"',
                    b"{",
                    b"\xff\xfe",
                    b"[" * 5000,
                    b'{"a":1,"a":2}',
                    b'{"a":NaN}',  # noqa: E501
                    b'{"a":1e999}',
                    b'{"a":"\\ud800"}',
                    b"{" + b'"a":{' * 500 + b"}" * 501,
                    b'{"' + b"x" * 9999,
                ):  # noqa: E501
                    clean(await f.call(who, method, plain, raw=raw))
                honest = BODIES.get((method, path), {})
                for name in honest:
                    for value in chance.sample(ODD_VALUES, 9):
                        text = json.dumps({**honest, name: value})
                        clean(await f.call(who, method, plain, raw=text.encode()))
            # all that was taken can be shown
            for path in (
                "/api/nodes",
                "/api/clients",
                "/api/training/sessions",
                "/api/accounts",
                "/api/events",
                "/status",  # noqa: E501
                "/metrics",
                "/clients",
                "/api/state",
                "/api/audit",
                "/api/training/analyze",
            ):
                answer = await f.call("op", "GET", path)
                assert answer.status_code in (200, 409), (path, answer.text[:300])

    asyncio.run(body())


def test_files_that_are_not_the_pages(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            for name in (
                "../server.py",
                "..%2fserver.py",
                "%2e%2e/server.py",
                "....//server.py",
                "/etc/passwd",
                "%2fetc%2fpasswd",  # noqa: E501
                "index.html%00.js",
                "..\\server.py",
                "__init__.py",
            ):
                answer = await f.call(None, "GET", f"/page/{name}")
                assert answer.status_code in (403, 404), (name, answer.status_code)
                assert "import" not in answer.text
                assert "root:" not in answer.text

    asyncio.run(body())


def test_races_of_owners_and_scientists(tmp_path: Path) -> None:
    """Accept and reject, execute and cancel, all at once: one story, and each state change once in the events."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a")
            await f.node("b")
            for turn in range(6):
                made = await f.propose(auto_start=bool(turn % 2), expected_client_ids=["a", "b"])
                run, sha = made["session_id"], made["code_hash"]
                base = f"/api/training/sessions/{run}"

                def give(node: str, decision: str, base: str = base, sha: str = sha) -> Any:
                    given = {"client_id": node, "decision": decision, "code_hash": sha}
                    return f.call(f"owner-{node}", "POST", f"{base}/consent", given)

                asked = [give("a", "accept"), give("b", "accept"), give("a", "accept"), give("b", "reject")]
                asked += [
                    f.call("sci", "POST", f"{base}/{what}", {})
                    for what in ("execute", "cancel", "execute", "pause", "resume", "cancel")
                ]
                random.Random(turn).shuffle(asked)
                for answer in await asyncio.gather(*asked):
                    assert answer.status_code in (200, 202, 409), answer.text
                state = await f.state(run, "cancelled", "rejected", "completed")
                moves = [e.detail for e in f.store.events.since(0, 10_000, run=run) if e.kind == "run.state"]
                for before, after in zip(moves, moves[1:], strict=False):
                    assert before["to"] == after["from"]
                assert moves[-1]["to"] == state
                assert sum(m["to"] in ("cancelled", "rejected", "completed") for m in moves) == 1

    asyncio.run(body())


def test_guessing_tokens_is_slow_and_fills_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong tokens from one address: 401, then 429 and no further lines; who has the right one still comes in."""
    seconds = [1000.0]
    monkeypatch.setattr(enrolment, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            seen = []
            for i in range(200):
                f.tokens["guess"] = f"hanse_{i:032d}"
                seen.append((await f.call("guess", "GET", "/api/me")).status_code)
            assert seen.count(401) == 120
            assert seen[120:] == [429] * 80
            assert (await f.call("sci", "GET", "/api/me")).status_code == 200
            await f.until(lambda events: sum(e.kind == "account.refused" for e in events) == 120)
            seconds[0] += 61
            assert (await f.call("guess", "GET", "/api/me")).status_code == 401
            for token in ("", "hanse_", "x" * 100_000, "\x7f", "hanse_%00", "' OR 1=1 --"):
                f.tokens["odd"] = token
                clean(await f.call("odd", "GET", "/api/me"))

    asyncio.run(body())


def test_a_token_in_another_place_is_none(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            token = f.tokens["op"]
            for headers in (
                {"authorization": token},
                {"authorization": f"Basic {token}"},
                {"cookie": f"token={token}"},
                {"x-api-key": token},
                {"authorization": f"Bearer {token}x"},
            ):
                assert (await f.call(None, "GET", "/api/me", headers=headers)).status_code == 401
            assert (await f.call(None, "GET", f"/api/me?token={token}")).status_code == 401

    asyncio.run(body())


# ---------------------------------------------------------------- clients that are slow


def still_open(connections: list[socket.socket]) -> int:
    """How many take another byte."""
    alive = 0
    for one in connections:
        try:
            one.sendall(b"x")
            one.setblocking(False)
            try:
                alive += one.recv(100) != b""
            except BlockingIOError:
                alive += 1
            finally:
                one.setblocking(True)
        except OSError:
            pass
    return alive


@pytest.mark.long
def test_clients_that_never_finish_their_request_are_put_out(tmp_path: Path) -> None:
    """Two hundred connections that send a byte now and then: others are served, and the slow ones are closed."""
    live = Live(tmp_path / "home").start()
    slow: list[socket.socket] = []
    try:
        for _ in range(200):
            one = socket.create_connection(("127.0.0.1", live.http_port), timeout=PATIENCE)
            one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            slow.append(one)
        assert httpx.get(f"{live.url}/health", timeout=PATIENCE).status_code == 200
        assert still_open(slow) == 200  # it was not their end that made room for another
        until(lambda: still_open(slow) == 0, 0.5)
        assert httpx.get(f"{live.url}/health", timeout=PATIENCE).status_code == 200
    finally:
        for one in slow:
            one.close()
        assert live.stop() == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01" + bytes(100),
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /api/me HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/me HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/me HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
    ],
    ids=["version", "TLS hello", "long path", "long body", "negative body", "smuggling", "many headers"],
)
def test_requests_that_are_none(tmp_path_factory: pytest.TempPathFactory, request_: bytes, served: Live) -> None:
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=PATIENCE) as one:
        one.sendall(request_)
        one.settimeout(3)
        try:
            said = one.recv(65536).decode("latin-1")
        except (TimeoutError, ConnectionResetError):
            said = ""
        assert not LEAKS.search(said)
        assert " 500 " not in said
    assert httpx.get(f"{served.url}/health", timeout=PATIENCE).status_code == 200


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    live = Live(tmp_path_factory.mktemp("rest") / "home").start()
    yield live
    assert live.stop() == 0
