"""``hanse node`` as an owner types it, with and without a running agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from one_node import FakeCoordinator, attack, enrol, probe, proposal, running

from hanse.cli import group
from hanse.errors import ConfigError, Conflict, DataError, HanseError, NodeLost, NotAuthenticated, NotFound
from hanse.identity import Authority, JoinToken, NodeIdentity, create_key, csr, load_identity, save_identity
from hanse.node.approvals import Approvals, Proposal
from hanse.node.settings import NodeSettings
from hanse.store.audit import AuditLog


def hanse(home: Path, *words: str) -> str:
    """What the command prints. Raises its error."""
    done = CliRunner().invoke(group, ["node", *words, "--home", str(home)], catch_exceptions=True)
    if isinstance(done.exception, HanseError):
        raise done.exception
    assert done.exception is None, (done.exception, done.output)
    return done.output


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    NodeSettings("alpha").save(folder)
    return folder


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    path = tmp_path / "visits.csv"
    path.write_text("Sample,age,town,disease\n" + "".join(f"P{i},{20 + i},{'ab'[i % 2]},{i % 2}\n" for i in range(40)))
    return path


def test_heavy_libraries_are_not_loaded_by_an_idle_node() -> None:
    code = (
        "import sys, hanse.node.agent, hanse.node.cli, hanse.node.worker_main, hanse.answers, hanse.bundle;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'sklearn', 'polars', 'torch', 'xgboost', 'scipy',"
        "'pandas', 'sqlalchemy', 'fastapi', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    for words in (["proposals"], ["start"], ["policy", "show"]):
        done = subprocess.run(
            [sys.executable, "-m", "hanse.cli", "node", *words, "--home", str(tmp_path / "none")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("hanse: there is no node here yet")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "none").exists()


def test_datasets(home: Path, visits: Path) -> None:
    assert "visits: 40 rows, 4 columns" in hanse(
        home, "dataset", "add", str(visits), "--tags", "a,b", "--schema", "age=numeric"
    )
    assert "a,b" in hanse(home, "dataset", "list")
    shown = json.loads(hanse(home, "dataset", "show", "visits"))
    assert shown["dataset"]["rows"] == 40
    assert shown["summary"]["num_samples"] == 40
    assert str(visits.parent) not in json.dumps(shown)
    with pytest.raises(ConfigError, match="expected COLUMN=KIND"):
        hanse(home, "dataset", "add", str(visits), "--name", "x", "--schema", "age")
    with pytest.raises(Conflict):
        hanse(home, "dataset", "add", str(visits))
    hospital = visits.parent / "german.csv"
    hospital.write_text("\ufeffage;weight\n" + "61;80,5\n-9;n/a\n" * 20, encoding="utf-8")
    with pytest.raises(DataError, match="say so \\(hanse node dataset add --separator ';'\\)"):
        hanse(home, "dataset", "add", str(hospital))
    added = hanse(home, "dataset", "add", str(hospital), "--separator", ";", "--decimal", ",", "--missing", "-9, n/a")
    assert "german: 40 rows, 2 columns" in added
    assert added.splitlines()[1:] == ["  numeric      age, weight"]
    told = json.loads(hanse(home, "dataset", "show", "german"))["dataset"]
    assert told["columns"] == {"age": "numeric", "weight": "numeric"}
    hanse(home, "dataset", "remove", "german")
    hospital.write_text("age\tday\n" + "61\t2024-01-31\n" * 20, encoding="utf-8")
    with pytest.raises(DataError) as wanted:
        hanse(home, "dataset", "add", str(hospital))
    said = str(wanted.value).rpartition("--separator '")[2][:2]  # as a shell passes it on
    added = hanse(home, "dataset", "add", str(hospital), "--separator", said)
    assert added.splitlines()[1:] == ["  numeric      age", "  date         day"]
    hanse(home, "dataset", "remove", "german")
    visits.write_text(visits.read_text() + "P99,50,a,1\n" * 10)
    assert "50 rows" in hanse(home, "dataset", "refresh", "visits")
    assert json.loads(hanse(home, "dataset", "show", "visits"))["summary"]["num_samples"] == 50
    hanse(home, "dataset", "remove", "visits")
    with pytest.raises(NotFound):
        hanse(home, "dataset", "show", "visits")
    assert json.loads((home / "summaries.json").read_text()) == {}


def test_the_classes_of_a_target_are_in_the_summary(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "heart.csv"
    file.write_text("age,ill\n" + "".join(f"{i},{'yes' if i % 3 else 'no'}\n" for i in range(60)))
    with pytest.raises(DataError, match="no column 'sick'"):
        hanse(home, "dataset", "add", str(file), "--target", "sick")
    hanse(home, "dataset", "add", str(file), "--target", "ill")  # nothing was left of the first attempt
    shown = json.loads(hanse(home, "dataset", "show", "heart"))["summary"]
    assert shown["class_distribution"] == {"no": 20, "yes": 40}
    assert shown["features"] == ["age"]
    file.write_text(file.read_text() + "61,no\n" * 5 + "62,rare\n" * 2)
    hanse(home, "dataset", "refresh", "heart")
    assert json.loads(hanse(home, "dataset", "show", "heart"))["summary"]["class_distribution"] == {"yes": 40}
    file.write_text("age\n" + "1\n" * 30)
    hanse(home, "dataset", "refresh", "heart")
    assert json.loads(hanse(home, "dataset", "show", "heart"))["summary"]["class_distribution"] == {}


def test_damaged_summaries_are_made_anew(home: Path, visits: Path) -> None:
    hanse(home, "dataset", "add", str(visits))
    for damage in (b"", b"{", b"\xff\x00", b"[1]"):
        (home / "summaries.json").write_bytes(damage)
        assert json.loads(hanse(home, "dataset", "show", "visits"))["summary"] is None, damage
        hanse(home, "dataset", "refresh", "visits")
        assert json.loads(hanse(home, "dataset", "show", "visits"))["summary"]["num_samples"] == 40, damage


def test_decisions_without_a_running_agent(home: Path) -> None:
    approvals = Approvals(home)
    for run in ("run-1", "run-2"):
        approvals.receive(Proposal.parse(proposal(probe(), run)))
    assert hanse(home, "proposals").count("pending") == 2
    with pytest.raises(HanseError, match="was proposed with hash"):
        hanse(home, "approve", "run-1", "--sha256", "0123")
    for command in ("approve", "show"):
        with pytest.raises(NotFound, match="it does not run, and hears of new ones"):
            hanse(home, command, "run-9")
    assert "approved" in hanse(home, "approve", "run-1", "--sha256", probe().sha256[:10])
    assert "rejected" in hanse(home, "reject", "run-2", "--reason", "not with us")
    assert hanse(home, "proposals").count("run-") == 0
    assert [p["state"] for p in json.loads(hanse(home, "proposals", "--all", "--json"))] == ["approved", "rejected"]
    assert "revoked" in hanse(home, "revoke", "run-1")
    assert {p.run: p.state for p in approvals.unsent()} == {"run-1": "revoked", "run-2": "rejected"}
    actions = [e.action for e in AuditLog(home / "audit.jsonl").entries()]
    assert actions == ["proposal.approved", "proposal.rejected", "proposal.revoked"]
    done = CliRunner().invoke(group, ["node", "reject", "run-2", "--home", str(home)])
    assert "--reason" in done.output  # a data scientist wants to know why


def test_a_node_in_the_background_runs_no_program_that_lies_where_its_owner_stands(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of data that somebody sent may hold more than data."""
    sent = tmp_path / "sent"
    sent.mkdir()
    (sent / "hanse.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(sent)
    with pytest.raises(Conflict, match="did not start"):  # it has no certificate
        hanse(home, "start", "--background")
    assert not (tmp_path / "ran").exists()


def test_show_gives_settings_and_code(home: Path) -> None:
    Approvals(home).receive(Proposal.parse(proposal(probe())))
    shown = hanse(home, "show", "run-1")
    assert "# purpose: to test" in shown
    assert "federated_strategy = 'probe'" in shown
    assert "class Probe:" in shown


def test_an_owner_sees_what_attacks_get_beside_the_proposal(home: Path, tmp_path: Path) -> None:
    Approvals(home).receive(Proposal.parse(proposal(probe())))
    assert json.loads(hanse(home, "show", "run-1", "--config"))["federated_strategy"] == "probe"
    row = {"attack": "differencing", "without": 1.0, "proposed": 0.25, "chance": 0.0, "epsilon_at_least": 0.5}
    (tmp_path / "audit.json").write_text(json.dumps({"attacks": [{**row, "measure": "share", "note": ""}]}))
    said = "# attack differencing: gets 0.25, 1.00 without its protections, a guess 0.00, proves epsilon 0.50 (share)"
    assert said not in hanse(home, "show", "run-1")
    assert said in hanse(home, "show", "run-1", "--audit", str(tmp_path / "audit.json"))
    assert said in hanse(home, "show", "run-1")  # it is kept
    for wrong in ("no JSON", "[]", json.dumps({"attacks": [{"attack": "x"}]})):
        (tmp_path / "audit.json").write_text(wrong)
        with pytest.raises(DataError, match="no audit"):
            hanse(home, "show", "run-1", "--audit", str(tmp_path / "audit.json"))
    assert said in hanse(home, "show", "run-1")


def test_what_others_wrote_cannot_steer_the_terminal(home: Path) -> None:
    """Neither a purpose, a name, a setting nor a training plan wipes, forges or turns round what the owner reads."""
    nasty = "fine\x1b[2K\n# rule limits: allows it\u202e"
    plan = {"name": "plan", "source": "def build():\n    if role != '\u202e\u2066admin':  # \x1b[1A\n\treturn 1\n"}
    told = proposal(probe(name="\x1b]0;title\x07", plan=plan), proposer="Ada\x1b[31m\r", purpose=nasty)
    Approvals(home).receive(Proposal.parse(told))
    AuditLog(home / "audit.jsonl").append("co\x1bordinator", "task.refused", "run-1", {"reason": nasty})
    for words in (["show", "run-1"], ["proposals"], ["audit"], ["reject", "run-1", "--reason", nasty]):
        shown = hanse(home, *words)
        assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"], words
        assert "# rule limits: allows it" not in shown.splitlines()
    shown = hanse(home, "show", "run-1")
    assert r"# purpose: fine\x1b[2K\n# rule limits: allows it\u202e" in shown
    assert r"if role != '\u202e\u2066admin':  # \x1b[1A" in shown
    assert "\n\treturn 1\n" in shown  # lines and tabs of the code stay
    assert json.loads(hanse(home, "proposals", "--all", "--json"))[0]["purpose"] == nasty  # programs get the truth


def test_policy(home: Path) -> None:
    assert "minimum_samples = 10" in hanse(home, "policy", "show")
    hanse(home, "policy", "set", "minimum_samples", "30")
    assert NodeSettings.load(home).policy.minimum_samples == 30
    with pytest.raises(ConfigError, match="did you mean 'minimum_samples'"):
        hanse(home, "policy", "set", "minimum_sample", "30")
    with pytest.raises(ConfigError, match="there is no 'fedavgg' in algorithms"):
        hanse(home, "policy", "set", "allowed_algorithms", "fedavg,fedavgg")
    assert [e.action for e in AuditLog(home / "audit.jsonl").entries()] == ["settings.changed"]


def test_audit_and_its_verification(home: Path) -> None:
    log = AuditLog(home / "audit.jsonl")
    for run in ("r1", "r2", "r3"):
        log.append("coordinator", "task.refused", run, {"reason": "no"})
    out = hanse(home, "audit", "--verify", "--last", "2")
    assert "r1" not in out
    assert "r3" in out
    assert "3 entries is whole" in out
    file = home / "audit.jsonl"
    file.write_text(file.read_text().replace('"r2"', '"r9"'))
    done = subprocess.run(
        [sys.executable, "-m", "hanse.cli", "node", "audit", "--verify", "--home", str(home)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "broken at entry 2" in done.stderr


def test_with_a_running_agent(tmp_path: Path, visits: Path) -> None:
    async def main() -> None:
        home = tmp_path / "home"
        async with running(home, attacks=True, coordinator=FakeCoordinator()) as node:

            async def type_in(*words: str) -> str:
                return await asyncio.to_thread(hanse, home, *words)

            await node.propose(probe())
            await node.propose(attack(), "run-2")
            await type_in("policy", "set", "allowed_algorithms", "probe")
            assert "rule approved_algorithms: allows it" in await type_in("show", "run-1")
            assert "rule approved_algorithms: FORBIDS IT" in await type_in("show", "run-2")
            quiet = await type_in("approve", "run-1")
            assert "approved" in quiet
            assert "warning" not in quiet
            await node.propose(probe(128), "run-3")
            await type_in("policy", "set", "allowed_algorithms", "fedavg")
            warned = await type_in("approve", "run-3")
            assert "run-3" in warned
            assert "will refuse the run all the same: rule approved_algorithms FORBIDS IT" in warned
            remedy = re.search(r"hanse node (policy set allowed_algorithms \S+)\)", warned)
            assert remedy
            await type_in(*remedy[1].split())
            assert "FORBIDS" not in await type_in("show", "run-3")
            await type_in("policy", "set", "limits.steps", "2")
            assert "limits.steps" in await type_in("show", "run-3")
            told = (await node.coordinator.until("consent"))[0].body.data
            assert told["decision"] == "accept"
            await type_in("dataset", "add", str(visits))
            datasets = (await node.coordinator.until("datasets"))[0].body.data["datasets"]
            assert datasets[0]["name"] == "visits"
            status = json.loads(await type_in("status", "--json"))
            assert status["running"]
            assert status["state"] == "connected"
            assert status["pending"] == ["run-2"]
            assert status["datasets"] == ["visits"]

    asyncio.run(main())


def test_a_node_in_the_background_is_started_once_and_stopped(tmp_path: Path) -> None:
    """A second start said that the node ran, with the number of a process that had ended; nothing stopped the first."""
    home = tmp_path / "home"
    enrol(home, Authority.open(tmp_path / "ca"), "grpc://localhost:1", "alpha")  # where nobody answers
    start = [sys.executable, "-m", "hanse.cli", "node", "start", "--background", "--home", str(home)]
    try:
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
        with pytest.raises(Conflict, match="the node runs already"):
            hanse(home, "start", "--background")
    finally:
        hanse(home, "stop")
    with pytest.raises(Conflict, match="no node is running"):
        hanse(home, "stop")


# ---------------------------------------------------------------- joining


class Door:
    """The part of a coordinator that lets nodes in, over HTTP or HTTPS."""

    def __init__(self, folder: Path, https: bool, impostor: bool = False) -> None:
        self.authority = Authority.open(folder / "ca")
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {}
        self.status = 201
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, door.shown.pem)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                door.asked.append(body)
                certificate = door.authority.issue_node(body["csr"].encode(), body["node_id"])
                answer = {
                    "certificate": certificate.decode(),
                    "ca": door.authority.pem.decode(),
                    "node_id": body["node_id"],
                    "address": "grpc://localhost:7443",
                }
                self.reply(door.status, json.dumps(answer | door.answer).encode())

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(HTTPServer):
            def handle_error(self, *args: Any) -> None:
                pass  # a handshake that a node broke off

        self.shown = Authority.open(folder / "impostor") if impostor else self.authority
        self.server = Server(("127.0.0.1", 0), Handler)
        if https:
            key, certificate = self.shown.issue_server(["localhost"])
            (folder / "key").write_bytes(key)
            (folder / "crt").write_bytes(certificate)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "crt", folder / "key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if https else ''}://localhost:{self.server.server_port}"

    def token(self, **more: str) -> str:
        values = {
            "url": self.url,
            "address": "grpc://localhost:1",
            "secret": "s3cret",
            "ca_sha256": self.authority.fingerprint(),
        }
        return JoinToken(**(values | more)).encode()


@contextlib.contextmanager
def door(folder: Path, **more: bool) -> Iterator[Door]:
    made = Door(folder, more.pop("https", False), **more)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@pytest.mark.parametrize("https", [False, True])
def test_a_node_joins(tmp_path: Path, https: bool) -> None:
    home = tmp_path / "home"
    with door(tmp_path, https=https) as coordinator:
        out = hanse(home, "init", "--join", coordinator.token(), "--name", "alpha", "--consent", "coordinator")
        assert "alpha has joined" in out
        assert [a["token"] for a in coordinator.asked] == ["s3cret"]
        assert "PRIVATE" not in json.dumps(coordinator.asked)
    identity = load_identity(home)
    identity.check()
    settings = NodeSettings.load(home)
    assert (settings.node_id, settings.consent, settings.coordinator.address) == (
        "alpha",
        "coordinator",
        "grpc://localhost:7443",
    )
    assert (home / "node.key").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Conflict, match="belongs to node 'alpha'"):
        hanse(home, "init", "--join", coordinator.token(), "--name", "beta")


def test_the_secret_is_not_shown_to_an_impostor(tmp_path: Path) -> None:
    with door(tmp_path, https=True, impostor=True) as coordinator:
        with pytest.raises(NotAuthenticated, match="somebody may be in between"):
            hanse(tmp_path / "home", "init", "--join", coordinator.token(), "--name", "alpha")
        assert coordinator.asked == []
    assert not (tmp_path / "home" / "node.toml").exists()


def test_another_authority_or_name_in_the_answer_is_not_believed(tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "other")
    with door(tmp_path) as coordinator:
        wrong = [("ca", other.pem.decode()), ("node_id", "beta"), ("certificate", "x"), ("address", None), ("ca", "x")]
        for answer in ({name: value} for name, value in wrong):
            coordinator.answer = answer
            with pytest.raises(HanseError):
                hanse(tmp_path / "home", "init", "--join", coordinator.token(), "--name", "alpha")
            with pytest.raises(NotFound):
                load_identity(tmp_path / "home")


def test_what_the_coordinator_refuses_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with door(tmp_path) as coordinator:
        coordinator.status = 401
        coordinator.answer = {"code": "not_authenticated", "message": "this join token has been used"}
        with pytest.raises(NotAuthenticated, match="has been used"):
            hanse(home, "init", "--join", coordinator.token(), "--name", "alpha")
        coordinator.status = 302
        with pytest.raises(HanseError):
            hanse(home, "init", "--join", coordinator.token(), "--name", "alpha")
        with pytest.raises(ConfigError, match="choose an id"):
            hanse(home, "init", "--join", coordinator.token())
        with pytest.raises(ConfigError, match="the token is for node 'beta'"):
            hanse(home, "init", "--join", coordinator.token(node_id="beta"), "--name", "alpha")
        token = coordinator.token()
    with pytest.raises(NodeLost, match="cannot be reached"):
        hanse(home, "init", "--join", token, "--name", "alpha")
    with pytest.raises(ConfigError, match="no join token"):
        hanse(home, "init", "--join", "nonsense", "--name", "alpha")


def test_a_node_shows_its_key_and_pins_those_of_others(tmp_path: Path, home: Path) -> None:
    authority = Authority.open(tmp_path / "ca")
    key = create_key(home)
    certificate = authority.issue_node(csr(key, "alpha"), "alpha")
    save_identity(home, NodeIdentity("alpha", key, certificate, authority.pem, "grpc://localhost:1"))
    shown = hanse(home, "fingerprint").strip()
    renewed = authority.issue_node(csr(key, "alpha"), "alpha")
    save_identity(home, NodeIdentity("alpha", key, renewed, authority.pem, "grpc://localhost:1"))
    assert re.fullmatch("alpha=[0-9a-f]{64}", shown)
    assert hanse(home, "fingerprint").strip() == shown
    hanse(home, "policy", "set", "node_fingerprints", shown)
    assert NodeSettings.load(home).policy.node_fingerprints == (shown,)
    for wrong in ("alpha=12", "alpha", shown.upper()):
        with pytest.raises(ConfigError, match="a list of NODE=FINGERPRINT"):
            hanse(home, "policy", "set", "node_fingerprints", wrong)
