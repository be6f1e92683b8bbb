"""What both ends of a gRPC connection agree on: the method, TLS, what plaintext may do, how to reach a host."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from hanse import validity
from hanse.addresses import is_loopback
from hanse.errors import ConfigError
from hanse.identity import NodeIdentity, read_certificate
from hanse.messages import CHUNK_BYTES, MAX_HEADER_BYTES
from hanse.served_certificate import load_chain

SERVICE, METHOD = "hanse.v1.Link", "Connect"
PATH = f"/{SERVICE}/{METHOD}"
NODE_METADATA = "hanse-node"  # who a node without a certificate says it is (plaintext, loopback only)
BEAT_SECONDS = 10.0  # between heartbeats, where nobody says otherwise
SILENT_BEATS = 1.25  # then a line is probed, and as long after given up: before the node that is on it counts as stale
HANDSHAKE_SECONDS = 20.0  # who connects and shows no certificate holds a file of ours for so long
GOODBYE_SECONDS = 2.0  # for the end of TLS

# The largest frame is a BEGIN with the largest header, or a chunk; whatever is larger is refused
# before it is read.
MAX_FRAME = MAX_HEADER_BYTES + CHUNK_BYTES + (2 << 20)


def host_of(address: str) -> str:
    """The host in ``host:port`` or ``[v6]:port``. Raises ``ConfigError`` for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"the gRPC address is {address!r}; expected host:port, as in 'localhost:7443'")
    return host.strip("[]")


def check_plaintext(address: str, insecure: bool) -> None:
    """Raises ``ConfigError`` unless plaintext was asked for and stays on this machine."""
    if not insecure:
        raise ConfigError(
            f"no credentials for {address!r}; give certificates (hanse.identity), or insecure=True to try "
            "things out on this machine alone"
        )
    if not is_loopback(host_of(address)):
        raise ConfigError(
            f"without TLS only a loopback address is allowed, and {address!r} is not one; use certificates"
        )


def channel_credentials(identity: NodeIdentity) -> ssl.SSLContext:
    """A node's: show its certificate, believe its authority only. Raises as ``NodeIdentity.check``."""
    identity.check()
    return client_context(identity.ca_pem, identity.key_pem, identity.cert_pem)


class NodeCredentials:
    """:func:`channel_credentials` for one connection after the other, made anew where the identity is another or has
    expired: it takes several times as long as a handshake, and a node whose coordinator is away tries again and again.

    Args:
        identity: the node's, now.
    """

    def __init__(self, identity: Callable[[], NodeIdentity]) -> None:
        self._identity = identity
        self._of: NodeIdentity | None = None
        self._made: ssl.SSLContext
        self._ends = validity.now()

    def __call__(self) -> ssl.SSLContext:
        """Raises as ``NodeIdentity.check``, also of an identity that counted before."""
        shown = self._identity()
        if shown != self._of or self._ends <= validity.now():
            self._made, self._of = channel_credentials(shown), shown
            self._ends = read_certificate(shown.cert_pem).expires
        return self._made


def client_context(ca_pem: bytes, key_pem: bytes = b"", cert_pem: bytes = b"") -> ssl.SSLContext:
    """TLS of an end that calls; with its certificate, where it has one."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, ca_pem, key_pem, cert_pem)


def server_credentials(key_pem: bytes, cert_pem: bytes, ca_pem: bytes) -> ssl.SSLContext:
    """The coordinator's: only nodes with a certificate of this authority."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, ca_pem, key_pem, cert_pem)
    context.num_tickets = 0  # nobody takes up an earlier session, and to make them is a third of the work
    return context


def _context(protocol: int, ca_pem: bytes, key_pem: bytes, cert_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=ca_pem.decode())
    if key_pem:
        load_chain(context, key_pem, cert_pem)
    return context
