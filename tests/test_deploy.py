"""The compose file says what FLOPY-NET's document says, less what is wrong in it, and nothing that no compose reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import hanse
from hanse.container import SECRETS, starts
from hanse.coordinator.run_defaults import RunDefaults, served_at
from hanse.coordinator.settings import CoordinatorSettings
from tests.test_container import TOKEN

DEPLOY = Path(__file__).parents[1] / "deploy"
FILE = DEPLOY / "compose.yaml"
FOUND: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = FOUND["services"]


def test_it_is_a_compose_file() -> None:
    """By the schema of the Compose Specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_are_where_the_document_has_them() -> None:
    """F6, F9, F55, F169: names and addresses; both clients of the first list, as the second gives one to two."""
    at = {name: it["networks"]["flopynet"]["ipv4_address"] for name, it in SERVICES.items()}
    assert at == {
        "policy-engine": "192.168.100.20",
        "fl-server": "192.168.100.10",
        "fl-client-1": "192.168.100.101",
        "fl-client-2": "192.168.100.102",
    }
    assert FOUND["networks"]["flopynet"]["ipam"]["config"] == [{"subnet": "192.168.100.0/24"}]
    assert all(it["container_name"] == it["hostname"] == name for name, it in SERVICES.items())
    assert "8080:8080" in SERVICES["fl-server"]["ports"]  # F166


def test_images_have_the_tag_of_this_release() -> None:
    """F50, F166, F171."""
    images = {it["image"] for it in SERVICES.values()}
    assert images == {f"hanse/{name}:{hanse.__version__}" for name in ("coordinator", "node", "policy")}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_privileged(name: str) -> None:
    """F51, F52: the document's clients are, and have NET_ADMIN."""
    it = SERVICES[name]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} & {*it}
    assert (it["user"], it["read_only"], it["cap_drop"]) == ("10001:10001", True, ["ALL"])
    assert it["security_opt"] == ["no-new-privileges:true"]
    mounts = [volume.split(":") for volume in it["volumes"]]
    assert all(target == "/var/lib/hanse" or mode == ["ro"] for _, target, *mode in mounts), mounts


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_asked_as_often_as_the_document_says(name: str) -> None:
    """F173."""
    asked = SERVICES[name]["healthcheck"]
    assert asked["test"] == ["CMD", "hanse", "container", "healthy"]
    assert {key: asked[key] for key in ("interval", "timeout", "retries", "start_period")} == {
        "interval": "30s",
        "timeout": "10s",
        "retries": 3,
        "start_period": "40s",
    }


def test_who_waits_for_whom() -> None:
    """F8, F54, F168: for the healthy, in the document's order; a client waits for the server, which waited for the
    engine."""
    waits = {name: it.get("depends_on", {}) for name, it in SERVICES.items()}
    healthy = {"condition": "service_healthy"}
    assert waits["fl-server"] == {"policy-engine": healthy}
    assert waits["fl-client-1"] == waits["fl-client-2"] == {"fl-server": healthy}


def environment(name: str, tmp_path: Path) -> dict[str, str]:
    """What a container gets, with its secrets in a folder of the test and no address to look at."""
    given = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in SERVICES[name]["environment"].items()}
    for key, value in given.items():
        if value.startswith("/run/secrets/"):
            assert value.rpartition("/")[2] in SERVICES[name]["secrets"]
            (tmp_path / key).write_text(TOKEN.encode())
            given[key] = str(tmp_path / key)
    return {**given, "USE_STATIC_IP": "false", "HANSE_NODE_HOME": str(tmp_path)}


def test_every_variable_means_what_it_says(tmp_path: Path) -> None:
    """F53, F167, F170: all that the document sets is set, and none of it is without effect."""
    server = environment("fl-server", tmp_path)
    it = starts(server)
    assert it.said == ()
    seen = {**server, **it.environment}
    assert RunDefaults.read([], seen).values == {
        "min_available_nodes": 2,
        "min_fit_nodes": 2,
        "min_completed": 2,
        "num_rounds": 50,
        "local_epochs": 5,
        "batch_size": 32,
    }
    assert (served_at(seen, ""), seen["HANSE_HOST_NAME"]) == ("0.0.0.0:8080", "fl-server")
    engine = CoordinatorSettings.read([], {**seen, "POLICY_ENGINE_CA": ""}).policy_engine
    assert engine is not None
    assert (engine.service.url, engine.service.token) == ("https://policy-engine:5000", TOKEN.encode())
    for number in (1, 2):
        given = {**environment(f"fl-client-{number}", tmp_path), "CLIENT_ID": "client-1"}
        assert (starts(given).said, starts(given).before[0][:2]) == ((), ("node", "init"))
        named = SERVICES[f"fl-client-{number}"]["environment"]
        assert (named["CLIENT_ID"], named["SERVER_HOST"]) == (f"client-{number}", "fl-server")
        assert (named["SUBNET_PREFIX"], named["CLIENT_IP_RANGE"]) == ("192.168.100", "100-255")
    assert starts(environment("policy-engine", tmp_path)).said == ()


def test_no_secret_stands_in_the_file() -> None:
    for name, it in SERVICES.items():
        assert not {*SECRETS} & {*it["environment"]}, name
    assert all(set(it) == {"file"} for it in FOUND["secrets"].values())


def made(folder: Path) -> dict[str, str]:
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(folder)], check=True)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_once_and_for_who_reads_them(tmp_path: Path) -> None:
    """Compose finds every file that it names; what was made stays; the folder is its owner's alone."""
    folder = tmp_path / "secrets"
    first, found = (made(folder) for _ in range(2))
    assert {*found} == {*FOUND["secrets"]}
    assert found == first
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(found["policy-token"].strip()) == 64
    said = ["openssl", "verify", "-CAfile", folder / "policy-certificate", "-verify_hostname", "policy-engine"]
    subprocess.run([*said, folder / "policy-certificate"], check=True, capture_output=True)
