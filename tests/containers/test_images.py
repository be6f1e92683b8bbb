"""The images, as ``make containers`` builds them: a federation of them learns what one without containers learns."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hanse
from demo import hospitals
from demo.federation import Federation
from demo.federation import hanse as command
from hanse.experiment.results import Result
from hanse.messages import digest
from tests.waiting import until

from .federation import ADDRESS, SERVICES, Composed, engine, inside

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200)]
CLIENTS = {"client-1": "cleveland", "client-2": "hungary"}
MODELS = {
    "fitted": {"model": "logistic_regression", "rounds": 10},
    "averaged": {"model": "logistic_regression", "federated_strategy": "fedavg", "rounds": 3, "local_epochs": 2},
    "boosted": {"model": "xgboost", "rounds": 4, "model_options": {"max_depth": 3}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = hospitals.write(tmp_path_factory.mktemp("data"))
    return {client: files[hospital] for client, hospital in CLIENTS.items()}


@pytest.fixture(scope="module")
def composed(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    with Composed(tmp_path_factory.mktemp("compose"), data) as it:
        yield it


def status(service: str) -> Any:
    return json.loads(inside(service, "hanse", "node", "status", "--json"))


def until_connected(service: str) -> None:
    until(lambda: status(service)["state"] == "connected", 0.2)


# ---------------------------------------------------------------- a run


def learned(experiment: Any, owner: Any) -> Result:
    experiment.propose()
    for client in CLIENTS:
        until(lambda client=client: experiment.run_id in owner(client, "proposals"), 0.2)
        owner(client, "approve", experiment.run_id)
    return experiment.wait()  # type: ignore[no-any-return]


def proposed(federation: Any, what: str) -> Any:
    return federation.experiment(
        target=hospitals.TARGET,
        sample_id_column=hospitals.SAMPLE_ID,
        tags=["heart"],
        seed=2026,
        purpose="research: what a container changes",
        expected_client_ids=sorted(CLIENTS),
        **MODELS[what],
    )


@pytest.fixture(scope="module")
def without(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of each result without any container, computed by the instructions that the processor has: no container
    hears what the environment of this machine says of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "MKL_", "NPY_"))]:
            patch.delenv(name)
        with Federation(tmp_path_factory.mktemp("without")) as federation:
            for client, file in data.items():
                home = str(federation.enrol(client))
                command("node", "dataset", "add", str(file), "--name", "heart", "--tags", "heart", "--home", home)
                federation.start_node(client)
            with hanse.connect(federation.url, federation.account("scientist", "data_scientist")) as connected:

                def owner(client: str, *words: str) -> str:
                    return command("node", *words, "--home", str(federation.home / client))

                return {what: digest(learned(proposed(connected, what), owner).record) for what in MODELS}


def test_a_run_has_the_same_bytes_as_without_containers(
    composed: Composed, without: dict[str, str], tmp_path: Path
) -> None:
    """Coordinator, policy engine and two nodes at the document's addresses; the engine permits each step of it."""
    for number in (1, 2):
        add = ("dataset", "add", "/data/heart.csv", "--name", "heart", "--tags", "heart")
        inside(f"fl-client-{number}", "hanse", "node", *add)
    (tmp_path / "authority.crt").write_text(inside("fl-server", "cat", "/var/lib/hanse/authority/authority.crt"))
    token = inside("fl-server", "hanse", "coordinator", "account", "add", "scientist", "--role", "data_scientist")

    def owner(client: str, *words: str) -> str:
        return inside(f"fl-{client}", "hanse", "node", *words)

    with hanse.connect(f"https://{ADDRESS}:8080", token.strip(), tmp_path / "authority.crt") as connected:
        found = {what: digest(learned(proposed(connected, what), owner).record) for what in MODELS}
    assert found == without
    asked = inside("policy-engine", "cat", "/var/lib/hanse/audit.jsonl").splitlines()
    said = {entry["action"] for entry in map(json.loads, asked) if entry["detail"].get("allowed") is True}
    assert {"policy.propose", "policy.take_part", "policy.share_model", "policy.read_result"} <= said


# ---------------------------------------------------------------- what a container may


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_is_root_and_nothing_but_the_volume_is_written(service: str, composed: Composed) -> None:
    status = dict(
        line.split(":\t", 1) for line in inside(service, "cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for path in ("/", "/opt/hanse", "/etc", "/usr", "/home"):
        done = engine("exec", "--user", "0", service, "touch", f"{path}/written", check=False)
        assert "Read-only file system" in done.stderr, path
    for path in ("/tmp", "/var/lib/hanse"):
        inside(service, "sh", "-c", f"touch {path}/written && rm {path}/written")
    found = json.loads(engine("inspect", service).stdout)[0]["HostConfig"]
    assert (found["Privileged"], found["CapAdd"], found["NetworkMode"]) == (False, [], "bridge")


@pytest.mark.parametrize("service", ["fl-client-1", "fl-client-2"])
def test_a_node_cannot_write_its_data_and_its_worker_has_no_network(service: str, composed: Composed) -> None:
    done = engine("exec", "--user", "0", service, "touch", "/data/written", check=False)
    assert "Read-only file system" in done.stderr
    assert status(service)["worker_offline"] is True


@pytest.mark.parametrize("service", SERVICES)
def test_compose_asks_for_health(service: str, composed: Composed) -> None:
    """F173: by what stands in the compose file."""
    engine("healthcheck", "run", service)


def test_no_secret_is_in_what_a_container_was_started_with(composed: Composed) -> None:
    """A token in a variable would stand in what the engine shows everybody."""
    for path in (composed.folder / "secrets").iterdir():
        for service in SERVICES:
            part = max(path.read_text().split(), key=len)  # of a key one line: JSON writes its line ends otherwise
            assert part not in engine("inspect", service).stdout, (path.name, service)


# ---------------------------------------------------------------- what it says, and what it survives


def test_a_node_that_has_joined_needs_no_token_any_more(composed: Composed) -> None:
    (composed.folder / "secrets" / "client-2-join").write_text("")
    engine("restart", "--time", "20", "fl-client-2")
    composed.healthy("fl-client-2")
    until_connected("fl-client-2")


def test_a_node_calls_where_its_owner_says_that_the_server_is(composed: Composed) -> None:
    """As one of another institution, which knows the coordinator by another name than the coordinator itself."""
    token = inside("fl-server", "hanse", "coordinator", "join-token", "client-3").strip()
    given = ("--env", "CLIENT_ID=client-3", "--env", f"SERVER_HOST={ADDRESS}", "--env", f"JOIN_TOKEN={token}")
    bounds = ("--read-only", "--cap-drop=all", "--network=hanse_flopynet")
    try:
        engine("run", "--detach", "--name=elsewhere", *bounds, *given, f"hanse/node:{hanse.__version__}")
        for _ in range(2):
            composed.healthy("elsewhere")
            until_connected("elsewhere")
            assert status("elsewhere")["coordinator"] == f"grpc://{ADDRESS}:8081"
            engine("restart", "--time", "20", "elsewhere")
    finally:
        engine("rm", "--force", "--time", "5", "--volumes", "elsewhere")


def test_a_service_ends_when_it_is_told_to(composed: Composed) -> None:
    """As process 1, which gets no signal that it does not ask for."""
    for service in reversed(SERVICES):
        engine("stop", "--time", "20", service)
        state = json.loads(engine("inspect", service).stdout)[0]["State"]
        assert state["ExitCode"] == 0, (service, state)
    for service in SERVICES:
        engine("start", service)
        composed.healthy(service)


def tried(image: str, **variables: str) -> str:
    """What a container without any network but loopback says when it does not start."""
    given = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    name = f"hanse/{image}:{hanse.__version__}"
    done = engine("run", "--rm", "--read-only", "--cap-drop=all", "--network=none", *given, name, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_what_is_wrong_is_a_sentence() -> None:
    assert tried("node") == "hanse: CLIENT_ID is not set; it is the id by which this node joins, such as client-1"
    elsewhere = tried("node", CLIENT_ID="client-1", USE_STATIC_IP="true", SUBNET_PREFIX="192.168.100")
    assert elsewhere.startswith("hanse: USE_STATIC_IP is true, and this container's address is none; expected one from")
    lacks = tried("node", SERVICE_TYPE="fl-server")
    assert re.fullmatch(r"hanse: this image has no \w+, which a service of SERVICE_TYPE=fl-server needs; .*", lacks), (
        lacks
    )
    assert tried("coordinator", MIN_CLIENTS="two").startswith("hanse: MIN_CLIENTS is 'two'; expected")
    assert "set POLICY_AUTH_TOKEN and give --tls-cert" in tried("policy")
