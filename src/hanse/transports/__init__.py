"""How messages travel between the coordinator and the nodes. The folder is the registry: an address names its file,
``grpc://coordinator.example:8080`` is carried by ``grpc.py``.

A transport is one file with

- ``PATIENCE``: how long silence means nothing on this way (:class:`Patience`);
- ``listener(address, hub)``: the coordinator's end, a :class:`Listener` that is not started yet;
- ``line(address, caller)``: the node's end, a :class:`Line` that is not started yet;
- where nodes can also join on this way, ``enrol(address, asked, ca_sha256, say)``: see :func:`enrol`.

Both get the whole address and raise ``ConfigError`` where it is none of theirs. Only :mod:`hanse.transports.local` has
no address: it carries the simulation inside one process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hanse.addresses import full, scheme_of
from hanse.errors import ConfigError

if TYPE_CHECKING:
    from hanse.identity import NodeIdentity, ServerIdentity
    from hanse.messages import Allocate, Message
    from hanse.pace import Pace
    from hanse.transport import Handler, Progress

REQUEST_HEADER = 4 << 20  # bytes of a request to a coordinator: reading JSON holds up all that the process does


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a way may take.

    Args:
        heartbeat_s: seconds between the signs of life of a node; one that misses ``missed`` is stale, and offline after
            ``gone``.
        relay_s: how long a node may take to take note of a short message.
        run: settings of a run that says nothing of them, such as how long it waits for a node.
    """

    heartbeat_s: float = 10.0
    missed: int = 3
    gone: int = 30
    relay_s: float = 10.0
    run: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hub:
    """What a coordinator lends to the end that it listens with.

    Args:
        handler: answers requests of nodes, with the authenticated node id.
        accept: called (node id, SHA-256 of its certificate, "" where there is none); raises to turn the node away.
        refused: told (node, what, detail) of everything that was not accepted.
        identity: makes the coordinator's key and certificate for the host names by which nodes reach it.
        spool: a folder for payloads that are too large for memory.
        enrol: what a node asks that wants to join (``token``, ``node_id``, ``csr``), and what it is answered.
        names: host names and addresses by which others reach this machine, the public one first; may be empty.
        beat_s: seconds between two heartbeats of a node, now: the more nodes, the longer. Silence below is no news.
        moves: called with a node when a payload of over 2 MB begins to move to or from it, where the way has a
            connection of its own to each; what it returns is called once when that one moves no more.
    """

    handler: Handler
    accept: Callable[[str, str], Any]
    refused: Callable[[str, str, str], None]
    identity: ServerIdentity
    spool: Path
    names: tuple[str, ...] = ()
    enrol: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]] | None = None
    beat_s: Callable[[], float] = lambda: Patience().heartbeat_s
    moves: Callable[[str], Callable[[], None]] = lambda node: lambda: None


@dataclass(frozen=True, slots=True)
class Caller:
    """What a node lends to the end that it calls with.

    Args:
        node: its id. ``identity`` is read anew at every attempt, so that a renewed certificate is used at once.
        handler: answers the coordinator's requests.
        allocate: where payloads that come in land.
        report: told (what, detail): ``connected``, ``disconnected``, ``turned away`` or ``not possible``.
        refused: told (peer, what, detail) of everything that was not accepted.
        limit: largest payload in bytes.
        beat_s: seconds between two heartbeats of this node, now, as its coordinator asks.
        pace: when large payloads may leave; None: at once.
        spool: a folder for what is half in when this process ends; None: it begins anew.
    """

    node: str
    identity: Callable[[], NodeIdentity]
    handler: Handler
    allocate: Allocate
    report: Callable[[str, str], None]
    refused: Callable[[str, str, str], None]
    limit: int
    beat_s: Callable[[], float] = lambda: Patience().heartbeat_s
    pace: Pace | None = None
    spool: Path | None = None


class Listener(Protocol):
    """The coordinator's end: a :class:`hanse.transport.Transport` that begins and ends."""

    def online(self) -> frozenset[str]:
        """Ids of the nodes that can be asked now."""
        ...

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """See :meth:`hanse.transport.Transport.request`."""
        ...

    async def changed(self) -> None:
        """Returns when ``online()`` next changes."""
        ...

    async def start(self) -> str:
        """Listens; the address by which nodes reach it. Raises ``ConfigError`` where it cannot."""
        ...

    async def answers(self) -> bool:
        """Whether nodes can call now: looked at from outside, as a node would."""
        ...

    def disconnect(self, node: str, reason: str) -> None:
        """Ends the node's connection and what it was asked (``NodeLost``)."""
        ...

    async def stop(self) -> None:
        """Ends all connections; pending requests raise ``NodeLost``."""
        ...


class Line(Protocol):
    """The node's end. It calls again, more and more slowly, until it is closed."""

    def start(self) -> None:
        """Begins to call the coordinator; returns at once."""
        ...

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        """The coordinator's reply to ``message``. Raises its error, or ``NodeLost`` where it is not there."""
        ...

    async def close(self) -> None:
        """Hangs up and calls no more."""
        ...


def listener(address: str, hub: Hub) -> Listener:
    """The coordinator's end at this address; to be started. Raises ``ConfigError`` for an address of no transport."""
    made: Listener = _file(address).listener(full(address), hub)
    return made


def line(address: str, caller: Caller) -> Line:
    """The node's end towards this address; to be started. Raises ``ConfigError`` for an address of no transport."""
    made: Line = _file(address).line(full(address), caller)
    return made


def patience(address: str) -> Patience:
    """How long silence means nothing on the way to this address."""
    found: Patience = _file(address).PATIENCE
    return found


def enrol(address: str, asked: Mapping[str, str], ca_sha256: str, say: Callable[[str], None]) -> dict[str, Any]:
    """What the coordinator at this address answers to a node that wants to join with a token. Blocks.

    Args:
        asked: ``token`` (its secret), ``node_id``, ``csr`` (PEM).
        ca_sha256: of the authority that the token pins; nobody else is told the secret.
        say: told what it waits for.

    Raises ``NotAuthenticated`` where the coordinator is not the one of the token, or does not know the token.
    """
    found: dict[str, Any] = _file(address).enrol(full(address), asked, ca_sha256, say)
    return found


def enrols(address: str) -> bool:
    """Whether nodes can join on the way to this address; else they do over HTTPS, at the address in the join token."""
    return hasattr(_file(address), "enrol")


def _file(address: str) -> Any:
    from hanse.registry import find, names

    scheme = scheme_of(address)
    able = [name for name in names("transports") if hasattr(find("transports", name), "listener")]
    if scheme not in able:
        raise ConfigError(f"no transport carries {address[:200]!r}; there are {', '.join(f'{n}://' for n in able)}")
    return find("transports", scheme)
