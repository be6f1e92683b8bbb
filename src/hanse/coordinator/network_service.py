"""The network controller as a process of its own, with the routes that FLOPY-NET documents.

Servers and clients of a federation are registered, and what goes between two of them is preferred for a while:
``POST /fl/prioritize`` says yes only after the network confirmed it. ``GET /fl/stats`` has what is preferred and what
was counted; the topology, the flows and the ports are what the network says at that moment. Nothing is computed that
was not measured, and where no network is there the answer is 503.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import Field

import hanse
from hanse.coordinator.beside import bearer, refusal
from hanse.coordinator.guard import Guard
from hanse.coordinator.priorities import Priorities, Standing
from hanse.coordinator.schemas import Body, read
from hanse.errors import HanseError
from hanse.messages import Json
from hanse.network_driver import Driver, host_address
from hanse.registry import find, settings
from hanse.settings import checked, unknown

_BODY = 64 << 10
Address = Annotated[str, Field(min_length=1, max_length=64)]


class ServerRegistered(Body):
    """A server of a federation; ``server_port`` is where its clients call, 0 or nothing: all that goes to it."""

    server_ip: Address
    server_port: Annotated[int, Field(ge=0, le=65535)] = 0


class ClientRegistered(Body):
    """A client of a federation."""

    client_ip: Address


class Released(Body):
    """What goes between the two is preferred no longer."""

    src_ip: Address
    dst_ip: Address


class Prioritized(Released):
    """What goes between the two, either way, is preferred for ``duration`` seconds."""

    priority: Annotated[int, Field(ge=1, le=1000)] = 200
    duration: Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)] = 600


class NetworkService:
    """Answers for one network.

    Args:
        driver: of the network.
        token: that whoever asks has to show; "" where nobody has to.
        within: the network that registered addresses are of, such as ``192.168.100.0/24``; "" for any.
    """

    def __init__(self, driver: Driver, token: str = "", within: str = "") -> None:
        self._priorities, self._token, self._within = Priorities(driver), token, within

    def app(self) -> FastAPI:
        """Its web application, which answers while :meth:`running`."""
        guarded: dict[str, Any] = {"dependencies": [Depends(bearer(self._token, "the network controller"))]}
        app = FastAPI(
            title="Hanse network controller",
            version=hanse.__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        )
        app.get("/health")(self.health)
        app.post("/fl/register/server", **guarded)(self.register_server)
        app.post("/fl/register/client", **guarded)(self.register_client)
        app.post("/fl/prioritize", **guarded)(self.prioritize)
        app.post("/fl/release", **guarded)(self.release)
        app.get("/fl/stats", **guarded)(self.stats)
        for path, kinds in {
            "/topology": ("switches", "hosts", "ports"),
            "/v1.0/topology/switches": ("switches",),
            "/v1.0/topology/hosts": ("hosts",),
            "/stats/flows": ("flows",),
            "/stats/ports": ("ports",),
        }.items():
            app.get(path, **guarded)(self._look(kinds))
        app.add_exception_handler(HanseError, _refused)
        app.add_middleware(Guard, limit=_BODY)
        return app

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The driver works until the end of the block. Raises ``ConfigError`` where it cannot."""
        await self._priorities.start()
        try:
            yield
        finally:
            await self._priorities.stop()

    async def health(self) -> JSONResponse:
        """Whether the network can prefer something now."""
        why = self._priorities.missing()
        body = {"status": "unhealthy", "reason": why} if why else {"status": "healthy"}
        return JSONResponse(body, 503 if why else 200)

    async def register_server(self, request: Request) -> JSONResponse:
        """A server; said twice, it is there once."""
        asked = await read(request, ServerRegistered)
        address = host_address(asked.server_ip, self._within)
        return _registered(self._priorities.register_server(address, asked.server_port), server_ip=address)

    async def register_client(self, request: Request) -> JSONResponse:
        """A client; said twice, it is there once."""
        asked = await read(request, ClientRegistered)
        address = host_address(asked.client_ip, self._within)
        return _registered(self._priorities.register_client(address), client_ip=address)

    async def prioritize(self, request: Request) -> JSONResponse:
        """From now on what goes between the two is preferred."""
        asked = await read(request, Prioritized)
        source, target = (host_address(a, self._within) for a in (asked.src_ip, asked.dst_ip))
        made = await asyncio.shield(self._priorities.prefer(source, target, asked.priority, asked.duration))
        return JSONResponse({"success": True, **_told(made)}, 201)

    async def release(self, request: Request) -> JSONResponse:
        """Ends it before its time."""
        asked = await read(request, Released)
        source, target = (host_address(a, self._within) for a in (asked.src_ip, asked.dst_ip))
        return JSONResponse({"success": True, "released": await self._priorities.release(source, target)})

    async def stats(self) -> JSONResponse:
        """Who is registered, what is preferred, and what was counted."""
        return JSONResponse(await self._priorities.statistics())

    def _look(self, kinds: tuple[str, ...]) -> Any:
        async def look() -> JSONResponse:
            seen = await self._priorities.seen()
            return JSONResponse({kind: seen[kind] for kind in kinds} if len(kinds) > 1 else seen[kinds[0]])

        return look


def _registered(new: bool, **who: Json) -> JSONResponse:
    return JSONResponse({"success": True, **who, "new": new}, 201 if new else 200)


def _told(made: Standing) -> dict[str, Json]:
    names: dict[str, Json] = {"src_ip": made.pair.client, "dst_ip": made.pair.server, "port": made.pair.port}
    return {**names, "priority": made.priority, "expires_in_s": round(made.left(), 3)}


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HanseError)
    return refusal(error, success=False)


def service(name: str, given: Mapping[str, str], token: str = "", within: str = "") -> NetworkService:
    """With the driver of that name. Raises ``ConfigError``.

    Args:
        given: its settings, as they stand on a command line.
    """
    known = settings("network", name)
    found: dict[str, Json] = {}
    for setting, value in given.items():
        if setting not in known:
            raise unknown(setting, known, of=f"the driver {name}")
        found[setting] = known[setting].read(setting, value)
    return NetworkService(find("network", name).driver(checked(found, known)), token, within)
