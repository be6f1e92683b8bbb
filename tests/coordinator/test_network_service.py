"""The network controller over REST: FLOPY-NET's routes, who may ask, and what it says where no network is there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from hanse.cli import group
from hanse.coordinator.network_service import NetworkService, service
from hanse.errors import ConfigError
from hanse.network_driver import Driver
from tests.extending import install
from tests.waiting import PATIENCE

from .test_priorities import Network

SERVER, CLIENT = {"server_ip": "192.168.100.10"}, {"client_ip": "192.168.100.101"}
PAIR = {"src_ip": "192.168.100.101", "dst_ip": "192.168.100.10"}
Asked = tuple[str, str, Any]


def told(*asked: Asked, driver: Driver | None = None, token: str = "", shown: str = "", within: str = "") -> list[Any]:
    async def body() -> list[Any]:
        made = NetworkService(driver, token, within) if driver else service("none", {}, token, within)
        transport = httpx.ASGITransport(made.app(), raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        async with made.running(), httpx.AsyncClient(transport=transport, base_url="http://n", headers=headers) as it:
            return [await it.request(method, path, content=json.dumps(said)) for method, path, said in asked]

    return asyncio.run(body())


def test_the_documents_own_calls_are_answered() -> None:
    """F94 to F98: as ``FLNetworkIntegration`` makes them."""
    answers = told(
        ("POST", "/fl/register/server", SERVER),
        ("POST", "/fl/register/client", CLIENT),
        ("POST", "/fl/register/client", CLIENT),
        ("POST", "/fl/prioritize", {**PAIR, "priority": 200, "duration": 600}),
        ("GET", "/fl/stats", None),
        driver=Network(),
    )
    assert [a.status_code for a in answers] == [201, 201, 200, 201, 200]
    assert answers[3].json()["priority"] == 200
    assert 599 < answers[3].json()["expires_in_s"] <= 600
    stats = answers[4].json()
    assert (stats["clients"], stats["connected"]) == (["192.168.100.101"], True)
    assert [p["src_ip"] for p in stats["priorities"]] == ["192.168.100.101"]


def test_a_server_is_registered_once_with_its_port() -> None:
    """F95: ``POST /fl/register/server``."""
    path = "/fl/register/server"
    first, again, client, no_host, elsewhere, more, stats = told(
        ("POST", path, {**SERVER, "server_port": 7443}),
        ("POST", path, {**SERVER, "server_port": 8443}),
        ("POST", "/fl/register/client", {"client_ip": SERVER["server_ip"]}),
        ("POST", path, {"server_ip": "127.0.0.1"}),
        ("POST", path, {"server_ip": "10.0.0.1"}),
        ("POST", path, {**SERVER, "command": "rm"}),
        ("GET", "/fl/stats", None),
        driver=Network(),
        within="192.168.100.0/24",
    )
    assert (first.status_code, first.json()) == (201, {"success": True, "new": True, **SERVER})
    assert (again.status_code, again.json()["new"]) == (200, False)
    assert client.status_code == 409  # a host is a server or a client
    assert "192.168.100.0/24" in elsewhere.json()["error"]["message"]
    assert {no_host.status_code, elsewhere.status_code, more.status_code} == {422}
    assert stats.json()["servers"] == [{"server_ip": SERVER["server_ip"], "port": 8443}]
    [closed] = told(("POST", path, SERVER), driver=Network(), token="right", shown="wrong")
    assert closed.status_code == 401


def test_a_client_is_registered_once_and_prefers_nothing_by_itself() -> None:
    """F96: ``POST /fl/register/client``."""
    path, network = "/fl/register/client", Network()
    first, again, server, no_address, missing, stats = told(
        ("POST", path, CLIENT),
        ("POST", path, CLIENT),
        ("POST", "/fl/register/server", {"server_ip": CLIENT["client_ip"]}),
        ("POST", path, {"client_ip": "fl-client-1; rm"}),
        ("POST", path, {}),
        ("GET", "/fl/stats", None),
        driver=network,
    )
    assert (first.status_code, first.json()) == (201, {"success": True, "new": True, **CLIENT})
    assert (again.status_code, again.json()["new"]) == (200, False)
    assert server.status_code == 409
    assert {no_address.status_code, missing.status_code} == {422}
    assert (stats.json()["clients"], stats.json()["servers"]) == ([CLIENT["client_ip"]], [])
    assert network.told == []
    [closed] = told(("POST", path, CLIENT), driver=Network(), token="right")
    assert closed.status_code == 401


def test_what_is_preferred_is_of_two_registered_hosts_for_a_while_and_authorised() -> None:
    """F97: ``POST /fl/prioritize``, with the priority and duration of the document where nobody says others."""
    registered = [("POST", "/fl/register/server", SERVER), ("POST", "/fl/register/client", CLIENT)]
    network = Network()
    early, *_, made, stats = told(
        ("POST", "/fl/prioritize", PAIR),
        *registered,
        ("POST", "/fl/prioritize", PAIR),
        ("GET", "/fl/stats", None),
        driver=network,
    )
    assert (early.status_code, made.status_code) == (404, 201)
    assert (made.json()["priority"], stats.json()["priorities"][0]["priority"]) == (200, 200)
    assert 599 < made.json()["expires_in_s"] <= 600
    assert [len(pairs) for pairs in network.told] == [1]

    async def ends() -> list[str]:
        network = Network()
        it = NetworkService(network)
        transport = httpx.ASGITransport(it.app(), raise_app_exceptions=False)
        async with (
            it.running(),
            httpx.AsyncClient(transport=transport, base_url="http://n") as http,
            asyncio.timeout(PATIENCE),
        ):
            for _, path, body in registered:
                await http.post(path, json=body)
            assert (await http.post("/fl/prioritize", json={**PAIR, "duration": 0.05})).status_code == 201
            while network.told[-1]:  # until the network hears, unasked, that nothing is preferred any more
                network.news.clear()
                await network.news.wait()
            return [p["src_ip"] for p in (await http.get("/fl/stats")).json()["priorities"]]

    assert asyncio.run(ends()) == []
    network = Network()
    *_, closed = told(*registered, ("POST", "/fl/prioritize", PAIR), driver=network, token="right", shown="wrong")
    assert (closed.status_code, network.told) == (401, [])


def test_without_a_network_nothing_is_preferred_and_the_answer_says_so() -> None:
    registered, _, preferred, topology, flows, health, stats = told(
        ("POST", "/fl/register/server", SERVER),
        ("POST", "/fl/register/client", CLIENT),
        ("POST", "/fl/prioritize", PAIR),
        ("GET", "/topology", None),
        ("GET", "/stats/flows", None),
        ("GET", "/health", None),
        ("GET", "/fl/stats", None),
    )
    assert registered.status_code == 201
    assert {a.status_code for a in (preferred, topology, flows, health)} == {503}
    assert preferred.json()["success"] is False
    assert "without a driver" in preferred.json()["error"]["message"]
    assert (stats.json()["connected"], stats.json()["priorities"]) == (False, [])


@pytest.mark.parametrize("shown", ["", "wrong", "right "])
def test_only_who_shows_the_token_is_answered(shown: str) -> None:
    routes = [
        ("POST", path, {}) for path in ("/fl/register/server", "/fl/register/client", "/fl/prioritize", "/fl/release")
    ]
    routes += [("GET", path, None) for path in ("/fl/stats", "/topology", "/stats/flows", "/stats/ports")]
    answers = told(*routes, driver=Network(), token="right", shown=shown)
    fine = shown.strip() == "right"
    assert {a.status_code == 401 for a in answers} == {not fine}
    assert told(("GET", "/health", None), driver=Network(), token="right")[0].status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"src_ip": "not one"}, "is no address"),
        ({"src_ip": "10.0.0.1"}, "192.168.100.0/24"),
        ({"src_ip": "127.0.0.1"}, "of no host"),
        ({"src_ip": "192.168.100.55"}, "is not registered"),
        ({"src_ip": "192.168.100.10"}, "of one kind"),
        ({"priority": 0}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"priority": "200"}, "priority"),
        ({"duration": 0}, "duration"),
        ({"duration": 1e9}, "duration"),
        ({"duration": True}, "duration"),
        ({"command": "rm"}, "command"),
    ],
)
def test_what_is_no_request_is_refused_with_what_is_wrong(change: dict[str, Any], said: str) -> None:
    network = Network()
    *_, answer = told(
        ("POST", "/fl/register/server", SERVER),
        ("POST", "/fl/register/client", CLIENT),
        ("POST", "/fl/prioritize", {**PAIR, **change}),
        driver=network,
        within="192.168.100.0/24",
    )
    assert answer.status_code in (404, 422)
    assert said in answer.json()["error"]["message"]
    assert network.told == []


def test_a_driver_in_one_file_is_told_what_is_wanted(tmp_path: Path) -> None:
    install("network/announced.py")
    file = tmp_path / "preferred.txt"

    async def body() -> None:
        made = service("announced", {"file": str(file)})
        transport = httpx.ASGITransport(made.app(), raise_app_exceptions=False)
        async with made.running(), httpx.AsyncClient(transport=transport, base_url="http://n") as it:
            for path, said in (("register/server", SERVER), ("register/client", CLIENT), ("prioritize", PAIR)):
                assert (await it.post(f"/fl/{path}", json=said)).status_code == 201
            assert file.read_text() == "192.168.100.101 192.168.100.10 0 200\n"
            assert (await it.post("/fl/release", json=PAIR)).json()["released"]
            assert file.read_text() == ""

    asyncio.run(body())


def test_it_is_served_to_others_only_with_a_token_and_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SDN_CONTROLLER_TOKEN", raising=False)
    queues = ("--set", "ports=p1", "--set", "rate_mbit_s=1", "--set", "listen=127.0.0.1:0")
    for given, said in (
        (["--http", "0.0.0.0:8181"], "set SDN_CONTROLLER_TOKEN"),
        (["--driver", "rope"], "there is no 'rope' in network"),
        (["--within", "here"], "expected a network"),
        (["--driver", "linux", "--set", "interfces=eth0"], "did you mean 'interfaces'?"),
        (["--driver", "openflow", "--set", "listen=0.0.0.0:6633"], "anything could call"),
        (["--driver", "openflow", "--set", "share=2"], "share is 2"),
        (["--driver", "openflow", "--set", "ports=p1"], "database, ports and rate_mbit_s go together"),
        (["--driver", "openflow", *queues, "--set", "database=tcp:10.0.0.1:6640"], "expected unix:PATH"),
        (["--driver", "openflow", *queues, "--set", f"database=unix:{tmp_path}/none"], "does not answer"),
    ):
        done = CliRunner().invoke(group, ["network", "controller", *given])
        assert isinstance(done.exception, ConfigError), given
        assert said in done.exception.message
