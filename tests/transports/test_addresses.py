"""An address names its transport; a transport of one file carries a real run; what 0.1 wrote is still read."""

from __future__ import annotations

import asyncio
import dataclasses
import tomllib
from pathlib import Path

import pytest

from hanse import transports
from hanse.errors import ConfigError
from hanse.identity import JoinToken
from hanse.messages import MAX_MESSAGE_BYTES, Memory
from hanse.node.settings import NodeSettings
from hanse.transports import Caller, Hub, Patience
from tests.coordinator.federation import Federation
from tests.extending import install

install("transports/inbox.py")

OLD_TOKEN = (
    "hanse-join-v1.eyJjYV9zaGEyNTYiOiJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYm"
    "FiYWJhYmFiYWJhYmFiIiwiZ3JwYyI6ImMuZXhhbXBsZTo3NDQzIiwibm9kZV9pZCI6InNpdGUtMSIsInNlY3JldCI6ImhhbnNlX3"
    "MzY3JldCIsInVybCI6Imh0dHBzOi8vYy5leGFtcGxlOjgwMDAifQ"
)
OLD_TOML = """
node_id = "site-1"
consent = "coordinator"

[coordinator]
grpc = "c.example:7443"
url = "https://c.example:8000"

[policy]
minimum_count = 5
standing = "ask"
approval_days = 30.0
allowed_algorithms = ["*"]
allow_federated_analytics = false
minimum_cell = 10
allow_extremes = false
allow_node_statistics = false
statistics_columns = ["*"]
statistics_denied_columns = []
most_filters = 20
minimum_samples = 10
allow_training_plans = false

[limits]
task_seconds = 3600.0
memory_mb = 4096
message_mb = 2048
reply_json_kb = 4096
steps = 1000000
threads = 0
"""


def test_a_join_token_of_the_first_release_is_read() -> None:
    token = JoinToken.decode(OLD_TOKEN)
    assert (token.url, token.address, token.node_id) == ("https://c.example:8000", "grpc://c.example:7443", "site-1")
    assert JoinToken.decode(token.encode()) == token


def test_a_node_toml_of_the_first_release_is_read_and_written_anew() -> None:
    settings = NodeSettings.parse(tomllib.loads(OLD_TOML))
    assert settings.coordinator.address == "grpc://c.example:7443"
    assert "grpc =" not in settings.to_toml()
    assert NodeSettings.parse(tomllib.loads(settings.to_toml())) == settings


@pytest.mark.parametrize("wrong", ["", "x", "carrier://pigeon", "local://x", "grpc://", "grpc://x", "://a:1", "a:b:c"])
def test_what_is_no_address_is_refused_and_those_that_work_are_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match="grpc://"):
        transports.line(wrong, None)  # type: ignore[arg-type]


def test_patience_is_the_transports() -> None:
    assert transports.patience("grpc://x:1") == transports.patience("x:1") == Patience()
    assert transports.patience("inbox://here").heartbeat_s == 1.0


def test_a_transport_in_one_file_carries_a_run(tmp_path: Path) -> None:
    async def body() -> None:
        f = Federation(tmp_path)
        hub = Hub(f.it.handle, f.it.accept, f.it.refused, lambda hosts: (b"", b"", b""), tmp_path / "spool")
        listener = transports.listener("inbox://here", hub)
        f.it.settings = dataclasses.replace(f.it.settings, patience=transports.patience("inbox://here"))
        f.it.attach(listener)
        address = await listener.start()
        lines = []
        async with f:
            f.people("a", "b")
            for name in ("a", "b"):
                site = await f.node(name, online=False, standing="accept")
                connected = asyncio.Event()

                def report(what: str, detail: str, connected: asyncio.Event = connected) -> None:
                    assert what in ("connected", "disconnected"), detail
                    connected.set()

                caller = Caller(name, lambda: None, site.handle, Memory, report, lambda *what: None, MAX_MESSAGE_BYTES)
                lines.append(transports.line(address, caller))
                lines[-1].start()
                await connected.wait()
                await site.hello()
            while len(f.it.presence.online()) < 2:
                await f.it.presence.changed()
            run = await f.propose()
            assert await f.state(run["session_id"], "completed", "failed") == "completed"
            assert all(len(site.tasks) == 3 for site in f.nodes.values())
            await lines[0].close()
            while f.it.presence.online() != {"b"}:
                await f.it.presence.changed()
            f.store.nodes.revoke("a", actor="op")
            turned: list[str] = []
            back = Caller("a", lambda: None, f.nodes["a"].handle, Memory, lambda w, d: turned.append(w), print, 1)
            again = transports.line(address, back)
            again.start()
            while not turned:
                await asyncio.sleep(0)
            assert turned == ["turned away"]
            await lines[1].close()
            await listener.stop()

    asyncio.run(body())
