"""How fast and in which hours large payloads may leave."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from hanse.errors import ConfigError
from hanse.node.settings import NodeSettings
from hanse.pace import HOURS, Pace


def at(clock: str, *hours: str) -> float:
    """Seconds that a large payload waits at this time of day."""
    moment = datetime.datetime.combine(datetime.date(2026, 3, 1), datetime.time.fromisoformat(clock))
    pace = Pace(monotonic=lambda: 0.0, now=lambda: moment)
    pace.set(0.0, hours)
    return pace.wait()


@pytest.mark.parametrize(
    ("clock", "hours", "waits"),
    [
        ("12:00", (), False),
        ("21:59:59", ("22:00-06:00",), True),
        ("22:00", ("22:00-06:00",), False),
        ("00:00", ("22:00-06:00",), False),
        ("05:59:59", ("22:00-06:00",), False),
        ("06:00", ("22:00-06:00",), True),
        ("12:30", ("12:00-13:00", "22:00-06:00"), False),
        ("13:00", ("12:00-13:00", "22:00-06:00"), True),
        ("11:59", ("12:00-13:00", "22:00-06:00"), True),
    ],
)
def test_hours_may_go_over_midnight_and_end_before_their_last_minute(
    clock: str, hours: tuple[str, ...], waits: bool
) -> None:
    assert (at(clock, *hours) > 0) == waits


def test_the_wait_ends_when_the_hours_begin_and_is_looked_at_on_the_way() -> None:
    assert at("21:59:58", "22:00-06:00") == pytest.approx(2)
    assert at("07:00", "22:00-06:00") == 10  # a clock may be set, and an owner may change the hours


def test_what_was_not_used_is_not_caught_up_on() -> None:
    now = [0.0]
    pace = Pace(monotonic=lambda: now[0])
    pace.set(8.0, ())
    now[0] = 1000.0
    sent = 0
    while now[0] < 1010:
        if pace.wait() == 0:
            pace.left(500_000)
            sent += 500_000
        now[0] += max(0.001, pace.wait())
    assert 9_500_000 <= sent <= 10_500_000


def test_a_limit_that_is_lifted_holds_nobody_up() -> None:
    pace = Pace(monotonic=lambda: 5.0)
    pace.set(0.001, ())
    pace.left(10**9)
    assert pace.wait() == 10
    pace.set(0.0, ())
    assert pace.wait() == 0


@pytest.mark.parametrize("wrong", ["22-06", "24:00-06:00", "22:00-22:00", "22:60-06:00", "22:00 - 06:00", ""])
def test_hours_that_are_none_are_refused(wrong: str) -> None:
    assert not HOURS.fits([wrong])
    with pytest.raises(ConfigError, match="hours of local time such as"):
        NodeSettings.parse({"line": {"transfer_hours": [wrong]}})


@pytest.mark.parametrize("wrong", [-1, "fast", True])
def test_a_limit_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"line\.upload_limit_mbit"):
        NodeSettings.parse({"line": {"upload_limit_mbit": wrong}})


def test_an_owner_sets_them_by_name_and_the_file_keeps_them() -> None:
    settings = NodeSettings().with_value("transfer_hours", "22:00-06:00, 12:00-13:00")
    settings = settings.with_value("line.upload_limit_mbit", "20")
    assert settings.line.transfer_hours == ("22:00-06:00", "12:00-13:00")
    assert 'transfer_hours = ["22:00-06:00", "12:00-13:00"]' in settings.to_toml()
    assert settings.line.upload_limit_mbit == 20
