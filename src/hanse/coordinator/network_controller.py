"""The network controller of the coordinator's network (``SDN_CONTROLLER_URL``): asked over HTTP, by the routes that
FLOPY-NET documents (:mod:`hanse.coordinator.network_service`)."""

from __future__ import annotations

import asyncio
import contextlib
import http.client

from hanse.coordinator.http_service import HttpService, Returned, SaidNo
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
        except SaidNo as error:
            raise _refusal(error.answer) from None
        except (OSError, http.client.HTTPException, WireError) as error:
            said = error.message if isinstance(error, WireError) else str(error) or type(error).__name__
            raise Unreachable(f"the network controller does not answer ({said[:_SAID]})") from None


def _refusal(answer: Returned) -> HanseError:
    said = f"status {answer.status}"
    with contextlib.suppress(WireError, KeyError, TypeError):
        said = str(loads(answer.raw)["error"]["message"])[:_SAID]
    kind = {404: NotFound, 503: NotNow}.get(answer.status, Unreachable)
    return kind(f"the network controller says no ({said})")
