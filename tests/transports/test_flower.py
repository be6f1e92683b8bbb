"""A real SuperLink and real SuperNodes: what is asked comes back, what ends begins anew, and a run has the same bytes.

``make flower`` runs these: Flower needs an environment of its own, whose programs ``HANSE_FLOWER`` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from flower_federation import FlowerFederation
from patience import processor_seconds

sys.path.insert(0, str(Path(__file__).parents[2]))
import hanse
from demo.federation import Federation
from demo.federation import hanse as command
from hanse.errors import ConfigError, NodeLost
from hanse.messages import Message, Record, digest
from hanse.transports import _flower_superlink
from hanse.transports._flower_inside import certificates, free_port
from hanse.transports._flower_programs import Programs, ended
from tests.waiting import PATIENCE

PATIENT_S = 900.0  # for a program to start: on a busy machine Flower's version alone takes a minute to say


class Flowers:
    """Flower's processes that began below this one, also those that lost who started them."""

    def __init__(self) -> None:
        self._seen: set[psutil.Process] = set()

    def named(self, wanted: str = "") -> list[psutil.Process]:
        """Those that are there below this one now."""
        found = []
        for child in psutil.Process().children(recursive=True):
            try:
                names = [Path(word).name for word in child.cmdline()[:3]]
            except psutil.Error:
                continue
            if any(name.startswith(("flower-", "flwr")) and wanted in name for name in names):
                found.append(child)
        self._seen.update(found)
        return found

    def left(self) -> list[tuple[int, int, str, str]]:
        """What is there of all that were when somebody looked: process, parent, state, command."""
        found = []
        for one in psutil.wait_procs(self._seen, 0)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    found.append((one.pid, one.ppid(), one.status(), " ".join(one.cmdline()[:3])))
        return found

    async def gone(self) -> None:
        """Waits until nothing is left."""
        end = time.monotonic() + PATIENCE
        while left := self.left():
            assert time.monotonic() < end, f"still there: {left}"
            await asyncio.sleep(0.2)


async def asked(federation: FlowerFederation, node: str, id: str, size: int = 100) -> None:
    body = Record({"size": size}, {"w": np.arange(size, dtype="u1")})
    reply = await federation.coordinator.request(node, Message("task", id, body=body))
    np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])


@pytest.mark.flower
@pytest.mark.timeout(1700)  # a machine that others keep busy; what it may compute is bounded below
def test_sessions_over_flower_from_their_beginning_to_their_end(tmp_path: Path) -> None:
    flowers = Flowers()

    async def test() -> None:
        async with processor_seconds(400), FlowerFederation(tmp_path) as federation:
            a, _ = await asyncio.gather(federation.node("a"), federation.node("b"))
            assert federation.coordinator.online() == {"a", "b"}
            await asyncio.gather(
                *(asked(federation, node, f"{node}{size}", size) for node in "ab" for size in (0, 9999))
            )
            await asked(federation, "a", "large", 9 << 20)
            assert (await a.request(Message("hello", "of the node"))).id == "of the node"
            assert federation.recorded == []

            flowers.named()
            supernode = flowers.named("flower-supernode")[0]  # it comes back, and what is asked is answered
            os.kill(supernode.pid, signal.SIGKILL)
            await asyncio.gather(asked(federation, "a", "after"), asked(federation, "b", "after"))

            flowers.named()
            (superlink,) = flowers.named("flower-superlink")
            os.kill(superlink.pid, signal.SIGKILL)
            await asyncio.gather(asked(federation, "a", "again"), asked(federation, "b", "again"))

            federation.revoked.add("a")
            waiting = asyncio.create_task(asked(federation, "a", "never"))
            await asyncio.sleep(0)
            federation.coordinator.disconnect("a", "a was revoked")
            with pytest.raises(NodeLost, match="a was revoked"):
                await waiting
            while ("a", "turned away", "a was revoked") not in federation.said:
                await asyncio.sleep(0.2)
            await asked(federation, "b", "b goes on")
            assert federation.coordinator.online() == {"b"}
            assert {what for _, what, _ in federation.recorded} <= {"not accepted", "duplicate", "second stream"}
            assert flowers.named("flwr-serverapp")
        await flowers.gone()

    asyncio.run(test())


@contextlib.asynccontextmanager
async def superlink(home: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Programs]:
    """Somebody else's, which coordinators join; and what asks it."""
    home.mkdir(exist_ok=True)
    programs, own = Programs(home), certificates(home)
    process = await programs.started(
        "flower-superlink",
        *("--host", "127.0.0.1", "--port", str(port), "--enable-supernode-auth"),
        *("--ssl-certfile", str(own.certificate), "--ssl-keyfile", str(own.key)),
        *("--ssl-ca-certfile", str(own.authority), "--disable-runtime-dependency-installation"),
    )
    monkeypatch.setenv("HANSE_SUPERLINK", f"127.0.0.1:{port}")
    monkeypatch.setenv("HANSE_SUPERLINK_CA", str(own.authority))
    programs.connect(f"127.0.0.1:{port}", own.authority)
    try:
        yield programs
        assert process.returncode is None, (home / "flower-superlink.log").read_text()
    finally:
        await ended(process)


@pytest.mark.flower
@pytest.mark.timeout(1700)
def test_a_superlink_that_is_there_is_joined_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, flowers = free_port(), Flowers()

    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack, processor_seconds(400):
            first = await stack.enter_async_context(contextlib.AsyncExitStack())
            await first.enter_async_context(superlink(tmp_path / "theirs", port, monkeypatch))
            async with FlowerFederation(tmp_path) as federation:
                await federation.node("a")
                await asked(federation, "a", "over theirs", 9999)
                assert len(flowers.named("flower-superlink")) == 1  # theirs, and the coordinator started none
                await first.aclose()  # it ends, and comes back: it is joined again
                theirs = await stack.enter_async_context(superlink(tmp_path / "theirs", port, monkeypatch))
                await asked(federation, "a", "again", 99)
                there = (await theirs.said("supernode", "list", "hanse"))["nodes"]
                assert [node["status"] for node in there] == ["online"]
                assert {what for _, what, _ in federation.recorded} <= {"not accepted"}
                flowers.named()
            left = (await theirs.said("supernode", "list", "hanse"))["nodes"]
            assert {node["status"] for node in left} <= {"unregistered"}
        await flowers.gone()

    asyncio.run(test())


@pytest.mark.flower
@pytest.mark.timeout(1700)
def test_a_run_has_the_same_bytes_as_over_grpc(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("node-a", "node-b"):
        x, z = rng.normal(size=(2, 60))
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["x", "z", "y"])
            writer.writerows(zip(x, z, np.where(x + z > 0, "ill", "well"), strict=True))

    def learned(home: Path, *arguments: str) -> str:
        federation = Federation(home, *arguments)
        federation.coordinator.start_timeout = PATIENT_S
        with federation:
            for name in ("node-a", "node-b"):
                place = str(federation.enrol(name, standing="accept-allowed"))
                file = str(tmp_path / f"{name}.csv")
                command("node", "dataset", "add", file, "--name", "d", "--tags", "d", "--home", place)
                federation.start_node(name, wait=False)
            for process in federation.nodes.values():
                process.wait_ready(PATIENT_S)
            token = federation.account("scientist", "data_scientist")
            with hanse.connect(federation.url, token) as connection:
                experiment = connection.experiment(
                    tags=["d"], model="logistic_regression", target="y", sample_id_column=None, rounds=2
                )
                result = experiment.run(progress=False)
            assert len(result.rounds) >= 2
            return digest(result.record)

    assert learned(tmp_path / "f", "--listen", "flower://127.0.0.1:0") == learned(tmp_path / "g")


@pytest.mark.parametrize("where", ["flower.example:8000", "127.0.0.1"])
def test_a_superlink_elsewhere_is_not_joined(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSE_SUPERLINK", where)
    with pytest.raises(ConfigError, match=r"expected (127\.0\.0\.1:PORT|host:port)"):
        joined(tmp_path)


def test_a_superlink_is_not_joined_without_knowing_whom_to_believe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSE_SUPERLINK", "127.0.0.1:8000")
    with pytest.raises(ConfigError, match="HANSE_SUPERLINK_CA is ''; expected the file"):
        joined(tmp_path)
    monkeypatch.setenv("HANSE_SUPERLINK_CA", str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"HANSE_SUPERLINK_CA is '.*ca\.pem'; expected the file"):
        joined(tmp_path)


def joined(home: Path) -> None:
    (home / "flower-superlink").touch(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANSE_FLOWER", str(home))
        programs = Programs(home)
    _flower_superlink.superlink(programs)


def test_without_flower_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSE_FLOWER", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigError, match="needs Flower 1.42.0: pip install flwr==1.42.0"):
        Programs(tmp_path)


def test_another_version_of_flower_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "flower-superlink"
    program.write_text("#!/bin/sh\necho Flower version: 1.43.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("HANSE_FLOWER", str(tmp_path))
    with pytest.raises(ConfigError, match=r"says 'Flower version: 1.43.0\\n'; expected version 1.42.0"):
        asyncio.run(Programs(tmp_path).check())


def test_flower_is_told_to_call_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "flower-superlink"
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o755)
    monkeypatch.setenv("HANSE_FLOWER", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("SECRET_OF_THE_NODE", "x")
    said = asyncio.run(Programs(tmp_path).ran("flower-superlink")).splitlines()
    assert {"FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1", f"FLWR_HOME={tmp_path}"} <= set(said)
    assert not [line for line in said if line.startswith(("HTTPS_PROXY", "SECRET"))]
