"""What the federation's operator may set for a coordinator."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanse.transports import Patience


@dataclass(frozen=True, slots=True)
class Settings:
    """All with defaults that are safe for a deployment.

    Args:
        expected_client_ids: the only node ids that may register or be asked; None: no such list.
        open_registration: without a list, let any id register by REST. False: only ids that have
            enrolled, or that the operator linked to the account.
        patience: how long silence of a node means nothing; that of the transport, unless the operator sets it.
        small_cell: class counts below this are not shown.
        enrol_per_minute: attempts per address.
        body_bytes: largest body of a REST request.
        engine: what drives runs (:mod:`hanse.engines`).
        url, address: where people and nodes reach this coordinator, for join tokens.
    """

    expected_client_ids: tuple[str, ...] | None = None
    open_registration: bool = False
    patience: Patience = field(default_factory=Patience)
    small_cell: int = 5
    enrol_per_minute: int = 10
    body_bytes: int = 4 << 20
    engine: str = "native"
    url: str = ""
    address: str = ""
