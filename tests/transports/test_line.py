"""What a coordinator knows of the lines to its nodes: measured from what is sent anyway."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grpc_federation import Federation

from hanse.messages import Json, Message, Record
from hanse.transports import _grpc_coordinator
from hanse.transports._line import counted
from tests.waiting import PATIENCE


def test_the_line_to_a_node_is_measured_from_its_large_payloads(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as it:
            await it.node("a")
            large = Record({}, {"w": np.random.default_rng(0).random(600_000)})  # 4.8 MB each way
            small = await it.coordinator.request("a", Message("task", "a/1", body=Record({"n": 1})))
            assert small.body.data == {"n": 1}
            line = it.coordinator.line("a")
            assert "up_mbit_s" not in line  # nothing large went yet
            assert line["latency_ms"] > 0
            assert line["packet_loss"] == 0
            await it.coordinator.request("a", Message("task", "a/2", body=large))
            line = it.coordinator.line("a")
            assert line["up_mbit_s"] > 0
            assert line["down_mbit_s"] > 0
            theirs, ours, port = it.coordinator.ends("a") or ("", "", 0)
            assert theirs == ours == "127.0.0.1"
            assert port > 0
            assert it.coordinator.line("nobody") == {}
            assert it.coordinator.ends("nobody") is None

    asyncio.run(asyncio.wait_for(body(), PATIENCE))


def test_the_kernel_is_asked_of_a_line_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def heard(connection: object) -> dict[str, Json]:
        asked.append(connection)
        return {"latency_ms": len(asked)}

    async def body() -> None:
        async with Federation(tmp_path) as it:
            await it.node("a")
            monkeypatch.setattr(_grpc_coordinator, "counted", heard)
            now = [1000.0]
            monkeypatch.setattr(_grpc_coordinator, "time", SimpleNamespace(monotonic=lambda: now[0]))
            assert [it.coordinator.line("a")["latency_ms"] for _ in range(3)] == [1, 1, 1]
            now[0] += 1.5
            assert it.coordinator.line("a")["latency_ms"] == 2
            await it.node("b")
            assert it.coordinator.line("b")["latency_ms"] == 3

    asyncio.run(asyncio.wait_for(body(), PATIENCE))


def test_what_is_no_tcp_connection_has_no_counts() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert counted(one) == {}
    assert counted(None) == {}
