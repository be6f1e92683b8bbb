"""The network controller of the coordinator's network (``SDN_CONTROLLER_URL``): asked over HTTP, by the routes that
FLOPY-NET documents (:mod:`hanse.coordinator.network_service`)."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error

from hanse.coordinator.http_service import HttpService
from hanse.errors import HanseError, NotFound, NotNow, Unreachable, WireError
from hanse.messages import Json, loads

_SAID = 300  # characters of a reason


class NetworkController:
    """What it is asked. Each raises ``Unreachable`` or ``NotNow`` where it cannot, ``NotFound`` where it does not know
    one of the hosts."""

    def __init__(self, service: HttpService) -> None:
        self._service = service

    async def register(self, client: str, server: str, port: int) -> None:
        """Both hosts; again is as good as once."""
        await self._post("/fl/register/server", {"server_ip": server, "server_port": port})
        await self._post("/fl/register/client", {"client_ip": client})

    async def prefer(self, client: str, server: str, seconds: float) -> None:
        """What goes between the two goes before other traffic, for so long."""
        await self._post("/fl/prioritize", {"src_ip": client, "dst_ip": server, "duration": seconds})

    async def release(self, client: str, server: str) -> None:
        """That ends now."""
        await self._post("/fl/release", {"src_ip": client, "dst_ip": server})

    async def _post(self, path: str, body: dict[str, Json]) -> None:
        try:
            await asyncio.to_thread(self._service.call, "POST", path, body)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, http.client.HTTPException, WireError) as error:
            said = error.message if isinstance(error, WireError) else str(error) or type(error).__name__
            raise Unreachable(f"the network controller does not answer ({said[:_SAID]})") from None


def _refusal(error: urllib.error.HTTPError) -> HanseError:
    said = f"status {error.code}"
    try:
        told = loads(error.read(1 << 16))
        said = str(told["error"]["message"])[:_SAID]
    except (OSError, WireError, KeyError, TypeError):
        pass
    kind = {404: NotFound, 503: NotNow}.get(error.code, Unreachable)
    return kind(f"the network controller says no ({said})")
