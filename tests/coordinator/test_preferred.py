"""Large transfers are preferred while they last, and a run never waits for that or fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from hanse.coordinator import preferred
from hanse.coordinator.http_service import HttpService
from hanse.coordinator.network_controller import NetworkController
from hanse.coordinator.preferred import PreferredTransport, Preferring
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, HanseError, NotFound, Unreachable
from hanse.messages import Message, Record

SMALL, LARGE = Record({}), Record({}, {"w": np.zeros(200_000)})


class Nodes:
    """Nodes that answer with what they are told to, once they may."""

    def __init__(self) -> None:
        self.reply, self.may = SMALL, asyncio.Event()
        self.asked: list[str] = []
        self.may.set()

    def online(self) -> frozenset[str]:
        return frozenset("ab")

    async def changed(self) -> None:
        await asyncio.Event().wait()

    def ends(self, node: str) -> tuple[str, str, int] | None:
        return (f"10.0.0.{ord(node)}", "10.0.0.1", 7443)

    async def request(self, node: str, message: Message, progress: Any = None) -> Message:
        self.asked.append(node)
        await asyncio.sleep(0.01)
        await self.may.wait()
        return Message("reply", message.id, node, self.reply)


class Controller:
    """Says yes, unless it is to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: HanseError | None = None
        self.forgets = 0
        self.news = asyncio.Event()

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        self.news.set()
        if self.error is not None:
            raise self.error

    async def register(self, client: str, server: str, port: int) -> None:
        self._called("register", client, server, port)

    async def prefer(self, client: str, server: str, seconds: float) -> None:
        self._called("prefer", client, server)
        if self.forgets:
            self.forgets -= 1
            raise NotFound("not registered")

    async def release(self, client: str, server: str) -> None:
        self._called("release", client, server)

    async def until(self, *call: Any) -> None:
        while call not in self.calls:
            self.news.clear()
            await self.news.wait()


Body = Callable[[Nodes, Controller, PreferredTransport, list[tuple[str, Mapping[str, Any]]]], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferred, "_LINGER_S", 0.05)


def tried(body: Body) -> None:
    async def whole() -> None:
        nodes, controller, notes = Nodes(), Controller(), list[tuple[str, Mapping[str, Any]]]()
        preferring = Preferring(controller, nodes, lambda kind, detail: notes.append((kind, detail)))  # type: ignore[arg-type]
        transport = PreferredTransport(nodes, preferring)  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(body(nodes, controller, transport, notes), 20)
        finally:
            await preferring.stop()

    asyncio.run(whole())


def task(body: Record, number: int = 1) -> Message:
    return Message("task", f"run/{number}", body=body)


def test_a_large_transfer_is_preferred_until_it_is_over() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        nodes.may.clear()
        asked = asyncio.create_task(transport.request("a", task(LARGE)))
        await controller.until("prefer", "10.0.0.97", "10.0.0.1")
        assert controller.calls[0] == ("register", "10.0.0.97", "10.0.0.1", 7443)
        assert ("release", "10.0.0.97", "10.0.0.1") not in controller.calls
        nodes.may.set()
        assert (await asked).body.nbytes == 0
        await controller.until("release", "10.0.0.97", "10.0.0.1")
        assert notes == []

    tried(body)


def test_small_messages_ask_for_nothing_until_the_answer_was_large() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        await transport.request("a", task(SMALL))
        await asyncio.sleep(0.1)
        assert controller.calls == []
        nodes.reply = LARGE
        await transport.request("a", task(SMALL, 2))
        nodes.may.clear()
        asked = asyncio.create_task(transport.request("a", task(SMALL, 3)))
        await controller.until("prefer", "10.0.0.97", "10.0.0.1")
        nodes.may.set()
        await asked

    tried(body)


def test_rounds_that_follow_each_other_keep_the_preference() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        for number in range(5):
            await asyncio.gather(*(transport.request(n, task(LARGE, number)) for n in "ab"))
        await controller.until("release", "10.0.0.97", "10.0.0.1")
        await controller.until("release", "10.0.0.98", "10.0.0.1")
        assert sum(call[0] == "prefer" for call in controller.calls) == 2
        assert sum(call[0] == "register" for call in controller.calls) == 2

    tried(body)


def test_a_controller_that_fails_is_said_once_and_nothing_waits_for_it() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        controller.error = Unreachable("it does not answer")
        for number in range(3):
            assert (await transport.request("a", task(LARGE, number))).kind == "reply"
            await asyncio.sleep(0.1)
        assert notes == [("network.unavailable", {"reason": "it does not answer"})]
        controller.error = None
        await transport.request("a", task(LARGE, 9))
        await controller.until("prefer", "10.0.0.97", "10.0.0.1")
        await controller.until("release", "10.0.0.97", "10.0.0.1")
        assert notes[1:] == [("network.available", {})]

    tried(body)


def test_a_controller_that_forgot_who_is_registered_is_told_again() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        controller.forgets = 1
        await transport.request("a", task(LARGE))
        await controller.until("release", "10.0.0.97", "10.0.0.1")
        assert [call[0] for call in controller.calls] == ["register", "prefer", "register", "prefer", "release"]
        assert notes == []

    tried(body)


def test_stopped_nothing_stays_preferred() -> None:
    async def body(nodes: Nodes, controller: Controller, transport: PreferredTransport, notes: Any) -> None:
        nodes.may.clear()
        asked = asyncio.create_task(transport.request("a", task(LARGE)))
        await controller.until("prefer", "10.0.0.97", "10.0.0.1")
        asked.cancel()
        await transport._preferring.stop()
        assert controller.calls[-1][0] == "release"

    tried(body)


def test_the_documents_variable_names_the_controller() -> None:
    """F94, F148. A port where nobody listens is an error of the controller's, in words."""
    settings = CoordinatorSettings.read((), {"SDN_CONTROLLER_URL": "http://127.0.0.1:9"})
    assert settings.network is not None
    assert CoordinatorSettings.read((), {}).network is None
    with pytest.raises(Unreachable, match="does not answer"):
        asyncio.run(NetworkController(settings.network).prefer("10.0.0.2", "10.0.0.1", 1))
    wrong = {"ftp://x": "expected https", "http://sdn:8181": "use https", "http://a:b@127.0.0.1": "TOKEN"}
    for url, said in wrong.items():
        with pytest.raises(ConfigError, match=said):
            HttpService(url, "SDN_CONTROLLER_URL", "SDN_CONTROLLER_TOKEN")
