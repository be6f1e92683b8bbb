"""Whom a client believes that speaks HTTP or HTTPS."""

from __future__ import annotations

import ssl
from pathlib import Path


def trusted(url: str, *, authority: str | Path | None = None, besides: str | Path | None = None) -> ssl.SSLContext:
    """What a client of ``url`` checks certificates with.

    Over plain HTTP there is none to check: the context believes nobody, and takes a hundredth of the 20 ms in which all
    is read that this machine trusts.

    Args:
        url: ``http://...`` or ``https://...``.
        authority: file (PEM) of the one authority that counts; None: those that this machine trusts.
        besides: file (PEM) of an authority that counts, too.

    Raises:
        OSError: a file cannot be read; ``ssl.SSLError`` (an ``OSError``, too) where it holds no certificate.

    >>> trusted("http://127.0.0.1:8000").get_ca_certs(), trusted("http://127.0.0.1:8000").verify_mode.name
    ([], 'CERT_REQUIRED')
    """
    if url.lower().startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context(cafile=authority)
    if besides is not None:
        context.load_verify_locations(besides)
    return context
