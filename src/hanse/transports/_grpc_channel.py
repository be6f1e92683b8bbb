"""What both ends of a gRPC connection agree on: the method, the options, what plaintext may do."""

from __future__ import annotations

import ipaddress
from typing import Any

import grpc
from grpc import aio

from hanse.errors import ConfigError
from hanse.identity import NodeIdentity
from hanse.messages import CHUNK_BYTES, MAX_HEADER_BYTES

SERVICE, METHOD = "hanse.v1.Link", "Connect"
PATH = f"/{SERVICE}/{METHOD}"
NODE_METADATA = "hanse-node"  # who a node without a certificate says it is (plaintext, loopback only)
COORDINATOR = "coordinator"
KEEPALIVE_SECONDS = 10.0

# The largest frame is a BEGIN with the largest header, or a chunk; whatever is larger is refused
# by gRPC before it is read.
_MAX_FRAME = MAX_HEADER_BYTES + CHUNK_BYTES + (2 << 20)


def options(keepalive: float) -> list[tuple[str, Any]]:
    """gRPC's settings for one end; ``keepalive`` in seconds is also how long a ping may take."""
    milliseconds = int(keepalive * 1000)
    return [
        ("grpc.max_send_message_length", _MAX_FRAME),
        ("grpc.max_receive_message_length", _MAX_FRAME),
        ("grpc.optimization_target", "throughput"),
        # A window that gRPC measures grows to tens of megabytes for each node. One of two chunks
        # keeps a line of 1 Gbit/s and 15 ms full, and the coordinator's memory small.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 2 << 20),
        # What gRPC once read at a time it keeps ready for the next read, at each connection: 1 to 2 MB
        # after a large payload, though the connection has nothing to say for the rest of the round.
        ("grpc.experimental.tcp_max_read_buffer_size", 64 << 10),
        # Who connects and shows no certificate holds a file of ours for so long
        ("grpc.server_handshake_timeout_ms", 20_000),
        # A peer that vanished without a word is noticed by a ping that is not answered
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", milliseconds),
        ("grpc.http2.ping_timeout_ms", milliseconds),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", milliseconds // 2),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def host_of(address: str) -> str:
    """The host in ``host:port`` or ``[v6]:port``. Raises ``ConfigError`` for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"the gRPC address is {address!r}; expected host:port, as in 'localhost:7443'")
    return host.strip("[]")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


def channel_credentials(identity: NodeIdentity) -> grpc.ChannelCredentials:
    """A node's: show its certificate, believe its authority only. Raises as ``NodeIdentity.check``."""
    identity.check()
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.cert_pem)


def server_credentials(key_pem: bytes, cert_pem: bytes, ca_pem: bytes) -> grpc.ServerCredentials:
    """The coordinator's: only nodes with a certificate of this authority."""
    return grpc.ssl_server_credentials([(key_pem, cert_pem)], ca_pem, require_client_auth=True)


class GrpcWire:
    """One bidirectional call, from either end, as a :class:`hanse.transports._link.Wire`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> bytes | None:
        data = await self._call.read()
        return None if data is aio.EOF else data

    async def write(self, data: bytes) -> None:
        await self._call.write(data)
