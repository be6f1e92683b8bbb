"""What was proposed to this node, and what its owner decided: one SQLite file.

An approval is for exactly one run and one hash. It can be revoked, and ends with the run, or by itself. One whose end
has come by the clock has ended for good (``lapsed``): a clock that is put back does not give it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hanse.decisions import SignedDecision
from hanse.errors import ConfigError, Conflict, NotApproved, NotFound, TooMany, WireError
from hanse.messages import Json, dumps, loads
from hanse.node import bundle_texts
from hanse.node.approvers import Approvers
from hanse.node.kept import Changes, opened

_TEXT_BYTES = 16 << 20
_UNDECIDED, _UNDECIDED_BYTES = 1000, 256 << 20  # of proposals; more than any owner reads
_READ = 4  # proposals that are kept as they were read; their text may be long
_SCHEMA = """
CREATE TABLE IF NOT EXISTS proposals (
  run TEXT NOT NULL, sha256 TEXT NOT NULL, text TEXT NOT NULL, proposer TEXT NOT NULL, purpose TEXT NOT NULL,
  expires TEXT NOT NULL, dataset TEXT NOT NULL, received TEXT NOT NULL, PRIMARY KEY (run, sha256));
CREATE TABLE IF NOT EXISTS decisions (
  run TEXT NOT NULL, sha256 TEXT NOT NULL, decision TEXT NOT NULL, actor TEXT NOT NULL, time TEXT NOT NULL,
  reason TEXT NOT NULL, until TEXT NOT NULL, revoked TEXT, sent INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, sha256), FOREIGN KEY (run, sha256) REFERENCES proposals (run, sha256));
CREATE TABLE IF NOT EXISTS approving (
  run TEXT NOT NULL, sha256 TEXT NOT NULL, actor TEXT NOT NULL, time TEXT NOT NULL,
  PRIMARY KEY (run, sha256, actor), FOREIGN KEY (run, sha256) REFERENCES proposals (run, sha256));
CREATE TABLE IF NOT EXISTS ended (run TEXT PRIMARY KEY, state TEXT NOT NULL, time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lapsed (
  run TEXT NOT NULL, sha256 TEXT NOT NULL, seen TEXT NOT NULL, PRIMARY KEY (run, sha256));
"""  # text: packed, as bytes; whole in what older releases wrote
_JOINED = """SELECT p.run, p.sha256, p.text, p.proposer, p.purpose, p.expires, p.dataset, p.received,
  coalesce(e.state, ''), c.packed,
  coalesce((SELECT json_group_array(actor) FROM (SELECT actor FROM approving a
    WHERE a.run = p.run AND a.sha256 = p.sha256 ORDER BY a.time)), '[]'),
  d.decision, d.actor, d.time, d.reason, d.until, d.revoked, o.seen
  FROM proposals p LEFT JOIN decisions d ON d.run = p.run AND d.sha256 = p.sha256 LEFT JOIN ended e ON e.run = p.run
  LEFT JOIN lapsed o ON o.run = p.run AND o.sha256 = p.sha256
  LEFT JOIN codes c ON typeof(p.text) = 'blob' AND c.sha256 = CAST(substr(p.text, 1, 64) AS TEXT)"""

_OPEN = """ FROM proposals p WHERE NOT EXISTS
  (SELECT 1 FROM decisions d WHERE d.run = p.run AND d.sha256 = p.sha256)
  AND NOT EXISTS (SELECT 1 FROM ended e WHERE e.run = p.run)"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal and what was decided. ``decision``: ``pending``, ``accept`` or ``reject``;
    ``dataset``: ``{name, version}``, or None where the run needs no data; ``ended``: how the run ended, as the
    coordinator told; ``approvers``: who has approved in their own names, where two have to; ``lapsed``: what the clock
    said when it was seen that an approval's end had come. Times are ISO, UTC."""

    run: str
    sha256: str
    text: str
    proposer: str
    purpose: str
    expires: str
    dataset: Mapping[str, Json] | None
    received: str
    ended: str = ""
    approvers: tuple[str, ...] = ()
    decision: str = "pending"
    actor: str = ""
    time: str = ""
    reason: str = ""
    until: str = ""
    revoked: str | None = None
    lapsed: str | None = None

    @property
    def state(self) -> str:
        """In one word, for people."""
        if self.revoked:
            return "revoked"
        if self.ended:
            return self.ended
        if self.decision == "accept":
            return "expired" if self.lapsed or _past(self.until) else "approved"
        if self.decision == "reject":
            return "rejected"
        return "expired" if _past(self.expires) else "pending"

    def public(self) -> dict[str, Json]:
        """For the owner's eyes, without the bundle's text."""
        return {
            "run": self.run,
            "sha256": self.sha256,
            "proposer": self.proposer,
            "purpose": self.purpose,
            "expires": self.expires,
            "received": self.received,
            "dataset": self.dataset,
            "state": self.state,
            "actor": self.actor,
            "time": self.time,
            "reason": self.reason,
            "until": self.until,
            "approvers": list(self.approvers),
        }

    def signed(self, node: str) -> SignedDecision:
        """What was decided last, as this node signs it; what was taken back is a no."""
        accepts = self.decision == "accept" and not self.revoked
        return SignedDecision(
            node=node,
            run=self.run,
            sha256=self.sha256,
            proposer=self.proposer,
            decision="accept" if accepts else "reject",
            actor=self.actor,
            reason=self.reason,
            time=self.revoked or self.time,
            until=self.until if accepts else "",
            second=self.approvers[1] if accepts and len(self.approvers) > 1 else "",
        )

    def content(self) -> dict[str, Json]:
        """The bundle, checked against its hash."""
        if hashlib.sha256(self.text.encode()).hexdigest() != self.sha256:
            raise NotApproved("the stored bundle does not fit its hash; ask for the proposal again")
        content = loads(self.text)
        if not isinstance(content, dict):
            raise WireError("this is not a bundle")
        return content

    @classmethod
    def parse(cls, data: Mapping[str, Json]) -> Proposal:
        """A proposal that came in. Raises ``WireError`` where it is not one, ``NotApproved`` where
        text and hash do not fit together."""
        if not isinstance(data, Mapping):
            raise WireError("a proposal is an object")
        texts = ("run", "sha256", "text", "proposer", "purpose", "expires")
        for name in texts:
            if not isinstance(data.get(name), str):
                raise WireError(f"a proposal without {name}")
        if not 0 < len(data["run"]) <= 200 or not data["run"].isprintable():
            raise WireError("a proposal's run is 1 to 200 printable characters")
        if len(data["text"]) > _TEXT_BYTES or len(data["purpose"]) > 10_000 or len(data["proposer"]) > 500:
            raise WireError("a proposal's text is too long")
        dataset = data.get("dataset")
        if dataset is not None and not (
            isinstance(dataset, Mapping) and all(isinstance(dataset.get(k), str) for k in ("name", "version"))
        ):
            raise WireError("a proposal's dataset has name and version, or is null")
        found = hashlib.sha256(data["text"].encode()).hexdigest()
        if found != data["sha256"]:
            raise NotApproved(f"the bundle has hash {found[:12]}…, announced was {data['sha256'][:12]}…; not kept")
        _time(data["expires"])
        return cls(**{name: data[name] for name in texts}, dataset=dataset, received=_now())


class Approvals:
    """The file ``approvals.db`` in the node's folder; safe with several processes."""

    def __init__(self, home: Path) -> None:
        self._db = opened(
            home / "approvals.db",
            _SCHEMA + bundle_texts.SCHEMA,
            "restore it from a backup, or move it away: then nothing is approved, and open proposals come again",
        )
        self._home = home
        self._read: dict[tuple[str, str], Proposal] = {}
        self._until: dict[tuple[str, str], tuple[datetime, Proposal]] = {}  # those of them that are approved
        self._changes = Changes(self._db, home / "approvals.db")
        self._read_at: object = None
        self._clock = ""  # the time that :meth:`end_by` was told last

    def close(self) -> None:
        """Closes the database."""
        self._db.close()
        self._changes.close()

    def receive(self, proposal: Proposal) -> Proposal:
        """Keeps a proposal; one that is known keeps its decision. Those that nobody decided and that have
        expired make room. Raises ``TooMany`` where the owner has more to decide than can be kept."""
        (count,) = self._db.execute("SELECT count(*)" + _OPEN).fetchone()
        full = count >= _UNDECIDED
        if _UNDECIDED > count > _UNDECIDED_BYTES // _TEXT_BYTES:
            (held,) = self._db.execute(f"SELECT sum({bundle_texts.LENGTH})" + _OPEN).fetchone()
            full = held + len(proposal.text) > _UNDECIDED_BYTES
        if full:
            rows = self._db.execute("SELECT run, sha256, expires" + _OPEN).fetchall()
            old = [(run, sha256) for run, sha256, expires in rows if _past(expires)]
            with self._at_once():
                self._forget("approving", "proposals", named=old)
            if not old and self.decision(proposal.run, proposal.sha256) is None:
                raise TooMany(f"{count} proposals wait for a decision at this node; its owner has to decide some first")
        kept, code, packed = bundle_texts.pack(proposal.text)
        about = (proposal.run, proposal.sha256, kept, proposal.proposer, proposal.purpose, proposal.expires)
        with self._at_once():  # or another process could take the code for nobody's
            self._db.execute("INSERT OR IGNORE INTO codes VALUES (?, ?)", (code, packed))
            self._db.execute(
                "INSERT OR IGNORE INTO proposals VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*about, dumps(proposal.dataset), proposal.received),
            )
        return self.get(proposal.run, proposal.sha256)

    def proposals(self) -> list[Proposal]:
        """All, the latest last."""
        return [_proposal(row) for row in self._db.execute(_JOINED + " ORDER BY p.received, p.run")]

    def pending(self) -> list[Proposal]:
        """What the owner has to decide."""
        undecided = " WHERE d.decision IS NULL AND e.state IS NULL ORDER BY p.received, p.run"
        return [p for p in map(_proposal, self._db.execute(_JOINED + undecided)) if p.state == "pending"]

    def knows(self, run: str) -> bool:
        """Whether it was ever proposed to this node."""
        return self._db.execute("SELECT 1 FROM proposals WHERE run = ?", (run,)).fetchone() is not None

    def get(self, run: str, sha256: str = "") -> Proposal:
        """The proposal of a run; ``sha256`` may be a prefix, and must be given where a run has several.

        Raises:
            NotFound: there is none. NotApproved: there is one, but of another hash.
        """
        found = [_proposal(row) for row in self._db.execute(_JOINED + " WHERE p.run = ? ORDER BY p.received", (run,))]
        if not found:
            raise NotFound(f"no run {run!r} was proposed to this node; hanse node proposals lists them")
        fitting = [p for p in found if p.sha256.startswith(sha256.lower())]
        if not fitting:
            raise NotApproved(f"run {run!r} was proposed with hash {found[-1].sha256[:12]}…, not {sha256[:12]}…")
        if len(fitting) > 1:
            raise ConfigError(f"run {run!r} was proposed with {len(fitting)} hashes; say which one with --sha256")
        return fitting[0]

    def decision(self, run: str, sha256: str) -> Proposal | None:
        """The proposal of exactly this run and hash; None if there is none.

        It is read again whenever anything was written, by this process or another.
        """
        self._look()
        found = self._read.get((run, sha256))
        if found is None:
            row = self._db.execute(_JOINED + " WHERE p.run = ? AND p.sha256 = ?", (run, sha256)).fetchone()
            if row is None:
                return None
            found = _proposal(row)
            if len(self._read) >= _READ:
                self._read.clear()
                self._until.clear()
            self._read[run, sha256] = found
        return found

    def _look(self) -> None:
        """What was read counts no more where anything was written since."""
        written = self._changes.mark()
        if written != self._read_at:
            self._read.clear()
            self._until.clear()
            self._read_at = written

    def approved(self, run: str, sha256: str) -> Proposal:
        """The proposal that allows a task of this run and hash. Raises ``NotApproved``."""
        if self._changes.mark() == self._read_at:
            known = self._until.get((run, sha256))
            if known is not None and datetime.now(UTC) < known[0]:  # approved, and nothing was written since
                return known[1]
        found = self.decision(run, sha256)
        if found is None:
            raise NotApproved(f"hash {sha256[:12]}… was never proposed to this node for run {run[:80]!r}")
        if found.state != "approved":
            why = {"pending": "not decided yet", "expired": "expired"}.get(found.state, found.state)
            if found.decision == "accept" and why == "expired":
                why = self._why_expired(found)
            raise NotApproved(f"the owner's approval of run {run!r}, hash {sha256[:12]}…: {why}")
        self._until[run, sha256] = _time(found.until), found
        return found

    def _why_expired(self, found: Proposal) -> str:
        if not _past(found.until):
            return (
                f"expired, as it ended at {found.until} and this node's clock said {found.lapsed} before it was put "
                "back; set the clock right, and propose the run again"
            )
        self.end_by(datetime.now(UTC))
        return "expired"

    def end_by(self, at: datetime) -> None:
        """Approvals whose end has come by this time have ended for good, also where the clock is put back."""
        now = at.astimezone(UTC).isoformat()
        since, self._clock = (self._clock if self._clock <= now else ""), now
        rows = self._db.execute(
            "SELECT run, sha256, until FROM decisions d WHERE decision = 'accept' AND until > ? AND until <= ? "
            "AND NOT EXISTS (SELECT 1 FROM lapsed o WHERE o.run = d.run AND o.sha256 = d.sha256)",
            (since, now),
        ).fetchall()
        lapsed = [(run, sha256, now) for run, sha256, until in rows if _time(until) <= at]
        if lapsed:
            with self._at_once():
                self._db.executemany("INSERT OR IGNORE INTO lapsed VALUES (?, ?, ?)", lapsed)

    def approve(
        self, run: str, sha256: str = "", *, actor: str, reason: str = "", days: float = 30.0, sent: bool = False
    ) -> Proposal:
        """The owner's yes to one run and one hash, for so many days."""
        return self._decide(run, sha256, "accept", actor, reason, days, sent)

    def approve_one_of_two(self, run: str, sha256: str = "", *, actor: str, **more: Any) -> Proposal:
        """One person's yes, where it takes two: the proposal is decided with the second's, and is as it was with the
        first's. Raises ``Conflict`` where it is the same person's."""
        found = self.get(run, sha256)
        if found.decision != "pending" or found.ended or _past(found.expires):
            return self.approve(run, sha256, actor=actor, **more)
        known = Approvers(self._home).names()
        with self._at_once():
            for gone in {*found.approvers} - {*known}:  # removed meanwhile
                self.withdraw(gone)
            if actor in found.approvers and actor in known:
                raise Conflict(f"{actor} has approved run {run!r} already; a second person has to")
            row = (found.run, found.sha256, actor, _now())
            self._db.execute("INSERT OR IGNORE INTO approving VALUES (?, ?, ?, ?)", row)
        found = self.get(found.run, found.sha256)
        if len(found.approvers) < 2:
            return found
        return self.approve(found.run, found.sha256, actor=found.approvers[0], **more)

    def withdraw(self, actor: str) -> None:
        """What this person has approved as one of two, and nobody has decided yet, waits for two others. What two have
        decided stays decided: it can be revoked."""
        undecided = "SELECT 1 FROM decisions d WHERE d.run = approving.run AND d.sha256 = approving.sha256"
        self._db.execute(f"DELETE FROM approving WHERE actor = ? AND NOT EXISTS ({undecided})", (actor,))  # noqa: S608

    def reject(self, run: str, sha256: str = "", *, actor: str, reason: str = "", sent: bool = False) -> Proposal:
        """The owner's no."""
        return self._decide(run, sha256, "reject", actor, reason, 0, sent)

    def revoke(self, run: str, sha256: str = "", *, actor: str, reason: str = "") -> Proposal:
        """Takes an approval back, from the next task on. Raises ``Conflict`` if there is none."""
        found = self.get(run, sha256)
        if found.decision != "accept" or found.revoked:
            raise Conflict(f"run {run!r} is {found.state}; only an approval can be revoked")
        text = f"revoked by {actor}" + (f": {reason}" if reason else "")
        self._db.execute(
            "UPDATE decisions SET revoked = ?, reason = ?, sent = 0 WHERE run = ? AND sha256 = ?",
            (_now(), text, found.run, found.sha256),
        )
        return self.get(found.run, found.sha256)

    def date_anew(self, proposal: Proposal) -> Proposal:
        """A decision by a clock that was wrong, dated now. An approval lasts from now as long as it was given for, and
        no longer than it did: a clock that was ahead does not make it longer."""
        at = datetime.now(UTC)
        until = min(_time(proposal.until), at + (_time(proposal.until) - _time(proposal.time)))
        self._db.execute(
            "UPDATE decisions SET time = ?, until = ?, revoked = iif(revoked IS NULL, NULL, ?) "
            "WHERE run = ? AND sha256 = ? AND time = ?",
            (at.isoformat(), until.isoformat(), at.isoformat(), proposal.run, proposal.sha256, proposal.time),
        )
        return self.get(proposal.run, proposal.sha256)

    def end(self, run: str, state: str) -> None:
        """The run has ended: nothing of it is answered any more, and nothing can be decided."""
        if self._db.execute("SELECT 1 FROM proposals WHERE run = ?", (run,)).fetchone() is not None:
            self._db.execute("INSERT OR IGNORE INTO ended VALUES (?, ?, ?)", (run, state, _now()))

    def reopen(self, proposal: Proposal) -> None:
        """The same is proposed again after its run failed: whatever was decided before, it is to be decided anew."""
        with self._at_once():
            self._forget("decisions", "lapsed", "approving", "proposals", named=[(proposal.run, proposal.sha256)])
            self._db.execute("DELETE FROM ended WHERE run = ?", (proposal.run,))

    @contextlib.contextmanager
    def _at_once(self) -> Iterator[None]:
        """All of what is written within is, or nothing, and no other process writes in between."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def _forget(self, *tables: str, named: Sequence[tuple[str, str]]) -> None:
        """Deletes from these tables, the proposals last, and code that no proposal has any more."""
        for table in tables:
            self._db.executemany(f"DELETE FROM {table} WHERE run = ? AND sha256 = ?", named)  # noqa: S608
        if named:
            self._db.execute(bundle_texts.UNUSED)

    def unsent(self) -> list[Proposal]:
        """Decisions that the coordinator has not heard of."""
        return [_proposal(row) for row in self._db.execute(_JOINED + " WHERE d.sent = 0 ORDER BY d.time")]

    def mark_sent(self, proposal: Proposal, sent: bool = True) -> None:
        """The coordinator knows this decision (unless it has changed meanwhile)."""
        self._db.execute(
            "UPDATE decisions SET sent = ? WHERE run = ? AND sha256 = ? AND revoked IS ?",
            (int(sent), proposal.run, proposal.sha256, proposal.revoked),
        )

    def _decide(
        self, run: str, sha256: str, decision: str, actor: str, reason: str, days: float, sent: bool
    ) -> Proposal:
        found = self.get(run, sha256)
        if found.decision == decision and not found.revoked and not found.ended:
            return found
        if found.ended:
            raise Conflict(f"run {run!r} has ended ({found.ended}); there is nothing to decide any more")
        if found.decision != "pending":
            raise Conflict(f"run {run!r} is {found.state} already, by {found.actor} at {found.time}")
        if decision == "accept" and _past(found.expires):
            raise NotApproved(f"the proposal of run {run!r} expired at {found.expires}; ask for a new one")
        until = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        try:
            self._db.execute(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)",
                (found.run, found.sha256, decision, actor, _now(), reason, until, int(sent)),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"run {run!r} was decided at the same moment; look again") from None
        return self.get(found.run, found.sha256)


def _proposal(row: tuple[Any, ...]) -> Proposal:
    known = list(row)
    if isinstance(known[2], bytes):
        known[2] = bundle_texts.unpack(known[2], known[9])
    known[6], approvers = loads(known[6]), tuple(loads(known[10]))
    decided = known[11:] if known[11] is not None else []
    return Proposal(*[*known[:9], approvers, *decided])


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise WireError(f"{text[:40]!r} is no time; expected ISO 8601 in UTC") from None
    if found.tzinfo is None:
        raise WireError(f"{text[:40]!r} has no time zone; expected UTC")
    return found


def _past(text: str) -> bool:
    return _time(text) <= datetime.now(UTC)
