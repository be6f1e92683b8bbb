"""``federated_state.json``: registry, studies, active sessions and completed sessions in one readable file.

The database is what counts; this file is for people, for moving to another machine, and for tools
that know this format. There are no tokens in it and no digests of tokens; people of studies are in it by their names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, String, Table, insert, select, update

from hanse.errors import ConfigError, WireError
from hanse.messages import Json, loads
from hanse.store import bundles
from hanse.store.database import Database, is_name, iso, now
from hanse.store.events import Events
from hanse.store.nodes import ENROLLED, REVOKED, holders
from hanse.store.runs import study_of
from hanse.store.schema import (
    accounts,
    consents,
    model_versions,
    nodes,
    rounds,
    runs,
    studies,
    study_nodes,
    study_people,
)
from hanse.store.states import ACTIVE, TERMINAL, RunState
from hanse.store.studies import StudyBounds, all_studies
from hanse.whole_files import write_whole

FORMAT_VERSION = 1
MAX_BYTES = 256 << 20
_SAME_S = 1e-5  # times in the file are rounded to microseconds
_REPLACED = (RunState.PENDING, RunState.AWAITING_CONSENT)  # what moves or has ended here stays as it is
_SHA = re.compile(r"[0-9a-f]{64}")

_TIME, _MAYBE_TIME = "a time in ISO 8601", "a time in ISO 8601 or null"
_NODE: Mapping[str, Any] = {
    "status": str,
    "serial": str,
    "fingerprint": str,
    "next_serial": (str, type(None)),
    "next_fingerprint": (str, type(None)),
    "registered_at": _TIME,
    "last_heartbeat": _MAYBE_TIME,
    "address": str,
    "capabilities": dict,
    "summary": dict,
    "datasets": list,
    "consent_mode": str,
    "updated": _TIME,
}
_STUDY: Mapping[str, Any] = {
    "name": str,
    "purpose": str,
    "people": list,
    "nodes": list,
    "created": _TIME,
    "closed": _MAYBE_TIME,
    "ends": _MAYBE_TIME,
    "most_epsilon": (int, float, type(None)),
    "most_delta": (int, float, type(None)),
}
_RUN: Mapping[str, Any] = {
    "session_id": str,
    "state": str,
    "config": dict,
    "bundle_hash": str,
    "bundle": dict,
    "nodes": list,
    "proposer": str,
    "seed": int,
    "created": _TIME,
    "started": _MAYBE_TIME,
    "ended": _MAYBE_TIME,
    "expires": _MAYBE_TIME,
    "reason": str,
    "result": (str, type(None)),
    "step": (int, type(None)),
    "round": (int, type(None)),
    "updated": _TIME,
    "consents": list,
    "rounds": list,
    "models": list,
}
_CONSENT: Mapping[str, Any] = {
    "node": str,
    "decision": str,
    "hash": str,
    "actor": str,
    "via": str,
    "reason": str,
    "time": _TIME,
}
_ROUND: Mapping[str, Any] = {
    "step": int,
    "label": str,
    "round": (int, type(None)),
    "started": _TIME,
    "ended": _TIME,
    "status": str,
    "record": dict,
}
_MODEL: Mapping[str, Any] = {
    "version": int,
    "round": (int, type(None)),
    "sha": str,
    "nbytes": int,
    "metrics": dict,
    "created": _TIME,
}
_TIMES = {"registered_at", "last_heartbeat", "updated", "created", "started", "ended", "expires", "time"}
_Part = tuple[str, Table, Mapping[str, Any]]
_PARTS: tuple[_Part, ...] = (
    ("consents", consents, _CONSENT),
    ("rounds", rounds, _ROUND),
    ("models", model_versions, _MODEL),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """Ids that were added, updated, or left alone because what is here is as new or newer."""

    added: tuple[str, ...]
    updated: tuple[str, ...]
    skipped: tuple[str, ...]


class StateFile:
    """The whole state of a federation as one JSON file, out and in again (``federated_state.json``)."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def export_state(self, history: int | None = None, brief: bool = False) -> dict[str, Json]:
        """Registry, active and completed sessions, as they are at one moment.

        Args:
            history: at most so many completed sessions, the latest (None: all).
            brief: without the records of steps, and without the code of sessions that have ended.
        """
        with self._database.write() as tx:  # nobody writes meanwhile, so it is one moment
            found = tx.connection
            registry = {row["id"]: _shown(row, _NODE) for row in _rows(found, select(nodes).order_by(nodes.c.id))}
            active = select(runs).where(runs.c.state.in_(sorted(ACTIVE))).order_by(runs.c.created, runs.c.id)
            done = select(runs).where(runs.c.state.in_(sorted(TERMINAL)))
            latest = _rows(found, done.order_by(runs.c.ended.desc(), runs.c.id).limit(history))
            return {
                "schema_version": FORMAT_VERSION,
                "saved_at": iso(now()),
                "clients": registry,
                "studies": [study.public() for study in all_studies(found)],
                "active_sessions": [_session(found, row, brief) for row in _rows(found, active)],
                "completed_sessions": [_session(found, row, brief) for row in reversed(latest)],
            }

    def save(self, path: str | os.PathLike[str], history: int | None = None, brief: bool = False) -> Path:
        """Writes the file: whole and synced, or the one that was there before stays. Arguments as of
        :meth:`export_state`."""
        target = Path(path)
        raw = (json.dumps(self.export_state(history, brief), indent=1, allow_nan=False) + "\n").encode()
        write_whole(target, raw)
        return target

    def load(self, path: str | os.PathLike[str], actor: str) -> Imported:
        """``import_state`` of a file."""
        try:
            if os.path.getsize(path) > MAX_BYTES:
                raise ConfigError(f"the state file is over the limit of {MAX_BYTES} bytes")
            raw = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"the state file cannot be read: {error.strerror}") from None
        try:
            return self.import_state(loads(raw), actor)
        except (WireError, UnicodeDecodeError) as error:
            raise ConfigError(f"the state file is not JSON: {error}") from None

    def import_state(self, state: Json, actor: str) -> Imported:
        """Merges an exported state; all of it, or (``ConfigError``) nothing.

        What is here stays unless the file's is newer. A revoked node stays revoked. A session that
        was running cannot go on without its checkpoint, which is not part of the file: it comes in
        as failed, with that reason.
        """
        registry, sessions, projects = _validated(state)
        added: list[str] = []
        updated: list[str] = []
        skipped: list[str] = []
        with self._database.write() as tx:
            for values in registry:
                here = tx.execute(select(nodes.c.updated, nodes.c.status).where(nodes.c.id == values["id"])).first()
                shown = (values["fingerprint"], *filter(None, [values["next_fingerprint"]]))
                if any(holder != values["id"] for one in shown for holder in holders(tx, one)):
                    raise ConfigError(f"the certificate of node {values['id']} belongs to another node here")
                if here is None:
                    tx.execute(insert(nodes).values(values))
                    added.append(values["id"])
                elif here.updated >= values["updated"] - _SAME_S:
                    skipped.append(values["id"])
                else:
                    kept = {"status": REVOKED} if here.status == REVOKED else {}
                    tx.execute(update(nodes).where(nodes.c.id == values["id"]).values({**values, **kept}))
                    updated.append(values["id"])
            for values, parts in sessions:
                before = tx.execute(select(runs.c.updated, runs.c.state).where(runs.c.id == values["id"])).first()
                if before is not None and (
                    before.state not in _REPLACED or before.updated >= values["updated"] - _SAME_S
                ):
                    skipped.append(values["id"])
                    continue
                values |= bundles.put(tx.connection, values["bundle"])
                if before is None:
                    tx.execute(insert(runs).values(values))
                    added.append(values["id"])
                else:
                    tx.execute(update(runs).where(runs.c.id == values["id"]).values(values))
                    updated.append(values["id"])
                for part, table, _ in _PARTS:
                    tx.execute(table.delete().where(table.c.run == values["id"]))
                    if parts[part]:
                        tx.execute(insert(table), parts[part])
            for values in projects:
                if tx.execute(select(studies.c.name).where(studies.c.name == values["name"])).first() is not None:
                    skipped.append(values["name"])  # who is in it is the operator's to say, here
                    continue
                people, members = values.pop("people"), values.pop("nodes")
                tx.execute(insert(studies).values(values))
                known = select(accounts.c.id).where(accounts.c.name.in_(people))
                who = [{"study": values["name"], "account": id} for (id,) in tx.execute(known).all()]
                with_it = [{"study": values["name"], "node": node} for node in members]
                for table, rows in ((study_people, who), (study_nodes, with_it)):
                    for row in rows:
                        tx.execute(insert(table).values(row))
                added.append(values["name"])
            detail = {"added": added, "updated": updated, "skipped": skipped}
            self._events.record(tx, "state.imported", actor=actor, detail=detail)
        return Imported(tuple(added), tuple(updated), tuple(skipped))


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _shown(row: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Json]:
    return {key: iso(row[key]) if key in _TIMES else row[key] for key in fields if key in row}


def _session(connection: Connection, row: dict[str, Any], brief: bool) -> dict[str, Json]:
    shown: dict[str, Json] = {"session_id": row["id"], **_shown(row, _RUN)}
    brief_bundle = brief and row["state"] in TERMINAL
    shown["bundle"] = {} if brief_bundle else bundles.whole(connection, row["bundle"], row["code"])
    for part, table, fields in _PARTS:
        query = select(table).where(table.c.run == row["id"]).order_by(*table.primary_key.columns)
        left_out = brief and table is rounds
        shown[part] = [] if left_out else [_shown(r, fields) for r in _rows(connection, query)]
    return shown


def _validated(
    state: Json,
) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], dict[str, Any]]], list[dict[str, Any]]]:
    top = {
        "schema_version": int,
        "saved_at": _TIME,
        "clients": dict,
        "studies": list,
        "active_sessions": list,
        "completed_sessions": list,
    }
    version = state.get("schema_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise ConfigError(f"the state file has schema version {version!r}; this release reads {FORMAT_VERSION}")
    _fields(state, top, "the state file")
    registry = []
    for node_id, item in state["clients"].items():
        where = f"client {node_id!r}"
        if not is_name(node_id):
            raise ConfigError(f"{where}: this cannot be the id of a node")
        values = _fields(item, _NODE, where)
        if values["status"] not in (ENROLLED, REVOKED):
            raise ConfigError(f"{where}: unknown status {values['status']!r}")
        if not values["fingerprint"] or not all(isinstance(d, dict) for d in values["datasets"]):
            raise ConfigError(f"{where}: a fingerprint and a list of datasets are needed")
        following = values["next_serial"], values["next_fingerprint"]
        if following != (None, None) and not all(following):
            raise ConfigError(f"{where}: a next certificate has both a serial number and a fingerprint")
        registry.append(_fits(nodes, {"id": node_id, **values}, where))
    sessions = []
    seen: set[str] = set()
    for kind, states in (("active_sessions", ACTIVE), ("completed_sessions", TERMINAL)):
        for item in state[kind]:
            values, parts = _read_session(item, states, kind)
            if values["id"] in seen:
                raise ConfigError(f"session {values['id']} stands twice in the state file")
            seen.add(values["id"])
            sessions.append((values, parts))
    return registry, sessions, [_read_study(item) for item in state["studies"]]


def _read_study(item: Json) -> dict[str, Any]:
    values = _fields(item, _STUDY, "a study")
    where = f"study {values['name']!r}"
    if not is_name(values["name"]) or not all(is_name(node) for node in values["nodes"]):
        raise ConfigError(f"{where}: a study and its nodes have names")
    if not all(isinstance(one, str) for one in values["people"]):
        raise ConfigError(f"{where}: people are a list of names")
    try:
        values |= StudyBounds(values["ends"], values["most_epsilon"], values["most_delta"]).checked()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    values |= {name: list(dict.fromkeys(values[name])) for name in ("people", "nodes")}
    _fits(studies, {name: value for name, value in values.items() if name not in ("people", "nodes")}, where)
    return values


def _read_session(
    item: Json, states: frozenset[RunState], kind: str
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    values = _fields(item, _RUN, f"a session of {kind}")
    run_id = values.pop("session_id")
    where = f"session {run_id!r}"
    if not is_name(run_id):
        raise ConfigError(f"{where}: this cannot be the id of a run")
    if values["state"] not in states:
        raise ConfigError(f"{where}: state {values['state']!r} does not belong into {kind}")
    if not all(is_name(n) for n in values["nodes"]):
        raise ConfigError(f"{where}: nodes must be a list of node ids")
    if values["result"] is not None and not _SHA.fullmatch(values["result"]):
        raise ConfigError(f"{where}: the result is not a SHA-256")
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, _, fields in _PARTS:
        parts[part] = [{"run": run_id, **_fields(p, fields, f"{where}, {part}")} for p in values.pop(part)]
        keys = [p["node"] if part == "consents" else p["step" if part == "rounds" else "version"] for p in parts[part]]
        if len(set(keys)) != len(keys):
            raise ConfigError(f"{where}: {part} repeat themselves")
    if any(c["decision"] not in ("accept", "reject") for c in parts["consents"]):
        raise ConfigError(f"{where}: a decision is 'accept' or 'reject'")
    if any(r["status"] not in ("ok", "failed") or r["step"] < 0 for r in parts["rounds"]):
        raise ConfigError(f"{where}: a round has a status 'ok' or 'failed' and a step from 0")
    if any(not _SHA.fullmatch(m["sha"]) or m["version"] < 1 for m in parts["models"]):
        raise ConfigError(f"{where}: a model version has a number from 1 and a SHA-256")
    if values["state"] in (RunState.RUNNING, RunState.PAUSED, RunState.STOPPING):
        values["reason"] = f"was {values['state']} when its state was exported; start a new run"
        values["state"], values["ended"] = str(RunState.FAILED), now()
    for part, table, _ in _PARTS:
        for row in parts[part]:
            _fits(table, row, f"{where}, {part}")
    return _fits(runs, {"id": run_id, "study": study_of(values["config"]), **values}, where), parts


def _fits(table: Table, values: dict[str, Any], where: str) -> dict[str, Any]:
    """``values``, if the columns can hold them (SQLite would take anything)."""
    for key, value in values.items():
        kind = table.c[key].type
        bits = 63 if isinstance(kind, BigInteger) else 31
        if isinstance(kind, Integer) and value is not None and not -(1 << bits) <= value < 1 << bits:
            raise ConfigError(f"{where}: {key} is too large")
        if isinstance(kind, String) and kind.length and value is not None and len(value) > kind.length:
            raise ConfigError(f"{where}: {key} is longer than {kind.length} characters")
    return values


def _fields(item: Json, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of an object, times as seconds. Exactly these must be there."""
    if not isinstance(item, dict) or set(item) != set(fields):
        found = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise ConfigError(f"{where}: expected exactly {', '.join(sorted(fields))}; found {found}")
    values: dict[str, Any] = {}
    for key, kind in fields.items():
        value = item[key]
        if kind in (_TIME, _MAYBE_TIME):
            value = _time(value, kind, f"{where}, {key}")
        elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{where}: {key} has the wrong type ({type(value).__name__})")
        if isinstance(value, str) and ("\0" in value or not _encodes(value)):
            raise ConfigError(f"{where}: {key} is not proper text")
        values[key] = value
    return values


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time(value: Json, kind: str, where: str) -> float | None:
    if value is None and kind is _MAYBE_TIME:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{where}: expected {kind} with its zone, found {value!r}") from None
