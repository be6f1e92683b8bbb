"""Studies: several in one deployment, each with its purpose, its people and its nodes.

A node that is in an open study is asked, and seen, by its studies alone; a run of a study asks nodes of this study
alone, and is seen by its people. A node may be in several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from hanse.errors import ConfigError, Conflict, NotAllowed, NotFound
from hanse.messages import Json
from hanse.store.accounts import Role, UserAccount
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.schema import accounts, studies, study_nodes, study_people

_TOLD = ("purpose", "people", "nodes", "ends", "most_epsilon", "most_delta")  # of each change, in the audit
_DELTA = 1e-4  # where only the epsilon is said: ten runs with the delta that a run has by itself


@dataclass(frozen=True, slots=True)
class StudyBounds:
    """When a study ends, and what its runs may promise together; None: as it was, of a new one unbounded."""

    ends: float | None = None
    most_epsilon: float | None = None
    most_delta: float | None = None

    def checked(self, delta: float | None = None) -> dict[str, float]:
        """Those that are said, by their columns; with an epsilon comes ``delta``, or the usual one. Raises
        ``ConfigError``."""
        said = {
            bound: value
            for bound in ("ends", "most_epsilon", "most_delta")
            if (value := getattr(self, bound)) is not None
        }
        for bound, high in (("most_epsilon", 1e6), ("most_delta", 1.0)):
            if bound in said and not 0 < said[bound] <= high:
                raise ConfigError(f"{bound} of a study is {said[bound]!r}; expected a number above 0 up to {high:g}")
        if "most_delta" in said and delta is None and "most_epsilon" not in said:
            raise ConfigError("most_delta of a study is given, and no most_epsilon; give both")
        if "most_epsilon" in said and "most_delta" not in said:
            said["most_delta"] = _DELTA if delta is None else delta
        return said


_NO_BOUNDS = StudyBounds()


@dataclass(frozen=True, slots=True)
class Study:
    """``people`` are ids of accounts to their names; ``closed``: since when nothing is proposed in it any more.
    ``ends``: nothing is proposed from then on; its nodes stay its own until it is closed. ``most_epsilon`` and
    ``most_delta`` bound what its runs may promise together (:mod:`hanse.coordinator.study_budget`); None: unbounded."""

    name: str
    purpose: str
    people: Mapping[str, str]
    nodes: tuple[str, ...]
    created: float
    closed: float | None
    ends: float | None = None
    most_epsilon: float | None = None
    most_delta: float | None = None

    @property
    def state(self) -> str:
        """``open``; or ``closed`` or ``ended``, and nothing is proposed in it any more."""
        if self.closed is not None:
            return "closed"
        return "ended" if self.ends is not None and now() >= self.ends else "open"

    def public(self) -> dict[str, Json]:
        """As REST shows it."""
        return {
            "name": self.name,
            "purpose": self.purpose,
            "people": sorted(self.people.values()),
            "nodes": list(self.nodes),
            "created": iso(self.created),
            "closed": iso(self.closed),
            "ends": iso(self.ends),
            "most_epsilon": self.most_epsilon,
            "most_delta": self.most_delta,
        }


class Studies:
    """Makes, changes and closes studies, and says who is in which."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def make(
        self,
        called: str,
        purpose: str = "",
        people: Sequence[str] = (),
        nodes: Sequence[str] = (),
        bounds: StudyBounds = _NO_BOUNDS,
        *,
        actor: str,
    ) -> Study:
        """A new study. ``people`` are names of accounts; ``nodes`` may enrol later. Raises ``Conflict`` where there is
        one of this name, ``NotFound`` for an account that there is not, ``ConfigError`` for a bound that is none."""
        known = name(called, "study")
        with self._database.write() as tx:
            if tx.execute(select(studies.c.name).where(studies.c.name == known)).first():
                raise Conflict(f"there is a study {known!r} already; choose another name, or change that one")
            values = {"name": known, "purpose": words(purpose, 4000), "created": now(), **bounds.checked()}
            tx.execute(insert(studies).values(values))
            return self._kept(tx, known, "study.made", actor, people, nodes)

    def change(
        self,
        called: str,
        purpose: str | None = None,
        people: Sequence[str] | None = None,
        nodes: Sequence[str] | None = None,
        bounds: StudyBounds = _NO_BOUNDS,
        *,
        actor: str,
    ) -> Study:
        """Another purpose, other people, nodes or bounds; None: as they are. Runs that were proposed go on as they
        are."""
        with self._database.write() as tx:
            before = _one(tx.connection, called)
            if purpose is not None:
                text = words(purpose, 4000)
                tx.execute(update(studies).where(studies.c.name == before.name).values(purpose=text))
            if said := bounds.checked(before.most_delta):
                tx.execute(update(studies).where(studies.c.name == before.name).values(said))
            return self._kept(tx, before.name, "study.changed", actor, people, nodes)

    def close(self, called: str, *, actor: str) -> Study:
        """Nothing is proposed in it from now on, and its nodes are those of its other studies. Twice is fine."""
        with self._database.write() as tx:
            before = _one(tx.connection, called)
            if before.closed is None:
                tx.execute(update(studies).where(studies.c.name == before.name).values(closed=now()))
                self._events.record(tx, "study.closed", actor=actor, detail={"study": before.name})
            return _one(tx.connection, called)

    def get(self, called: str) -> Study:
        """Raises ``NotFound``."""
        with self._database.read() as connection:
            return _one(connection, called)

    def list(self) -> Sequence[Study]:
        """All, in the order of their names."""
        with self._database.read() as connection:
            return _read(connection)

    def of(self, account: UserAccount) -> Sequence[Study]:
        """Those that an account sees: an operator all, a data owner those with an own node, others their own."""
        if account.role is Role.OPERATOR:
            return self.list()
        if account.role is Role.DATA_OWNER:
            return [study for study in self.list() if set(study.nodes) & set(account.nodes)]
        return [study for study in self.list() if account.id in study.people]

    def nodes_for(self, called: str, proposer: str, wanted: Collection[str] | None) -> NodesOfStudy:
        """Which nodes a run may ask.

        Args:
            called: the study that it names; "": none.
            proposer: the name of the account.
            wanted: the nodes that it names; None: none by name.

        Raises:
            NotAllowed: the proposer is in no open study of this name, or the run names nodes that it may not ask.
        """
        with self._database.read() as connection:
            open_ones = [study for study in _read(connection) if study.closed is None]
            role = connection.execute(select(accounts.c.role).where(accounts.c.name == proposer)).scalar()
        if not called:
            found = NodesOfStudy(None, frozenset(node for study in open_ones for node in study.nodes))
        else:
            mine = [
                s for s in open_ones if s.name == called and (role == Role.OPERATOR or proposer in s.people.values())
            ]
            if not mine:  # the same where there is none: who is in no study learns the names of none
                raise NotAllowed(
                    f"{proposer} is in no open study {called!r}; the operator of the federation adds people"
                )
            if mine[0].state != "open":
                raise NotAllowed(
                    f"the study {called} ended on {iso(mine[0].ends)}; its operator may give it another end"
                )
            found = NodesOfStudy(mine[0], frozenset())
        if refused := sorted(node for node in wanted or () if not found.may_ask(node)):
            why = f"not in the study {called}" if called else "asked by their studies alone; name one (study)"
            raise NotAllowed(f"{', '.join(refused)}: {why}")
        return found

    def _kept(
        self,
        tx: Transaction,
        called: str,
        kind: str,
        actor: str,
        people: Sequence[str] | None,
        nodes: Sequence[str] | None,
    ) -> Study:
        if people is not None:
            tx.execute(delete(study_people).where(study_people.c.study == called))
            for shown in dict.fromkeys(people):
                account = tx.execute(select(accounts.c.id).where(accounts.c.name == words(shown, 200).strip())).scalar()
                if account is None:
                    raise NotFound(f"there is no account {shown!r}; hanse coordinator account list names them")
                tx.execute(insert(study_people).values(study=called, account=account))
        if nodes is not None:
            tx.execute(delete(study_nodes).where(study_nodes.c.study == called))
            for node in dict.fromkeys(nodes):
                tx.execute(insert(study_nodes).values(study=called, node=name(node, "node")))
        study = _one(tx.connection, called)
        told = study.public()
        detail = {"study": study.name, **{key: told[key] for key in _TOLD}}
        self._events.record(tx, kind, actor=actor, detail=detail)
        return study


@dataclass(frozen=True, slots=True)
class NodesOfStudy:
    """Which nodes a run may ask: those of ``study``, or, where it is None, all but those that are ``apart``."""

    study: Study | None
    apart: frozenset[str]

    def may_ask(self, node: str) -> bool:
        """Whether this one is among them."""
        return node in self.study.nodes if self.study is not None else node not in self.apart


def all_studies(connection: Connection) -> Sequence[Study]:
    """All, as they are in this transaction."""
    return _read(connection)


def _one(connection: Connection, called: str) -> Study:
    found = _read(connection, [words(called, 64)])
    if not found:
        raise NotFound(f"there is no study {called[:100]!r}")
    return found[0]


def _read(connection: Connection, names: Iterable[str] | None = None) -> list[Study]:
    query = select(studies).order_by(studies.c.name)
    if names is not None:
        query = query.where(studies.c.name.in_(list(names)))
    rows = connection.execute(query).mappings().all()
    if not rows:
        return []
    people: dict[str, dict[str, str]] = {}
    joined = select(study_people.c.study, accounts.c.id, accounts.c.name).join(
        accounts, accounts.c.id == study_people.c.account
    )
    for study, account, shown in connection.execute(joined):
        people.setdefault(study, {})[account] = shown
    nodes: dict[str, list[Any]] = {}
    for study, node in connection.execute(select(study_nodes).order_by(study_nodes.c.node)):
        nodes.setdefault(study, []).append(node)
    return [
        Study(
            row["name"],
            row["purpose"],
            people.get(row["name"], {}),
            tuple(nodes.get(row["name"], ())),
            row["created"],
            row["closed"],
            row["ends"],
            row["most_epsilon"],
            row["most_delta"],
        )
        for row in rows
    ]
