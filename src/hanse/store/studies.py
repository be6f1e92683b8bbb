"""Studies: several in one deployment, each with its purpose, its people and its nodes.

A node that is in an open study is asked, and seen, by its studies alone; a run of a study asks nodes of this study
alone, and is seen by its people. A node may be in several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from hanse.errors import Conflict, NotAllowed, NotFound
from hanse.messages import Json
from hanse.store.accounts import Role, UserAccount
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.schema import accounts, studies, study_nodes, study_people


@dataclass(frozen=True, slots=True)
class Study:
    """``people`` are ids of accounts to their names; ``closed``: since when nothing is proposed in it any more."""

    name: str
    purpose: str
    people: Mapping[str, str]
    nodes: tuple[str, ...]
    created: float
    closed: float | None

    def public(self) -> dict[str, Json]:
        """As REST shows it."""
        return {
            "name": self.name,
            "purpose": self.purpose,
            "people": sorted(self.people.values()),
            "nodes": list(self.nodes),
            "created": iso(self.created),
            "closed": iso(self.closed),
        }


class Studies:
    """Makes, changes and closes studies, and says who is in which."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def make(
        self, called: str, purpose: str = "", people: Sequence[str] = (), nodes: Sequence[str] = (), *, actor: str
    ) -> Study:
        """A new study. ``people`` are names of accounts; ``nodes`` may enrol later. Raises ``Conflict`` where there is
        one of this name, ``NotFound`` for an account that there is not."""
        known = name(called, "study")
        with self._database.write() as tx:
            if tx.execute(select(studies.c.name).where(studies.c.name == known)).first():
                raise Conflict(f"there is a study {known!r} already; choose another name, or change that one")
            tx.execute(insert(studies).values(name=known, purpose=words(purpose, 4000), created=now()))
            return self._kept(tx, known, "study.made", actor, people, nodes)

    def change(
        self,
        called: str,
        purpose: str | None = None,
        people: Sequence[str] | None = None,
        nodes: Sequence[str] | None = None,
        *,
        actor: str,
    ) -> Study:
        """Another purpose, other people, other nodes; None: as they are. Runs that were proposed go on as they are."""
        with self._database.write() as tx:
            before = _one(tx.connection, called)
            if purpose is not None:
                text = words(purpose, 4000)
                tx.execute(update(studies).where(studies.c.name == before.name).values(purpose=text))
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
        detail = {"study": study.name, **{key: told[key] for key in ("purpose", "people", "nodes")}}
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
        )
        for row in rows
    ]
