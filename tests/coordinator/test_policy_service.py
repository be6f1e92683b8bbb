"""The policy engine as a process of its own: FLOPY-NET's routes, its defects as what must not happen, and a coordinator
that asks it and does nothing where it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from demo.federation import free_port
from hanse import cedar
from hanse.cli import group
from hanse.coordinator import driving, policy_engine
from hanse.coordinator.governance import VOCABULARY, from_wire, to_wire
from hanse.coordinator.http_service import HttpService
from hanse.coordinator.policy_engine import PolicyEngine
from hanse.coordinator.policy_service import service
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, NotNow, WireError
from hanse.facts import Participation, now
from hanse.store.audit import AuditLog
from tests.policy.some_facts import RUN
from tests.waiting import PATIENCE, until

from .federation import Federation

SHIPPED = Path(cedar.__file__).parent / "shipped" / "service"
FINE = {"client_id": "c1", "client_reputation": 0.9, "active_clients": 3, "recent_failure_count": 0}
ALL = '@id("all") permit (principal, action, resource);\n'
NOT_AT_TWO = '@id("maintenance") forbid (principal, action == Action::"client_eligibility", resource)\n'


def rules(tmp_path: Path) -> Path:
    """The shipped ones, but for the time of day."""
    text = "\n".join(path.read_text() for path in sorted(SHIPPED.glob("*.cedar")))
    (tmp_path / "rules.cedar").write_text(text.replace("context.time.hour", "context.time.hour + 100"))
    return tmp_path / "rules.cedar"


@contextlib.asynccontextmanager
async def client(path: Path, home: Path, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service(path, home, token).app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://p") as made:
        yield made


def ask(tmp_path: Path, *questions: tuple[str, Any], token: str = "", shown: str = "") -> list[Any]:
    async def body() -> list[Any]:
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        async with client(rules(tmp_path), tmp_path / "home", token) as it:
            sent = [(path, json.dumps(question).encode()) for path, question in questions]
            return [await it.post(path, content=raw, headers=headers) for path, raw in sent]

    return asyncio.run(body())


# ---------------------------------------------------------------- what the document says, and what its engine did


def test_the_documented_questions_are_answered(tmp_path: Path) -> None:
    """F100, F101, and the general check."""
    eligible, shared, checked, versioned = ask(
        tmp_path,
        ("/check/client_eligibility", FINE),
        ("/check/model_sharing", {"model_size_mb": 12.5, "client_trust_score": 0.8}),
        ("/check", {"policy_type": "fl_client_evaluation", "context": {"cpu_usage": 20}}),
        ("/api/v1/check", {"type": "fl_client_evaluation", "context": {"cpu_usage": 95}}),
    )
    assert [a.json()["allowed"] for a in (eligible, shared, checked, versioned)] == [True, True, True, False]
    assert eligible.json()["reason"] == "permitted by eligible"
    assert "nothing permits it" in versioned.json()["reason"]
    assert eligible.json()["policy_version"] == versioned.json()["policy_version"]
    log = AuditLog(tmp_path / "home" / "audit.jsonl")
    assert [e.action for e in log.entries()] == [
        "policy.client_eligibility",
        "policy.model_sharing",
        *["policy.check"] * 2,
    ]
    assert log.entries()[0].detail["by"] == "eligible"
    assert log.verify().ok


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/check/client_eligibility", {}),  # fail-open where a variable is missing
        ("/check/client_eligibility", {"client_id": "999"}),  # an unknown client could register
        ("/check/client_eligibility", {**FINE, "client_reputation": "0.9"}),  # quoted texts never equal
        ("/check/client_eligibility", {**FINE, "client_reputation": True}),
        ("/check/client_eligibility", {**FINE, "client_reputation": None}),
        ("/check/client_eligibility", {**FINE, "active_clients": 9.5}),
        ("/check/client_eligibility", {**FINE, "active_clients": 10**30}),
        ("/check/client_eligibility", {**FINE, "client_id": ["c1"]}),
        ("/check/client_eligibility", {**FINE, "time": "2020-01-01T00:00Z", "client_id": ""}),
        ("/check/model_sharing", {"model_size_mb": 1.0}),  # a trust that nobody told
        ("/check/model_sharing", {"model_size_mb": -1e300, "client_trust_score": 1.0}),
        ("/check", {"policy_type": "fl_client_selection", "context": {}}),  # types without a policy were allowed
        ("/check", {"policy_type": "fl_server_aggregation", "context": {}}),
        ("/check", {"policy_type": "any", "context": {}}),
        ("/check", {"policy_type": "data_privacy", "context": {"data_type": "raw_data", "privacy_risk_score": 0.0}}),
        ("/api/v1/check", {"policy_type": "", "context": {}}),
    ],
)
def test_what_is_missing_or_unknown_or_of_another_type_is_no_yes(tmp_path: Path, path: str, body: Any) -> None:
    """The verified defects of FLOPY-NET's engine, as what must not happen."""
    [answer] = ask(tmp_path, (path, body))
    assert answer.status_code == 200
    assert answer.json()["allowed"] is False
    assert answer.json()["reason"]


def test_what_is_no_question_is_an_error_that_allows_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with client(rules(tmp_path), tmp_path / "home") as it:
            for path, raw in (
                ("/check/client_eligibility", b"[1]"),
                ("/check/client_eligibility", b"{"),
                ("/check/client_eligibility", b'{"a": NaN}'),
                ("/check", b"{}"),
                ("/check", b'{"policy_type": 3, "context": {}}'),
                ("/check", b'{"policy_type": "x", "context": []}'),
                ("/check", json.dumps({"policy_type": "x", "context": {}, "asked": {"action": "x"}}).encode()),
                ("/check", json.dumps({"policy_type": "x", "context": {}, "asked": {"action": [1]}}).encode()),
                ("/check/model_sharing", b'{"x": "' + b"a" * (1 << 20) + b'"}'),
            ):
                answer = await it.post(path, content=raw)
                assert 400 <= answer.status_code < 500, (path, raw[:40], answer.text)
                assert answer.json().get("allowed", False) is False
            for path in ("/api/v1/functions/test", "/api/v1/policies", "/openapi.json"):  # ran code; changed rules
                assert (await it.post(path, json={"code": "1"})).status_code in (404, 405)

    asyncio.run(body())


def test_who_does_not_show_the_token_is_told_nothing(tmp_path: Path) -> None:
    for shown in ("", "wrong", "secre"):
        [answer] = ask(tmp_path, ("/check/client_eligibility", FINE), token="secret", shown=shown)
        assert answer.status_code == 401
        assert answer.json()["allowed"] is False
    [answer] = ask(tmp_path, ("/check/client_eligibility", FINE), token="secret", shown="secret")
    assert answer.json()["allowed"] is True


def test_events_of_a_training_are_in_a_log_that_shows_changes(tmp_path: Path) -> None:
    """F102."""
    event = {"client_id": "c1", "event_type": "round_end", "round": 3, "odd": {"a": [1, None]}}
    [answer] = ask(tmp_path, ("/log/training_event", event))
    assert answer.status_code == 201, answer.text
    log = AuditLog(tmp_path / "home" / "audit.jsonl")
    [entry] = log.entries()
    assert (entry.actor, entry.action, entry.subject, entry.detail["round"]) == (
        "c1",
        "training.event",
        "round_end",
        "3",
    )
    path = tmp_path / "home" / "audit.jsonl"
    path.write_text(path.read_text().replace("round_end", "round_END"))
    assert not AuditLog(path).verify().ok


def test_policies_that_cannot_be_read_answer_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.cedar.files.OVER_S", 0.0)
    monkeypatch.setattr("hanse.cedar.files.LOOK_S", 0.0)

    async def body() -> None:
        async with client(rules(tmp_path), tmp_path / "home") as it:
            assert (await it.get("/health")).json()["status"] == "healthy"
            (tmp_path / "rules.cedar").write_text("permit (")
            assert (await it.get("/health")).status_code == 503
            answer = await it.post("/check/client_eligibility", json=FINE)
            assert (answer.status_code, answer.json()["allowed"]) == (503, False)

    asyncio.run(body())


# ---------------------------------------------------------------- a coordinator that asks an engine


FACTS = Participation(
    **{**RUN, "nodes": 3},
    role="data_scientist",
    node="n1",
    country="DE",
    tags=("heart",),
    rows=70,
    failures=0,
    step=0,
    round=1,
    label="train",
    bytes=3 << 20,
    time=now(),
)


def test_a_question_is_the_same_at_the_other_end() -> None:
    action, person, facts = from_wire(json.loads(json.dumps(to_wire("take_part", "ada", FACTS))))
    assert (action, person) == ("take_part", "ada")
    assert VOCABULARY.context(action, facts).keys() == VOCABULARY.context(action, FACTS).keys()
    for wrong in ({}, {"action": "x"}, {"action": "take_part", "person": "a", "facts": {"rows": 1}}, [1], None):
        with pytest.raises(WireError):
            from_wire(wrong)


class Answers(http.server.BaseHTTPRequestHandler):
    """An engine that says what it is told to say, and remembers what it was asked."""

    asked: list[tuple[str, Any, str]] = []
    says: list[Any] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body, self.headers.get("Authorization", "")))
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said == "silence":
            time.sleep(1.0)
            return
        status, raw = said if isinstance(said, tuple) else (200, said)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(raw if isinstance(raw, bytes) else json.dumps(raw).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(policy_engine, "_PAUSE_S", 0.01)
    Answers.asked, Answers.says = [], [{"allowed": True}]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def decide(url: str, action: str = "take_part", **how: Any) -> Any:
    return asyncio.run(engine_at(url, **how).decide(action, "ada", [FACTS]))[0]


def engine_at(url: str, token: str = "", timeout_s: float = 2.0, attempts: int = 3) -> PolicyEngine:
    return PolicyEngine(HttpService(url, "POLICY_ENGINE_URL", "POLICY_AUTH_TOKEN", token, timeout_s), attempts)


def test_the_documents_fields_are_sent_to_the_documents_routes(engine: str) -> None:
    assert decide(engine, token="t").allowed
    assert decide(engine, "share_model").allowed
    (first, about, shown), (second, sharing, _) = Answers.asked
    assert (first, about["client_id"], about["active_clients"], shown) == (
        "/check/client_eligibility",
        "n1",
        3,
        "Bearer t",
    )
    assert (second, sharing["model_size_mb"]) == ("/check/model_sharing", 3.0)
    assert "settings" not in about["asked"]["facts"]


@pytest.mark.parametrize(
    "said",
    [
        "silence",
        b"",
        b"allowed",
        [True],
        {},
        {"allowed": "true"},
        {"allowed": 1},
        {"allowed": None},
        (500, {"allowed": True}),
        (401, {"allowed": True}),
        (302, {"allowed": True}),
        b"x" * (1 << 21),
    ],
    ids=lambda said: str(said)[:20],
)
def test_nothing_but_a_plain_yes_is_one(engine: str, said: Any) -> None:
    Answers.says = [said]
    with pytest.raises(NotNow, match="the policy engine gave no answer"):
        decide(engine, timeout_s=0.2, attempts=2)
    assert [path for path, *_ in Answers.asked] == ["/check/client_eligibility"] * 2


def test_a_no_is_one_with_its_reason_and_a_fault_that_passes_is_asked_again(engine: str) -> None:
    Answers.says = [{"allowed": False, "reason": "not today", "violations": ["p"]}]
    said = decide(engine)
    assert (said.allowed, said.reason, said.by) == (False, "not today", ("p",))
    Answers.says = [(503, {}), (503, {}), {"allowed": True, "by": ["q"], "policy_version": "v"}]
    said = decide(engine)
    assert (said.allowed, said.by, said.version) == (True, ("q",), "v")


@pytest.mark.parametrize(
    "url",
    ["localhost:5000", "ftp://localhost", "http://policies.example:5000", "https://a:b@policies.example", "http://"],
)
def test_an_address_that_cannot_be_trusted_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="POLICY_ENGINE_URL"):
        CoordinatorSettings.read([], {"POLICY_ENGINE_URL": url})


def test_the_variables_name_the_engine() -> None:
    """F147."""
    found = {"POLICY_ENGINE_URL": "http://localhost:5000", "POLICY_AUTH_TOKEN": "t"}
    made = CoordinatorSettings.read(["policy_timeout_s=5", "policy_attempts=2"], found).policy_engine
    assert made == engine_at("http://localhost:5000", "t", 5.0, 2)
    assert CoordinatorSettings.read([], {"POLICY_ENGINE_URL": " "}).policy_engine is None
    with pytest.raises(ConfigError, match="both set"):
        CoordinatorSettings.read(["policy_file=/x"], found)


def test_a_run_waits_for_an_engine_that_is_away_and_goes_on(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8, F99: nobody is asked anything while nobody can say whether they may be."""
    monkeypatch.setattr(driving, "_RETRY_S", 0.05)

    async def body() -> None:
        settings = CoordinatorSettings(policy_engine=engine_at(engine, timeout_s=1.0, attempts=1))
        async with Federation(tmp_path, settings) as f:
            f.people("a")
            await f.node("a", standing="pending")
            Answers.says = [(500, {})]
            said = await f.refused("sci", "POST", "/api/training/start", {"federated_strategy": "probe"}, 503)
            assert "gave no answer" in said
            assert f.store.runs.list() == []
            Answers.says = [{"allowed": True}]
            session = await f.propose()
            Answers.says = [(500, {})]
            await f.consent(session, "a")
            run = session["session_id"]
            assert await f.state(run, "paused") == "paused"
            assert "the policy engine gave no answer" in f.store.runs.get(run).reason
            assert f.nodes["a"].tasks == []
            Answers.says = [{"allowed": True}]
            assert await f.state(run, "completed", "failed") == "completed"

    asyncio.run(body())


# ---------------------------------------------------------------- the process


def post(url: str, body: Any, token: str = "") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def test_the_process_answers_and_the_documents_class_is_served(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(
        ALL + NOT_AT_TWO + 'when { context has client_id && context.client_id == "two" };'
    )
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "hanse.cli", "policy", "serve", str(tmp_path / "a.cedar")]
    command += ["--http", url.removeprefix("http://"), "--home", str(tmp_path / "home")]
    environment = {**os.environ, "POLICY_AUTH_TOKEN": "secret"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:

            def healthy() -> bool:
                assert process.poll() is None
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=PATIENCE) as answer:
                    return bool(json.loads(answer.read())["status"] == "healthy")
                return False

            until(healthy)
            assert post(f"{url}/check/client_eligibility", {"client_id": "one"}, "secret")["allowed"] is True
            assert post(f"{url}/check/client_eligibility", {"client_id": "two"}, "secret")["allowed"] is False
            [said] = asyncio.run(engine_at(url, "secret").decide("take_part", "ada", [FACTS]))
            assert (said.allowed, said.by) == (True, ("all",))
            with pytest.raises(urllib.error.HTTPError):
                post(f"{url}/check/client_eligibility", {"client_id": "one"}, "guess")
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert AuditLog(tmp_path / "home" / "audit.jsonl").verify().entries == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--http", "0.0.0.0:5000"], "is not loopback"),
        (["--http", "5000"], "is no address"),
        (["--tls-cert", "x"], "give both"),
    ],
)
def test_it_is_not_served_where_anybody_could_ask(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "a.cedar").write_text(ALL)
    done = CliRunner().invoke(group, ["policy", "serve", str(tmp_path / "a.cedar"), *arguments])
    assert isinstance(done.exception, ConfigError)
    assert said in done.exception.message
