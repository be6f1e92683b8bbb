"""A server's certificate while the server runs: who connects is shown one that counts, without a restart."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from collections.abc import Callable
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
        context.load_cert_chain(certificate, key)
        return Path(certificate).read_bytes()

    return load


def _ends(pem: bytes) -> datetime.datetime:
    return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
