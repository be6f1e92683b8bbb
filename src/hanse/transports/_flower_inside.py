"""TLS between Flower's programs and what stands before them on the same machine: certificates of an authority that
lives as long as they do, and that nobody else believes."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from hanse.identity import Authority
from hanse.whole_files import write_whole

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Inside:
    """Files in PEM."""

    key: Path
    certificate: Path
    authority: Path


def certificates(home: Path) -> Inside:
    """For a server on this machine, in a private directory."""
    authority = Authority.open(home / "authority")
    key, certificate = authority.issue_server([LOOPBACK, "localhost"])
    found = Inside(home / "inside.key", home / "inside.crt", home / "inside-authority.crt")
    for path, content in zip(
        (found.key, found.certificate, found.authority), (key, certificate, authority.pem), strict=True
    ):
        write_whole(path, content, 0o600)
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
