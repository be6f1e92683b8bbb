"""Large transfers are preferred while they last, and a run never waits for that or fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from hanse.coordinator import preferred
from hanse.coordinator.http_service import HttpService
from hanse.coordinator.network_controller import NetworkController
from hanse.coordinator.preferred import Preferring
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, HanseError, NotFound, Unreachable
from tests.clock import jumping
from tests.waiting import PATIENCE


def ends(node: str) -> tuple[str, str, int] | None:
    """Of nodes ``a`` and ``b``; ``a1`` and ``a2`` are at one address, ``z`` has none."""
    return None if node == "z" else (f"10.0.0.{ord(node[0])}", "10.0.0.1", 7443)


class Controller:
    """Says yes, unless it is to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: HanseError | None = None
        self.forgets, self.unknown = 0, ""
        self.slow: asyncio.Event | None = None  # until which a release takes
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
        if client == self.unknown:
            raise NotFound(f"no host has {client}")
        if self.forgets:
            self.forgets -= 1
            raise NotFound("not registered")

    async def release(self, client: str, server: str) -> None:
        self._called("release", client, server)
        if self.slow is not None:
            await self.slow.wait()

    async def until(self, *call: Any) -> None:
        while call not in self.calls:
            self.news.clear()
            await self.news.wait()


Notes = list[tuple[str, Mapping[str, Any]]]
Body = Callable[[Preferring, Controller, Notes], Awaitable[None]]
A, B = ("10.0.0.97", "10.0.0.1"), ("10.0.0.98", "10.0.0.1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferred, "_LINGER_S", 0.05)


def tried(body: Body) -> None:
    async def whole() -> None:
        controller, notes = Controller(), Notes()
        preferring = Preferring(controller, ends, lambda kind, detail: notes.append((kind, detail)))  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(body(preferring, controller, notes), PATIENCE)
        finally:
            await preferring.stop()

    jumping(whole())


def test_a_large_transfer_is_preferred_until_it_is_over() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        over = preferring.moves("a")
        await controller.until("prefer", *A)
        assert controller.calls[0] == ("register", *A, 7443)
        assert ("release", *A) not in controller.calls
        over()
        await controller.until("release", *A)
        assert notes == []

    tried(body)


def test_a_node_without_an_address_is_asked_nothing_for() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        preferring.moves("z")()
        await asyncio.sleep(0.1)
        assert controller.calls == []

    tried(body)


def test_transfers_that_follow_each_other_keep_the_preference() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        for _ in range(5):
            overs = [preferring.moves(node) for node in "abab"]
            await asyncio.sleep(0.01)
            for over in overs:
                over()
        await controller.until("release", *A)
        await controller.until("release", *B)
        assert sum(call[0] == "prefer" for call in controller.calls) == 2
        assert sum(call[0] == "register" for call in controller.calls) == 2

    tried(body)


def test_nodes_at_one_address_keep_each_others_preference() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        one, two = preferring.moves("a1"), preferring.moves("a2")
        await controller.until("prefer", *A)
        one()
        await asyncio.sleep(0.2)
        assert ("release", *A) not in controller.calls
        two()
        await controller.until("release", *A)
        assert [call[0] for call in controller.calls] == ["register", "prefer", "release"]

    tried(body)


def test_what_begins_while_a_preference_is_released_is_preferred_after_it() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        controller.slow = asyncio.Event()
        preferring.moves("a")()
        await controller.until("release", *A)
        over = preferring.moves("a")
        controller.slow.set()
        while controller.calls[-1] != ("prefer", *A):
            await asyncio.sleep(0.01)
        assert [call[0] for call in controller.calls] == ["register", "prefer", "release", "prefer"]
        over()

    tried(body)


def test_a_controller_that_fails_is_said_once_and_nothing_waits_for_it() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        controller.error = Unreachable("it does not answer")
        for _ in range(3):
            for over in [preferring.moves("a"), preferring.moves("b")]:
                over()
            await asyncio.sleep(0.15)
        assert notes == [("network.unavailable", {"reason": "it does not answer"})]
        controller.error = None
        over = preferring.moves("a")
        await controller.until("prefer", *A)
        over()
        await asyncio.sleep(0.15)
        assert notes[1:] == []  # not for all yet
        preferring.moves("b")()
        while not notes[1:]:
            await asyncio.sleep(0.01)
        assert notes[1:] == [("network.available", {})]

    tried(body)


def test_one_node_that_cannot_be_preferred_is_said_once_while_the_others_are() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        controller.unknown = A[0]
        for _ in range(4):
            for over in [preferring.moves("a"), preferring.moves("b")]:
                over()
            await asyncio.sleep(0.15)
        assert notes == [("network.unavailable", {"reason": "no host has 10.0.0.97"})]

    tried(body)


def test_a_controller_that_forgot_who_is_registered_is_told_again() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        controller.forgets = 1
        preferring.moves("a")()
        await controller.until("release", *A)
        assert [call[0] for call in controller.calls] == ["register", "prefer", "register", "prefer", "release"]
        assert notes == []

    tried(body)


def test_stopped_nothing_stays_preferred() -> None:
    async def body(preferring: Preferring, controller: Controller, notes: Notes) -> None:
        preferring.moves("a")
        await controller.until("prefer", *A)
        await preferring.stop()
        assert controller.calls[-1] == ("release", *A)

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
