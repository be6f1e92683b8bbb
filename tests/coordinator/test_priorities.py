"""What is wanted of a network is kept, ends by itself and is said again to a network that forgot it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from hanse.coordinator import priorities
from hanse.coordinator.priorities import Priorities
from hanse.errors import ConfigError, Conflict, NotFound, NotNow, TooMany
from hanse.messages import Json
from hanse.network_driver import Pair, Preference
from tests.waiting import PATIENCE


class Network:
    """A driver that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[list[Pair]] = []
        self.away = ""
        self.unknown: set[str] = set()
        self.fails = 0
        self.news = asyncio.Event()

    async def start(self, back: Callable[[], None]) -> None:
        self.back = back

    def missing(self) -> str:
        return self.away

    async def apply(self, wanted: Sequence[Preference]) -> Mapping[Pair, str]:
        if self.fails:
            self.fails -= 1
            raise NotNow("no barrier came back")
        self.told.append([one.pair for one in wanted])
        self.news.set()
        return {one.pair: "nobody answers there" for one in wanted if one.pair.client in self.unknown}

    async def seen(self) -> Mapping[str, Json]:
        flows = [{"client": pair.client, "server": pair.server, "bytes": 1} for pair in (self.told or [[]])[-1]]
        return {"switches": [], "hosts": [], "ports": [], "flows": flows}

    async def stop(self) -> None:
        self.away = "stopped"


def tried(body: Callable[[Priorities, Network], Awaitable[None]]) -> None:
    async def whole() -> None:
        network = Network()
        it = Priorities(network)
        await it.start()
        it.register_server("10.0.0.1", 7443)
        it.register_client("10.0.0.2")
        it.register_client("10.0.0.3")
        try:
            await asyncio.wait_for(body(it, network), PATIENCE)
        finally:
            await it.stop()

    asyncio.run(whole())


def test_a_preference_is_told_once_confirmed_and_released() -> None:
    async def body(it: Priorities, network: Network) -> None:
        standing = await it.prefer("10.0.0.2", "10.0.0.1", 200, 600)
        assert standing.pair == Pair("10.0.0.2", "10.0.0.1", 7443)
        assert 599 < standing.left() <= 600
        await it.prefer("10.0.0.1", "10.0.0.3", 300, 600)  # whoever names the server first means the same
        assert network.told[-1] == [Pair("10.0.0.2", "10.0.0.1", 7443), Pair("10.0.0.3", "10.0.0.1", 7443)]
        assert await it.release("10.0.0.2", "10.0.0.1")
        assert network.told[-1] == [Pair("10.0.0.3", "10.0.0.1", 7443)]
        assert not await it.release("10.0.0.2", "10.0.0.1")
        told = await it.statistics()
        assert [p["src_ip"] for p in told["priorities"]] == ["10.0.0.3"]
        assert told["priorities"][0]["flows"][0]["bytes"] == 1

    tried(body)


def test_it_ends_by_itself_and_what_was_said_again_does_not() -> None:
    async def body(it: Priorities, network: Network) -> None:
        await it.prefer("10.0.0.2", "10.0.0.1", 200, 0.05)
        await it.prefer("10.0.0.3", "10.0.0.1", 200, 0.05)
        await it.prefer("10.0.0.3", "10.0.0.1", 200, 600)
        while network.told[-1] != [Pair("10.0.0.3", "10.0.0.1", 7443)]:
            network.news.clear()
            await network.news.wait()
        assert [p["src_ip"] for p in (await it.statistics())["priorities"]] == ["10.0.0.3"]

    tried(body)


def test_a_network_that_is_away_prefers_nothing_and_is_told_when_it_is_back() -> None:
    async def body(it: Priorities, network: Network) -> None:
        await it.prefer("10.0.0.2", "10.0.0.1", 200, 600)
        network.away = "no switch is connected"
        with pytest.raises(NotNow, match="no switch is connected"):
            await it.prefer("10.0.0.3", "10.0.0.1", 200, 600)
        assert len(network.told) == 1
        assert (await it.statistics())["connected"] is False
        network.away = ""
        network.news.clear()
        network.back()
        await network.news.wait()
        assert network.told[-1] == [Pair("10.0.0.2", "10.0.0.1", 7443)]  # and not the one that was refused

    tried(body)


def test_what_the_network_does_not_confirm_is_refused_and_what_was_there_stays() -> None:
    async def body(it: Priorities, network: Network) -> None:
        await it.prefer("10.0.0.2", "10.0.0.1", 200, 600)
        network.fails = 1
        with pytest.raises(NotNow, match="no barrier"):
            await it.prefer("10.0.0.2", "10.0.0.1", 900, 600)
        network.unknown = {"10.0.0.3"}
        with pytest.raises(NotFound, match="nobody answers there"):
            await it.prefer("10.0.0.3", "10.0.0.1", 200, 600)
        assert [(p["src_ip"], p["priority"]) for p in (await it.statistics())["priorities"]] == [("10.0.0.2", 200)]

    tried(body)


def test_who_is_not_registered_is_not_preferred() -> None:
    async def body(it: Priorities, network: Network) -> None:
        for source, target in (("10.0.0.9", "10.0.0.1"), ("10.0.0.2", "10.0.0.9")):
            with pytest.raises(NotFound, match=r"10\.0\.0\.9 is not registered"):
                await it.prefer(source, target, 200, 600)
        with pytest.raises(ConfigError, match="of one kind"):
            await it.prefer("10.0.0.2", "10.0.0.3", 200, 600)
        assert network.told == []

    tried(body)


def test_registered_twice_is_registered_once_and_as_both_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(it: Priorities, network: Network) -> None:
        assert it.register_client("10.0.0.4")
        assert not it.register_client("10.0.0.4")
        assert not it.register_server("10.0.0.1", 7443)
        with pytest.raises(Conflict, match="as a server"):
            it.register_client("10.0.0.1")
        with pytest.raises(Conflict, match="as a client"):
            it.register_server("10.0.0.2")
        monkeypatch.setattr(priorities, "MOST_HOSTS", 4)
        with pytest.raises(TooMany):
            it.register_client("10.0.0.5")
        assert not it.register_client("10.0.0.4")

    tried(body)
