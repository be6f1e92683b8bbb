"""Who can be asked: looked at for one node or for all, it is the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hanse.coordinator.presence import Presence


class Line:
    """Nodes come and go."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    def online(self) -> frozenset[str]:
        return frozenset(self.there)


def test_one_node_is_on_line_where_it_is_among_all_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    there: Any = Line()
    presence = Presence(there)
    nodes = ("greeted", "connected", "silent", "gone", "unknown")
    there.there |= {"greeted", "connected", "silent", "gone"}
    for node in ("silent", "gone", "greeted"):
        presence.greet(node)
    there.there.discard("gone")
    now += 1000.0
    presence.heard("greeted")
    assert [presence.reaches(node) for node in nodes] == [True, False, False, False, False]
    assert presence.online() == {node for node in nodes if presence.reaches(node)}
