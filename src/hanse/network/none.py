"""No network that could be asked: nothing is preferred, and whoever asks for it is told so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hanse.errors import NotNow
from hanse.messages import Json
from hanse.network_driver import Driver, Pair, Preference
from hanse.settings import Setting

SETTINGS: Mapping[str, Setting] = {}
_WHY = "this controller was started without a driver, so it prefers nothing; start it with --driver"


class _None:
    async def start(self, back: Callable[[], None]) -> None:
        pass

    def missing(self) -> str:
        return _WHY

    async def apply(self, wanted: Sequence[Preference]) -> Mapping[Pair, str]:
        raise NotNow(_WHY)

    async def seen(self) -> Mapping[str, Json]:
        raise NotNow(_WHY)

    async def stop(self) -> None:
        pass


def driver(settings: Mapping[str, Json]) -> Driver:
    return _None()
