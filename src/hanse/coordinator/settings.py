"""What the federation's operator may set for a coordinator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """All with defaults that are safe for a deployment.

    Args:
        expected_client_ids: the only node ids that may register or be asked; None: no such list.
        open_registration: without a list, let any id register by REST. False: only ids that have
            enrolled, or that the operator linked to the account.
        heartbeat_interval_s: a node that misses three is stale.
        small_cell: class counts below this are not shown.
        enrol_per_minute: attempts per address.
        body_bytes: largest body of a REST request.
        relay_timeout_s: how long a node may take to take note of a proposal or a consent.
        url, grpc: the addresses that nodes and people use, for join tokens.
    """

    expected_client_ids: tuple[str, ...] | None = None
    open_registration: bool = False
    heartbeat_interval_s: float = 10.0
    small_cell: int = 5
    enrol_per_minute: int = 10
    body_bytes: int = 4 << 20
    relay_timeout_s: float = 10.0
    url: str = ""
    grpc: str = ""
