"""What the clock says: certificates that end soon, and two machines whose clocks differ. Sentences for people, "" where
there is nothing to say."""

from __future__ import annotations

import datetime

WARN_DAYS, URGENT_DAYS = 30, 7
_APART_S = 60.0  # clocks that differ by less harm nobody


def now() -> datetime.datetime:
    """The time here, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def ending(what: str, expires: datetime.datetime | None, remedy: str) -> str:
    """That ``what`` ends in so many days, where these are 30 or fewer, and what to do then.

    >>> soon = now() + datetime.timedelta(days=5, hours=1)
    >>> ending("the certificate of ulm", soon, "join again") == (
    ...     f"urgent: the certificate of ulm ends on {soon:%Y-%m-%d}, in 5 days; join again")
    True
    >>> ending("it", now() + datetime.timedelta(days=31), "join again")
    ''
    """
    if expires is None:
        return ""
    left = expires - now()
    if left > datetime.timedelta(days=WARN_DAYS):
        return ""
    if left <= datetime.timedelta(0):
        return f"urgent: {what} ended on {expires:%Y-%m-%d}; {remedy}"
    urgent = "urgent: " if left <= datetime.timedelta(days=URGENT_DAYS) else ""
    days = f"{left.days} days" if left.days != 1 else "1 day"
    return f"{urgent}{what} ends on {expires:%Y-%m-%d}, in {days}; {remedy}"


def apart(ours: datetime.datetime, theirs: datetime.datetime, us: str, them: str) -> str:
    """That two clocks differ, with what both say.

    >>> noon = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
    >>> apart(noon, noon + datetime.timedelta(hours=3), "this node", "the coordinator")
    "this node's clock says 2030-01-01 12:00:00 and the coordinator's 2030-01-01 15:00:00 (UTC): 3.0 h apart; set them"
    >>> apart(noon, noon + datetime.timedelta(seconds=2), "this node", "the coordinator")
    ''
    """
    seconds = abs((ours - theirs).total_seconds())
    if seconds < _APART_S:
        return ""
    far = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
    return (
        f"{us}'s clock says {ours:%Y-%m-%d %H:%M:%S} and {them}'s {theirs:%Y-%m-%d %H:%M:%S} (UTC): {far} apart; "
        "set them"
    )


def time(text: object) -> datetime.datetime | None:
    """A time that another machine told (ISO 8601 with its zone); None where it is none.

    >>> time("2030-01-01T12:00:00+00:00").hour, time("yesterday")
    (12, None)
    """
    if not isinstance(text, str) or len(text) > 64:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
