"""Where people's HTTP is served: what every server of this room checks before it listens."""

from __future__ import annotations

from hanse.errors import ConfigError


def split(address: str) -> tuple[str, int]:
    """Host and port. Raises ``ConfigError``.

    >>> split("[::1]:8000"), split("localhost:0")
    (('::1', 8000), ('localhost', 0))
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{address!r} is no address to listen on; expected HOST:PORT, as in 127.0.0.1:8000")
    return host.strip("[]"), int(port)


def check_tls(certificate: str, key: str) -> None:
    """Raises ``ConfigError`` where there is one file and not the other."""
    if bool(certificate) != bool(key):
        raise ConfigError("give both --tls-cert and --tls-key, or neither")
