"""What rests: accounts, nodes, runs, rounds, events, models by content hash, and the audit log.

``Store`` bundles them for a coordinator. A node uses ``audit`` and ``blobs`` alone, so nothing
here imports SQLAlchemy before ``Store`` is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hanse.store.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from hanse.store.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
