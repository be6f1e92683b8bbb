"""A container's variables: each of FLOPY-NET's table and compose files, what it means, what is said of a wrong one."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from hanse.cli import group
from hanse.container import SECRETS, starts
from hanse.coordinator.run_defaults import RunDefaults, served_at
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, Conflict, Unreachable
from hanse.identity import Authority, JoinToken
from hanse.node.settings import CoordinatorAddress, NodeSettings
from tests.waiting import PATIENCE

TOKEN = JoinToken("https://localhost:8080", "grpc://localhost:8081", "s3cret", "ab" * 32, "client-1")
SERVER = {"SERVICE_TYPE": "fl-server"}
CLIENT = {"SERVICE_TYPE": "fl-client", "CLIENT_ID": "client-1", "SERVER_HOST": "fl-server"}
POLICY = {"SERVICE_TYPE": "policy-engine"}
# all that the document names: its table, then its two compose files
TABLE = {
    "FL_SERVER_HOST": "0.0.0.0",
    "FL_SERVER_PORT": "8080",
    "POLICY_ENGINE_URL": "http://localhost:5000",
    "SDN_CONTROLLER_URL": "http://localhost:8181",
    "MIN_CLIENTS": "2",
    "MAX_ROUNDS": "100",
    "AGGREGATION_STRATEGY": "fedavg",
    "CLIENT_FRACTION": "0.8",
    "DIFFERENTIAL_PRIVACY": "false",
}
OF_SERVER = {**SERVER, "POLICY_ENGINE_HOST": "policy-engine", "SDN_CONTROLLER_HOST": "sdn-controller"}
OF_CLIENT = {**CLIENT, "POLICY_ENGINE_HOST": "policy-engine", "LOCAL_EPOCHS": "5", "BATCH_SIZE": "32"}


def joining(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**CLIENT, "HANSE_NODE_HOME": str(tmp_path / "node"), "JOIN_TOKEN": TOKEN.encode(), **more}


# ---------------------------------------------------------------- the server


def test_a_server_has_the_documents_ports_and_engines() -> None:
    """F166, F167: HTTP on 8080 as its health check has it, nodes beside it; both engines at their ports, by HTTPS."""
    it = starts(OF_SERVER)
    assert it.command == ("coordinator", "start")
    assert it.environment["HANSE_HOST_NAME"] == socket.gethostname()
    assert it.environment["HANSE_LISTEN"] == "grpc://0.0.0.0:8081"
    assert served_at(it.environment, "127.0.0.1:8000") == "0.0.0.0:8080"
    read = CoordinatorSettings.read([], it.environment)
    assert read.policy_engine is not None
    assert read.policy_engine.service.url == "https://policy-engine:5000"
    assert read.network is not None
    assert read.network.url == "https://sdn-controller:8181"
    assert it.said == ()


def test_the_table_of_the_document_is_passed_on() -> None:
    """F145 to F153: what the coordinator reads itself stays as it was given."""
    it = starts({**SERVER, **TABLE})
    seen = {**SERVER, **TABLE, **it.environment}
    assert {name: seen[name] for name in TABLE} == TABLE
    assert (RunDefaults.read([], seen).values["num_rounds"], served_at(seen, "")) == (100, "0.0.0.0:8080")


def test_what_sites_train_with_is_set_at_the_server() -> None:
    """F170: there it is part of what owners agree to."""
    read = RunDefaults.read([], {"LOCAL_EPOCHS": "5", "BATCH_SIZE": "32"})
    assert read.values == {"local_epochs": 5, "batch_size": 32}
    for name in ("LOCAL_EPOCHS", "BATCH_SIZE"):
        with pytest.raises(ConfigError, match=name):
            RunDefaults.read([], {name: "0"})


@pytest.mark.parametrize("name", ["POLICY_ENGINE", "SDN_CONTROLLER"])
def test_an_engine_is_said_once(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}_HOST and {name}_URL are both set"):
        starts({**SERVER, f"{name}_HOST": "a", f"{name}_URL": "https://b:1"})
    with pytest.raises(ConfigError, match=f"{name}_HOST is 'https://a'; expected the name or the address of a host"):
        starts({**SERVER, f"{name}_HOST": "https://a"})


def test_an_empty_variable_is_not_set() -> None:
    """As compose files write one that has no value."""
    assert starts({**SERVER, **dict.fromkeys([*TABLE, "SDN_CONTROLLER_HOST", "POLICY_ENGINE_HOST"], " ")}) == starts(
        SERVER
    )


# ---------------------------------------------------------------- the client


def test_a_client_joins_the_server_that_is_named_and_starts(tmp_path: Path) -> None:
    """F53: CLIENT_ID is its id, SERVER_HOST where it calls; the token pins whom it believes."""
    it = starts(joining(tmp_path))
    assert it.command == ("node", "start")
    ((*join, token, _, name, _, address),) = it.before
    assert (join, name, address) == (["node", "init", "--join"], "client-1", "grpc://fl-server:8081")
    at = {"url": "https://fl-server:8080", "address": "grpc://fl-server:8081"}
    assert JoinToken.decode(token) == dataclasses.replace(TOKEN, **at)
    assert "JOIN_TOKEN" not in it.environment
    assert token not in repr(it)


def test_without_a_server_the_token_says_where(tmp_path: Path) -> None:
    it = starts(joining(tmp_path, SERVER_HOST=""))
    assert (JoinToken.decode(it.before[0][3]), it.before[0][4:]) == (TOKEN, ("--name", "client-1"))
    folder = dataclasses.replace(TOKEN, address="folder:///mnt/sync")
    token = JoinToken.decode(starts(joining(tmp_path, JOIN_TOKEN=folder.encode())).before[0][3])
    assert (token.url, token.address) == ("https://fl-server:8080", "folder:///mnt/sync")


def test_a_client_that_has_joined_needs_no_token_and_stays_who_it_is(tmp_path: Path) -> None:
    joined = {**CLIENT, "HANSE_NODE_HOME": str(tmp_path)}
    NodeSettings("client-1", coordinator=CoordinatorAddress("grpc://fl-server:8081")).save(tmp_path)
    for more in ({}, {"JOIN_TOKEN": TOKEN.encode()}, {"SERVER_HOST": ""}):
        assert (starts({**joined, **more}).before, starts({**joined, **more}).command) == ((), ("node", "start"))
    with pytest.raises(Conflict, match="CLIENT_ID is client-2, and the node in .* is client-1"):
        starts({**joined, "CLIENT_ID": "client-2"})
    with pytest.raises(Conflict, match="SERVER_HOST is other, and this node has joined grpc://fl-server:8081"):
        starts({**joined, "SERVER_HOST": "other"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"CLIENT_ID": ""}, "CLIENT_ID is not set"),
        ({"CLIENT_ID": "client 1"}, "client 1"),
        ({"JOIN_TOKEN": ""}, "client-1 has not joined yet: .* by `hanse coordinator join-token client-1`"),
        ({"JOIN_TOKEN": "abc"}, "this is no join token"),
        ({"SERVER_HOST": "fl-server:8080"}, "SERVER_HOST is 'fl-server:8080'; .* without a port"),
    ],
)
def test_what_a_client_lacks_is_said(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        starts(joining(tmp_path, **wrong))


def test_what_means_nothing_to_a_service_is_named(tmp_path: Path) -> None:
    """F170: the document's client has variables that its owner did not agree to; they do not pass unnoticed."""
    said = starts(joining(tmp_path, **{name: value for name, value in OF_CLIENT.items() if name not in CLIENT})).said
    assert [sentence.split()[0] for sentence in said] == ["LOCAL_EPOCHS", "BATCH_SIZE", "POLICY_ENGINE_HOST"]
    assert "what a site trains with stands in the proposal" in said[0]
    assert [s.split()[0] for s in starts({**SERVER, "CLIENT_ID": "a"}).said] == ["CLIENT_ID"]
    assert [s.split()[0] for s in starts({**POLICY, "MIN_CLIENTS": "2"}).said] == ["MIN_CLIENTS"]


# ---------------------------------------------------------------- addresses


def static(**more: str) -> dict[str, str]:
    return {**SERVER, "USE_STATIC_IP": "true", "SUBNET_PREFIX": "127.0.0", "CLIENT_IP_RANGE": "1-255", **more}


def test_an_address_that_was_meant_is_the_one_that_the_container_has(tmp_path: Path) -> None:
    """F9, F53: who runs the container gives the address; a container at another one does not start."""
    starts(static())
    client = joining(tmp_path, **{name: value for name, value in static().items() if name not in SERVER})
    starts(client)
    with pytest.raises(ConfigError, match=r"address is 127\.0\.0\.1; expected one from 127\.0\.0\.2 to 127\.0\.0\.255"):
        starts({**client, "CLIENT_IP_RANGE": "2-255"})
    starts(static(CLIENT_IP_RANGE="2-255"))  # which is the clients'
    with pytest.raises(ConfigError, match=r"expected one from 203\.0\.113\.1 to 203\.0\.113\.255"):
        starts(static(SUBNET_PREFIX="203.0.113"))
    starts(static(SUBNET_PREFIX="203.0.113", USE_STATIC_IP="false"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USE_STATIC_IP", "perhaps"),
        ("SUBNET_PREFIX", ""),
        ("SUBNET_PREFIX", "192.168"),
        ("SUBNET_PREFIX", "192.168.256"),
        ("SUBNET_PREFIX", "192.168.100.0/24"),
        ("CLIENT_IP_RANGE", "100"),
        ("CLIENT_IP_RANGE", "0-255"),
        ("CLIENT_IP_RANGE", "200-100"),
        ("CLIENT_IP_RANGE", "100-256"),
    ],
)
def test_a_wrong_address_is_said_by_its_variable(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value!r}; expected"):
        starts({**joining(tmp_path), **static(**{name: value}), "SERVICE_TYPE": "fl-client"})


# ---------------------------------------------------------------- secrets, the service, and health


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_lie_in_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{TOKEN.encode()}\n")
    file = {f"{name}_FILE": str(tmp_path / "secret")}
    if name == "JOIN_TOKEN":
        assert starts(joining(tmp_path, JOIN_TOKEN="", **file)) == starts(joining(tmp_path))
        (tmp_path / "empty").touch()
        with pytest.raises(ConfigError, match="has not joined yet"):
            starts(joining(tmp_path, JOIN_TOKEN="", JOIN_TOKEN_FILE=str(tmp_path / "empty")))
    else:
        assert starts({**SERVER, **file}).environment[name] == TOKEN.encode()
        (tmp_path / "empty").touch()
        with pytest.raises(ConfigError, match=f"{name}_FILE is .*, which is empty"):
            starts({**SERVER, f"{name}_FILE": str(tmp_path / "empty")})
    with pytest.raises(ConfigError, match=f"{name} and {name}_FILE are both set"):
        starts({**joining(tmp_path), name: "x", **file})
    with pytest.raises(ConfigError, match=f"{name}_FILE is .*/none, which user {os.getuid()} .* cannot read"):
        starts({**SERVER, f"{name}_FILE": str(tmp_path / "none")})


def test_a_policy_engine_serves_the_policies_of_its_folder() -> None:
    it = starts(POLICY)
    assert (it.command, it.environment["HANSE_POLICIES"]) == (("policy", "serve"), "/policies")
    assert it.environment["HANSE_HTTP"] == "0.0.0.0:5000"


def test_a_service_that_there_is_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "fl-servr"):
        monkeypatch.setenv("SERVICE_TYPE", name)
        done = CliRunner().invoke(group, ["container", "start"])
        assert isinstance(done.exception, ConfigError)
        assert "expected fl-server, fl-client or policy-engine" in done.exception.message


def test_a_start_sets_what_was_read_and_hides_the_join_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The policy engine refuses an address that is not loopback and has no certificate: so it was asked to start."""
    (tmp_path / "token").write_text("t")
    for name, value in {**POLICY, "POLICY_AUTH_TOKEN_FILE": str(tmp_path / "token"), "JOIN_TOKEN": "j"}.items():
        monkeypatch.setenv(name, value)
    for name in ("HANSE_POLICIES", "HANSE_HTTP", "POLICY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
    done = CliRunner().invoke(group, ["container", "start"])
    assert isinstance(done.exception, ConfigError)
    assert "0.0.0.0 is not loopback: set POLICY_AUTH_TOKEN and give --tls-cert" in done.exception.message
    assert "JOIN_TOKEN changes nothing here" in done.stderr
    assert (os.environ["POLICY_AUTH_TOKEN"], "JOIN_TOKEN" in os.environ) == ("t", False)


def answering(statuses: Sequence[int], tmp_path: Path) -> tuple[threading.Thread, int]:
    """HTTPS, with a certificate for another name, that answers one caller after the other with these statuses."""
    key, certificate = Authority.open(tmp_path / "authority").issue_server(("elsewhere",))
    (tmp_path / "tls").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(PATIENCE)

    def answer() -> None:
        with listening:
            for status in statuses:
                with context.wrap_socket(listening.accept()[0], server_side=True) as came:
                    asked = came.recv(1 << 16)
                    assert asked.startswith(b"GET /health HTTP/1.1\r\n"), asked
                    came.sendall(b"HTTP/1.1 %d So\r\nContent-Length: 8\r\n\r\nso it is" % status)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread, listening.getsockname()[1]


@pytest.mark.parametrize("service", ["fl-server", "policy-engine"])
def test_health_is_what_the_service_says_of_itself(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F172: /health, which says whether it works, and not /status of the port for nodes."""
    thread, port = answering([200, 503], tmp_path)
    monkeypatch.setenv("SERVICE_TYPE", service)
    monkeypatch.setenv("FL_SERVER_PORT", str(port))
    monkeypatch.setenv("HANSE_HTTP", f"0.0.0.0:{port}")
    done = CliRunner().invoke(group, ["container", "healthy"])
    assert (done.exit_code, done.output) == (0, "so it is\n")
    done = CliRunner().invoke(group, ["container", "healthy"])
    thread.join(PATIENCE)
    assert isinstance(done.exception, Unreachable)
    assert "answers with 503: so it is" in done.exception.message


def test_a_service_that_does_not_run_is_not_healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("FL_SERVER_PORT", str(free.getsockname()[1]))
        for service, said in (("fl-server", "does not answer"), ("fl-client", "the node does not run")):
            monkeypatch.setenv("SERVICE_TYPE", service)
            monkeypatch.setenv("HANSE_NODE_HOME", str(tmp_path / "none"))
            done = CliRunner().invoke(group, ["container", "healthy"])
            assert isinstance(done.exception, Unreachable)
            assert said in done.exception.message
