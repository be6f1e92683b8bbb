"""A server's certificate while the server runs: who connects is shown one that counts, without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509

from hanse import validity
from hanse.errors import HanseError

_log = logging.getLogger(__name__)
_LOOK_S = 3600.0
_WARN_S = 86_400.0
_RENEW = datetime.timedelta(days=validity.WARN_DAYS + 10)


class ServedCertificate:
    """What one port shows.

    Args:
        what: whose, for people ("the certificate of the page").
        load: puts a chain into the context of the port, and returns its first certificate (PEM). New connections are
            shown it; those that are there stay.
        always: whether every look loads again: files that somebody else renews. Else only 40 days before the end.
    """

    def __init__(self, what: str, load: Callable[[], bytes], always: bool = False) -> None:
        self._what, self._load, self._always = what, load, always
        self.ends = _ends(load())
        self._warned = float("-inf")

    def look(self) -> None:
        """Loads what is due; a warning where it cannot, or where what it got ends soon. The older one stays."""
        if self._always or self.ends - validity.now() < _RENEW:
            try:
                self.ends = _ends(self._load())
            except (HanseError, OSError, ValueError) as error:  # ssl.SSLError is an OSError
                self._warn(f"{self._what} could not be loaded anew: {error}")
        if said := validity.ending(self._what, self.ends, "renew it; it is read again every hour"):
            self._warn(said)

    async def keep(self) -> None:
        """Looks every hour, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(self.look)

    def _warn(self, said: str) -> None:
        now = validity.now().timestamp()
        if now - self._warned >= _WARN_S:
            self._warned = now
            _log.warning("%s", said)


def from_files(context: ssl.SSLContext, certificate: str, key: str) -> Callable[[], bytes]:
    """How :class:`ServedCertificate` loads a chain and its key that lie in files."""

    def load() -> bytes:
        chain = Path(certificate).read_bytes()
        load_chain(context, Path(key).read_bytes(), chain)
        return chain

    return load


def load_chain(context: ssl.SSLContext, key_pem: bytes, cert_pem: bytes) -> None:
    """Shows this certificate from the next connection on. Raises ``ssl.SSLError`` where the two do not belong together
    (the one was renewed a moment before the other); what was shown before is then shown still.

    A context that fails at this has no key any more, and nobody could connect: so another one tries first.
    """
    with _file(cert_pem + b"\n" + key_pem) as path:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        context.load_cert_chain(path)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file of ours alone, for a library that reads keys from nothing else; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("hanse", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:  # for its owner's eyes
        file.write(content)
        file.flush()
        yield file.name


def _ends(pem: bytes) -> datetime.datetime:
    return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
