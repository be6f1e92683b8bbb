"""The command line does all that the REST interface does, and nothing in it steers a terminal."""

from __future__ import annotations

import errno
import json
import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hanse import cli
from hanse.cli import group
from hanse.coordinator.access import TABLE
from hanse.errors import HanseError, NotFound
from hanse.store import Store
from hanse.store.nodes import CertificateOnFile

SESSION = "/api/training/sessions/{session_id}"
COMMANDS = {  # route to the command that does the same
    ("GET", "/"): "coordinator start",
    ("GET", "/health"): "login",
    ("GET", "/ready"): "login",
    ("POST", "/api/clients/register"): "node start",  # a node registers its datasets when it greets
    ("GET", "/api/clients"): "nodes",
    ("POST", "/api/clients/{client_id}/heartbeat"): "node start",
    ("GET", "/api/training/analyze"): "run analyze",
    ("POST", "/api/training/start"): "run propose",
    ("GET", "/api/training/sessions"): "run list",
    ("GET", SESSION): "run show",
    ("POST", f"{SESSION}/consent"): "run consent",
    ("POST", f"{SESSION}/execute"): "run start",
    ("POST", f"{SESSION}/cancel"): "run cancel",
    ("POST", f"{SESSION}/pause"): "run pause",
    ("POST", f"{SESSION}/resume"): "run resume",
    ("GET", "/api/analytics/session/{session_id}"): "run analytics",
    ("GET", "/status"): "run list",
    ("POST", "/start"): "run start",
    ("GET", "/metrics"): "run rounds",
    ("GET", "/clients"): "nodes",
    ("POST", "/register"): "node start",
    ("GET", "/clients/{client_id}"): "nodes",
    ("GET", "/api/me"): "login",
    ("GET", "/api/login"): "login",
    ("POST", "/api/login/device"): "login",
    ("POST", "/api/login/device/token"): "login",
    ("GET", "/api/config/schema"): "run settings",
    ("GET", "/api/nodes"): "nodes",
    ("GET", "/api/nodes/{node_id}"): "nodes",
    ("GET", "/api/nodes/join-tokens"): "coordinator join-tokens",
    ("POST", "/api/nodes/join-tokens"): "coordinator join-token",
    ("DELETE", "/api/nodes/join-tokens/{token_id}"): "coordinator join-tokens",
    ("POST", "/api/nodes/{node_id}/revoke"): "coordinator revoke",
    ("POST", "/api/nodes/{node_id}/reinstate"): "coordinator reinstate",
    ("GET", "/api/authority"): "node init",
    ("POST", "/api/nodes/enrol"): "node init",
    ("GET", "/api/accounts"): "coordinator account list",
    ("POST", "/api/accounts"): "coordinator account add",
    ("POST", "/api/accounts/{account_id}/token"): "coordinator token rotate",
    ("POST", "/api/accounts/{account_id}/disable"): "coordinator account disable",
    ("POST", "/api/accounts/{account_id}/nodes"): "coordinator account link",
    ("DELETE", "/api/accounts/{account_id}/nodes/{node_id}"): "coordinator account unlink",
    ("GET", "/api/runs/{session_id}/rounds"): "run rounds",
    ("GET", "/api/runs/{session_id}/bundle"): "run preview",
    ("GET", "/api/runs/{session_id}/evidence"): "run evidence",
    ("GET", "/api/runs/{session_id}/inclusion"): "run inclusion",
    ("GET", "/api/runs/{session_id}/model"): "run model",
    ("GET", "/api/runs/{session_id}/card"): "run card",
    ("GET", "/api/runs/{session_id}/coefficients"): "run coefficients",
    ("GET", "/api/runs/{session_id}/statistics"): "stats overview",
    ("GET", "/api/runs/{session_id}/messages"): "flower run",
    ("POST", "/api/runs/{session_id}/messages/{step}"): "flower run",
    ("GET", "/api/runs/{session_id}/messages/{step}"): "flower run",
    ("GET", "/api/statistics"): "stats overview",
    ("GET", "/api/models"): "run models",
    ("POST", "/api/models"): "run bring-in",
    ("GET", "/api/models/compare"): "run compare",
    ("GET", "/api/events"): "events",
    ("GET", "/api/events/stream"): "events",
    ("GET", "/api/studies"): "coordinator study list",
    ("POST", "/api/studies"): "coordinator study add",
    ("POST", "/api/studies/{study}"): "coordinator study change",
    ("POST", "/api/studies/{study}/close"): "coordinator study close",
    ("DELETE", "/api/login/session"): "logout",
    ("GET", "/api/audit"): "coordinator audit",
    ("GET", "/api/audit/verify"): "coordinator audit",
    ("GET", "/api/state"): "coordinator export",
    ("POST", "/api/state"): "coordinator import",
}
FOR_PROGRAMS = {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/favicon.ico")}
FOR_BROWSERS = {("GET", "/login"), ("GET", "/login/callback"), ("POST", "/api/login/session")}


def find(words: str) -> click.Command:
    command: click.Command | None = group
    for word in words.split():
        assert isinstance(command, click.Group), words
        command = command.get_command(click.Context(command), word)
    assert command is not None, words
    return command


def commands(of: click.Command, name: str = "") -> dict[str, click.Command]:
    """All below a group, by their words."""
    if not isinstance(of, click.Group):
        return {name: of}
    context = click.Context(of)
    below = {word: of.get_command(context, word) for word in of.list_commands(context)}
    return {n: c for word, one in below.items() if one for n, c in commands(one, f"{name} {word}".strip()).items()}


def test_every_command_that_lists_something_has_json() -> None:
    """As the quick start says. A command that lists is called ``list`` or by a plural."""
    found = {n: c for n, c in commands(group).items() if n.split()[-1] == "list" or n.endswith("s")}
    assert {"run list", "node dataset list", "coordinator account list", "coordinator join-tokens"} <= set(found)
    assert not [n for n, c in found.items() if not any("--json" in p.opts for p in c.params)]


def test_lists_as_json(tmp_path: Path) -> None:
    with Store(None, tmp_path) as store:
        store.nodes.register("clinic", CertificateOnFile("1", "f" * 64))
        store.runs.create({"model_name": "x"}, proposer="ada", nodes=["clinic"])
        store.nodes.join_tokens.create("op", "second")
        store.accounts.create_account("ada", "data_scientist", ())
    lists = ((["nodes"], "node"), (["runs"], "run"), (["join-tokens"], "id"), (["account", "list"], "account"))
    for words, key in lists:
        (listed,) = json.loads(hanse(tmp_path, *words, "--json"))
        assert listed[key]


def test_every_route_has_a_command() -> None:
    """A new route needs a command, and a line here."""
    routes = {r for r in TABLE if not r[1].startswith("/page")} - FOR_PROGRAMS - FOR_BROWSERS
    assert set(COMMANDS) == routes


@pytest.mark.parametrize("words", sorted(set(COMMANDS.values())))
def test_every_command_exists_and_says_what_it_does(words: str) -> None:
    assert len(find(words).help or "") > 10


def hanse(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(group, ["coordinator", *arguments, "--home", str(home)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_accounts_join_tokens_and_admission(tmp_path: Path) -> None:
    """Without a running coordinator they work on its database."""
    with Store(None, tmp_path) as store:
        store.nodes.register("clinic", CertificateOnFile("1", "f" * 64))
        token, _ = store.nodes.join_tokens.create("op", "second")
    hanse(tmp_path, "account", "add", "clara", "--role", "data_owner")
    hanse(tmp_path, "account", "link", "clara", "clinic")
    assert "clinic" in hanse(tmp_path, "account", "list")
    hanse(tmp_path, "account", "unlink", "clara", "clinic")
    assert "clinic" not in hanse(tmp_path, "account", "list")
    assert "open" in hanse(tmp_path, "join-tokens")
    assert "ended" in hanse(tmp_path, "join-tokens", "--withdraw", token.id)
    with pytest.raises(HanseError):
        hanse(tmp_path, "join-tokens", "--withdraw", "nothing")
    hanse(tmp_path, "revoke", "clinic", "--reason", "lost")
    assert "revoked" in hanse(tmp_path, "nodes")
    hanse(tmp_path, "reinstate", "clinic")
    assert "revoked" not in hanse(tmp_path, "nodes")
    for wrong in ("nobody", "../audit"):
        with pytest.raises(HanseError):
            hanse(tmp_path, "revoke", wrong)
    with pytest.raises(NotFound):
        hanse(tmp_path, "account", "link", "nobody", "clinic")


def test_what_others_wrote_cannot_steer_the_terminal(tmp_path: Path) -> None:
    nasty = "away\x1b[2K\n     1 2020 operator  node.trusted \u202e"
    with Store(None, tmp_path) as store:
        store.nodes.register("clinic", CertificateOnFile("1", "f" * 64))
        run = store.runs.create({"model_name": nasty}, proposer="ada", nodes=["clinic"])
        store.runs.transition(run.id, "failed", "ada", nasty)
        store.audit.append(nasty, "run.failed", run.id, {"reason": nasty})
    for command in ("runs", "nodes", "audit"):
        shown = hanse(tmp_path, command)
        assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"], command
        assert not any(line.lstrip().startswith("1 2020") for line in shown.splitlines()), command


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.ENOSPC, "No space left on device", "/x/home.json"), OSError(errno.EIO, "Input/output error")],
)
def test_a_full_disk_is_said_in_a_sentence(
    fault: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that was started on one ended with a traceback."""

    def failing(*arguments: object, **more: object) -> None:
        raise fault

    monkeypatch.setattr(cli, "group", failing)
    with pytest.raises(SystemExit) as ended:
        cli.main(["node", "start"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hanse: {fault.strerror}")
    assert len(said.splitlines()) == 1


def test_other_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(cli, "group", failing)
    with pytest.raises(PermissionError):
        cli.main(["node", "start"])
