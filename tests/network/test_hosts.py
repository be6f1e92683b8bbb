"""What a switch tells of hosts is bounded, and the first port counts."""

from __future__ import annotations

import logging

import pytest

from hanse.network import openflow
from hanse.registry import settings
from hanse.settings import checked

pytest.importorskip("os_ken")


def test_a_flood_of_addresses_fills_no_memory_and_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openflow, "_MOST_HOSTS", 10)
    it = openflow.driver(checked({}, settings("network", "openflow")))
    heard, hosts = it._heard, it._hosts  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            heard(1, f"10.0.0.{number}", "02:00:00:00:00:01")
        assert len(hosts) == 10
        assert caplog.records == []
        for _ in range(50):
            heard(2, "10.0.0.99", "02:00:00:00:00:02")
    assert hosts["10.0.0.99"] == (1, "02:00:00:00:00:01")
    assert len(caplog.records) == 1
