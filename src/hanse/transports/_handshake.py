"""Why a TLS handshake with the coordinator fails, in a sentence: the library says no more than that it did."""

from __future__ import annotations

import socket
import ssl

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hanse import validity
from hanse.identity import NodeIdentity
from hanse.transports._grpc_channel import host_of

_SECONDS = 5.0


def unfit(address: str, identity: NodeIdentity) -> str:
    """What does not fit between the certificate of whoever listens at ``address`` (``host:port``), this machine's clock
    and the node's own certificate; "" where nobody answers. Nothing is believed of what is seen here, and nothing sent.
    """
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    anyone.set_alpn_protocols(["h2"])
    host = host_of(address)
    try:
        plain = socket.create_connection((host, int(address.rpartition(":")[2])), _SECONDS)
        with plain, anyone.wrap_socket(plain, server_hostname=host) as secured:
            shown = x509.load_der_x509_certificate(secured.getpeercert(True) or b"")
    except (OSError, ValueError):
        return ""
    now, since, until = validity.now(), shown.not_valid_before_utc, shown.not_valid_after_utc
    try:
        shown.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca_pem))
    except (ValueError, TypeError, InvalidSignature):
        return f"the certificate of {address} is of another authority than the one that this node joined"
    if not since <= now <= until:
        return (
            f"this node's clock says {now:%Y-%m-%d %H:%M} (UTC), and the coordinator's certificate counts, by the "
            f"coordinator's clock, from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}: set the clock that is wrong"
            + ("" if now < since else ", or start the coordinator again, which makes a new one")
        )
    own = x509.load_pem_x509_certificate(identity.cert_pem)
    return (
        f"{address} does not take this node's certificate, which counts from {own.not_valid_before_utc:%Y-%m-%d %H:%M} "
        f"to {own.not_valid_after_utc:%Y-%m-%d %H:%M}; here it is {now:%Y-%m-%d %H:%M} (UTC): is the coordinator's "
        "clock right, and its certificate for this address?"
    )
