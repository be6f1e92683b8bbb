"""Standing approvals: what an owner has said yes to beforehand: this hash, this person, this purpose, until a date.

The same proposal, made again by the same person for the same purpose, is then approved when it comes, where the rules
allow it. Anything else is asked, as ever: a changed setting, another version of the data, one more node have another
hash. An approval that is given so ends no later than the date. Who says no to a run of the hash, or takes an approval
of it back, has ended its standing approvals too. One whose date has come has ended for good: a clock that is put back
does not give it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hanse.errors import ConfigError, NotFound
from hanse.node.approvals import Proposal
from hanse.node.kept import opened

_SCHEMA = """
CREATE TABLE IF NOT EXISTS standing (
  sha256 TEXT NOT NULL, proposer TEXT NOT NULL, purpose TEXT NOT NULL, until TEXT NOT NULL, actor TEXT NOT NULL,
  given TEXT NOT NULL, PRIMARY KEY (sha256, proposer, purpose));
CREATE TABLE IF NOT EXISTS lapsed (
  sha256 TEXT NOT NULL, proposer TEXT NOT NULL, purpose TEXT NOT NULL, given TEXT NOT NULL,
  PRIMARY KEY (sha256, proposer, purpose, given));
"""
_NOT_LAPSED = """ AND NOT EXISTS (SELECT 1 FROM lapsed o
  WHERE o.sha256 = s.sha256 AND o.proposer = s.proposer AND o.purpose = s.purpose AND o.given = s.given)"""


@dataclass(frozen=True, slots=True)
class StandingApproval:
    """Who said yes to what, of whom, for what, when, and until when (ISO, UTC)."""

    sha256: str
    proposer: str
    purpose: str
    until: str
    actor: str
    given: str

    @property
    def days_left(self) -> float:
        """Until it ends; 0 or less where it has."""
        return (datetime.fromisoformat(self.until) - datetime.now(UTC)).total_seconds() / 86_400


class StandingApprovals:
    """The file ``standing.db`` in the node's folder; safe with several processes."""

    def __init__(self, home: Path) -> None:
        self._db = opened(home / "standing.db", _SCHEMA, "move it away: then every proposal is asked")

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    def give(self, proposal: Proposal, until: datetime, actor: str) -> StandingApproval:
        """From now on, until then. Raises ``ConfigError`` for a time that is past or has no zone."""
        if until.tzinfo is None or until <= datetime.now(UTC):
            raise ConfigError(f"a standing approval ends in the future, not at {until.isoformat()}; name a later day")
        given = StandingApproval(
            proposal.sha256,
            proposal.proposer,
            proposal.purpose,
            until.astimezone(UTC).isoformat(),
            actor,
            datetime.now(UTC).isoformat(),
        )
        row = (given.sha256, given.proposer, given.purpose, given.until, given.actor, given.given)
        self._db.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?, ?)", row)
        return given

    def fitting(self, proposal: Proposal) -> StandingApproval | None:
        """The one that is for exactly this proposal and has not ended."""
        row = self._db.execute(
            "SELECT * FROM standing s WHERE sha256 = ? AND proposer = ? AND purpose = ?" + _NOT_LAPSED,
            (proposal.sha256, proposal.proposer, proposal.purpose),
        ).fetchone()
        found = StandingApproval(*row) if row else None
        return found if found is not None and found.days_left > 0 else None

    def end_by(self, at: datetime) -> None:
        """Those whose date has come by this time have ended for good, also where the clock is put back."""
        for row in self._db.execute(
            "SELECT * FROM standing s WHERE until <= ?" + _NOT_LAPSED, (at.isoformat(),)
        ).fetchall():
            found = StandingApproval(*row)
            about = (found.sha256, found.proposer, found.purpose, found.given)
            self._db.execute("INSERT OR IGNORE INTO lapsed VALUES (?, ?, ?, ?)", about)

    def given(self) -> list[StandingApproval]:
        """All, also those that have ended."""
        return [StandingApproval(*row) for row in self._db.execute("SELECT * FROM standing ORDER BY given")]

    def end(self, sha256: str) -> None:
        """Ends those of exactly this hash, if there are any."""
        self._db.execute("DELETE FROM standing WHERE sha256 = ?", (sha256,))

    def take_back(self, sha256: str) -> list[StandingApproval]:
        """Ends those of a hash (a prefix will do). Raises ``NotFound`` where there is none, ``ConfigError`` where the
        prefix is that of several hashes."""
        found = [one for one in self.given() if sha256 and one.sha256.startswith(sha256.lower())]
        if not found:
            raise NotFound(f"there is no standing approval of hash {sha256[:12]!r}; hanse node standing lists them")
        if len({one.sha256 for one in found}) > 1:
            raise ConfigError(f"{sha256!r} is the beginning of several hashes; give more of it")
        self.end(found[0].sha256)
        return found
