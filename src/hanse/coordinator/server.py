"""A coordinator as a process: one folder, one event loop, an HTTP port, and an address where nodes call."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from hanse import large_arrays, transports
from hanse.addresses import LISTEN, is_loopback, told
from hanse.coordinator.app import create_app
from hanse.coordinator.beside import OneEvent
from hanse.coordinator.health import Examiner
from hanse.coordinator.listening import check_tls, split
from hanse.coordinator.patience import protocol, raise_limit
from hanse.coordinator.service import Coordinator
from hanse.coordinator.settings import CoordinatorSettings
from hanse.coordinator.state_mirror import FILE, StateMirror, take_up
from hanse.errors import ConfigError, Conflict, HanseError, StorageFailed
from hanse.home import check, hold
from hanse.identity import Authority
from hanse.served_certificate import ServedCertificate, from_files
from hanse.store import Store
from hanse.store.claim import DatabaseAway
from hanse.store.faults import passing
from hanse.supervisor import notify, watch
from hanse.whole_files import write_whole

ADDRESS_FILE = "coordinator.json"
TOKEN_FILE = "operator.token"
_CLAIM_S = 5.0
_HERE = ("localhost", "127.0.0.1", "::1")  # whoever listens elsewhere too is called so on this machine
_EVERYWHERE = ("0.0.0.0", "[::]")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """How a coordinator is started.

    Args:
        home: database, blobs, audit, keys.
        http: ``host:port`` to serve people on; port 0 picks one.
        listen: the address for nodes (:mod:`hanse.transports`).
        database: URL; "" is SQLite in ``home``.
        host_names: names and addresses by which others reach it; they stand in its certificate, and the
            first in join tokens.
        tls_cert, tls_key: files for HTTPS; without, a certificate of the own authority.
        plain_http: no TLS for HTTP (loopback only).
    """

    home: Path
    http: str = "127.0.0.1:8000"
    listen: str = LISTEN
    database: str = ""
    host_names: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    plain_http: bool = False
    settings: CoordinatorSettings = field(default_factory=CoordinatorSettings)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it can be reached. ``token``: the operator's, at the first start only."""

    url: str
    address: str
    authority: str
    token: str | None


def open_store(home: Path, database: str = "", alone: bool = False) -> Store:
    """``alone``: for the coordinator itself, see :class:`hanse.store.database.Database`."""
    check(home, "coordinator")
    return Store(database or None, home, alone=alone)


def first_operator(store: Store, home: Path) -> str | None:
    """Makes the operator's account if there is none; its token, also kept in a file that only the
    owner of the process can read."""
    if store.accounts.list("operator"):
        return None
    _, token = store.accounts.create_account("operator", "operator")
    fd = os.open(home / TOKEN_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(token + "\n")
    return token


async def serve(how: Start, ready: Callable[[Listening], None] = lambda where: None) -> None:
    """Runs until SIGTERM or SIGINT. Raises ``ConfigError`` where it cannot listen as asked."""
    host, port = split(how.http)
    if how.plain_http and not is_loopback(host):
        raise ConfigError(f"plain HTTP would send tokens readable through the network; {host} is not loopback: use TLS")
    check_tls(how.tls_cert, how.tls_key)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        held = hold(how.home, "coordinator")
        try:
            await _serve(how, ready, stop)
        finally:
            os.close(held)
    except Exception as error:
        fault = passing(error)
        if not fault or isinstance(error, HanseError):
            raise
        raise StorageFailed(
            f"the coordinator's home {how.home} cannot be used: {fault}; make room, then start again"
        ) from None


async def _serve(how: Start, ready: Callable[[Listening], None], stop: asyncio.Event) -> None:
    host, port = split(how.http)
    store = open_store(how.home, how.database, alone=True)
    watching = asyncio.ensure_future(_still_alone(store, stop))
    try:
        if found := take_up(store, how.home):
            _log.warning("the database was empty: %d entries of %s were taken up", len(found.added), FILE)
        token = first_operator(store, how.home)
        authority = Authority.open(how.home / "authority")
        names = tuple(
            dict.fromkeys((*how.host_names, *(() if _is_any(host) else (host,)), *_HERE, socket.gethostname()))
        )

        def sign() -> None:
            key, certificate = authority.issue_server(names)
            for path, content in zip(_https_files(how), (certificate + authority.pem, key), strict=True):
                _private(Path(path), content)

        if not how.plain_http and not how.tls_cert:
            sign()
        listener = _listen(host, port)
        reached = how.host_names[0] if how.host_names else "localhost" if _is_any(host) else host
        url = f"{'http' if how.plain_http else 'https'}://{_bracket(reached)}:{listener.getsockname()[1]}"
        spool = _spool(how.home)
        large_arrays.spill(spool)
        coordinator = Coordinator(store, replace(how.settings, url=url), authority)
        hub = transports.Hub(
            handler=coordinator.handle,
            accept=coordinator.accept,
            refused=coordinator.refused,
            identity=lambda hosts: (*authority.issue_server((*hosts, *names)), authority.pem),
            spool=spool,
            names=how.host_names,
            enrol=lambda asked: coordinator.enrol(asked, how.listen),
            beat_s=lambda: coordinator.presence.heartbeat_s,
            moves=coordinator.moves,
        )
        transport = transports.listener(how.listen, hub)
        coordinator.attach(transport)
        mirror = StateMirror(store, how.home)
        await coordinator.start()
        mirror.start()
        try:
            address = await transport.start()
            coordinator.settings = replace(coordinator.settings, address=address)
            examiner = Examiner(coordinator, transport.answers)
            server = _Server(_config(how, coordinator, examiner))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            await _started(server, serving)
            if not how.host_names and (_is_any(host) or any(every in how.listen for every in _EVERYWHERE)):
                _log.warning("join tokens name %s, which others cannot reach: give --host-name NAME", address)
            where = Listening(url, address, authority.fingerprint(), token)
            _remember(how.home, where)
            ready(where)
            notify("READY=1", f"STATUS=page and REST {url}, nodes {address}")
            alive = asyncio.ensure_future(watch(lambda: _wrong(examiner)))
            kept = _keep_certificate(how, server, sign)
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
            notify("STOPPING=1")
            waiting.cancel()
            alive.cancel()
            if kept is not None:
                kept.cancel()
            coordinator.chronicle.close_streams()
            server.should_exit = True
            await serving
            if watching.done():
                watching.result()
        finally:
            await coordinator.stop()
            await transport.stop()
            await mirror.stop()
    finally:
        large_arrays.spill(None)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        store.close()


async def _still_alone(store: Store, stop: asyncio.Event) -> None:
    """A server of PostgreSQL that was started anew has forgotten whose the database is. Raises ``Conflict``, and stops
    the coordinator, where another one was faster to say so."""
    claim = store.database.claim
    while claim is not None:
        await asyncio.sleep(_CLAIM_S)
        try:
            if not await asyncio.to_thread(claim.held):
                stop.set()
                raise Conflict("another coordinator took over this database; this one stops")
        except DatabaseAway:
            continue  # nobody can take it now


async def _wrong(examiner: Examiner) -> str:
    """What a restart would help against."""
    found = await examiner.health()
    return "" if found.alive else found.wrong()


class _Server(OneEvent):
    """One event stops all that runs here."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        self.up.set()

    up: asyncio.Event


async def _started(server: _Server, serving: asyncio.Task[None]) -> None:
    server.up = asyncio.Event()
    up = asyncio.ensure_future(server.up.wait())
    await asyncio.wait({up, serving}, return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    if serving.done():
        await serving
        raise ConfigError("the HTTP server did not start; the log says why")


def _config(how: Start, coordinator: Coordinator, examiner: Examiner) -> Any:
    tls: dict[str, Any] = {}
    if how.tls_cert or not how.plain_http:
        tls["ssl_certfile"], tls["ssl_keyfile"] = _https_files(how)
    return uvicorn.Config(
        create_app(coordinator, examiner),
        http=protocol(raise_limit()),
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        proxy_headers=False,
        **tls,
    )


def _keep_certificate(how: Start, server: uvicorn.Server, sign: Callable[[], None]) -> asyncio.Task[None] | None:
    """For HTTPS: the operator's files are read again, as somebody else renews them; the own authority signs again."""
    context, files = server.config.ssl, _https_files(how)
    if context is None:
        return None
    read = from_files(context, *files)

    def load() -> bytes:
        if not how.tls_cert:
            sign()
        return read()

    served = ServedCertificate("the certificate of the page and REST", load, always=bool(how.tls_cert))
    return asyncio.create_task(served.keep())


def _https_files(how: Start) -> tuple[str, str]:
    """Certificate and key."""
    return (how.tls_cert, how.tls_key) if how.tls_cert else (str(how.home / "https.crt"), str(how.home / "https.key"))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); is another coordinator running?"
        ) from None
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _private(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _spool(home: Path) -> Path:
    folder = home / "spool"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _remember(home: Path, where: Listening) -> None:
    """For the other commands on this machine: where it listens (no secrets)."""
    text = json.dumps({"url": where.url, "address": where.address, "authority": where.authority, "pid": os.getpid()})
    write_whole(home / ADDRESS_FILE, text + "\n", 0o644)


def addresses(home: Path) -> dict[str, str]:
    """Where the coordinator of ``home`` listened last; {} before its first start."""
    try:
        found = json.loads((home / ADDRESS_FILE).read_text())
        return {"url": str(found["url"]), "address": told(found)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::", "")


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


logging.getLogger("hanse").addHandler(logging.NullHandler())
