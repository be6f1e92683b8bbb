"""Where nodes call: text such as ``grpc://coordinator.example:8080``, whose scheme names the transport that carries it.

What an address means is known to the file of its transport alone (:mod:`hanse.transports`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanse.errors import ConfigError

LISTEN = "grpc://127.0.0.1:8080"  # where a coordinator listens unless it is told otherwise
_FIRST = "grpc"  # 0.1 knew no other, and wrote HOST:PORT under this name
_ADDRESS = re.compile(r"([a-z][a-z0-9_]*)(\+[a-z]+)?://.{1,1000}", re.ASCII)


def full(address: str) -> str:
    """The address with its scheme. ``HOST:PORT``, which 0.1 wrote, is one of the transport that there was.

    >>> full("coordinator.example:8080")
    'grpc://coordinator.example:8080'
    >>> full("coordinator.example")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: 'coordinator.example' is no address; expected SCHEME://..., as in grpc://127.0.0.1:8080
    """
    if _ADDRESS.fullmatch(address):
        return address
    host, colon, port = address.rpartition(":")
    if "://" in address or not (host and colon and port.isdigit()):
        raise ConfigError(f"{address[:200]!r} is no address; expected SCHEME://..., as in {LISTEN}")
    return f"{_FIRST}://{address}"


def told(record: Mapping[str, Any]) -> str:
    """The address in what was written to disk or said; "" where there is none. It stands under ``address``, and in what
    0.1 wrote under the name of its only transport.

    >>> told({"grpc": "localhost:7443"}), told({"address": "grpc://localhost:7443"}), told({})
    ('grpc://localhost:7443', 'grpc://localhost:7443', '')
    """
    found = record.get("address", record.get(_FIRST, ""))
    if not isinstance(found, str):
        raise ConfigError(f"an address is text, not {type(found).__name__}")
    return full(found) if found else ""


def renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with its address as :func:`told` reads it, and nothing of the older name."""
    if _FIRST not in record and "address" not in record:
        return dict(record)
    return {**{k: v for k, v in record.items() if k != _FIRST}, "address": told(record)}


def is_loopback(host: str) -> bool:
    """Whether a host, or an address of IP, is this machine itself, so that nobody else is on the way.

    >>> [is_loopback(host) for host in ("localhost", "127.8.0.1", "::1", "localhost.example", "10.0.0.1", "")]
    [True, True, True, False, False, False]
    """
    import ipaddress  # not needed to start

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def scheme_of(address: str) -> str:
    """The name of the transport: what stands before ``://``, without what follows a ``+``.

    >>> scheme_of("grpc+plain://localhost:8080")
    'grpc'
    """
    found = _ADDRESS.fullmatch(full(address))
    return found[1] if found else ""
