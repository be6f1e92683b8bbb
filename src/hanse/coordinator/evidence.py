"""The evidence of a run, out of the store: what :mod:`hanse.evidence` seals and anybody can check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import hanse
from hanse.bundle import Bundle, thaw
from hanse.errors import ConfigError, NotFound
from hanse.evidence import chain, crate, seal
from hanse.evidence.sealed import AUTHORITY
from hanse.identity import Authority
from hanse.messages import Json, dumps
from hanse.receipts import commitment
from hanse.store import Store
from hanse.store.events import Event
from hanse.store.runs import StoredRun

POLICIES = "policies"  # the folder, in the store's own, of the policies by which was decided
_EVENTS = 1_000_000


def of_run(store: Store, run: StoredRun, authority: Authority) -> bytes:
    """The sealed file. Raises ``NotFound`` where the run was never proposed here. Blocks."""
    frozen = Bundle(store.runs.bundle(run.id))
    if not frozen.content:
        raise NotFound(f"the proposal of run {run.id} is not here, so nobody could check what was agreed to")
    # The log before the events: what it reports is an event already
    log = chain.excerpt(store.audit.each(), run.id)
    events = store.events.since(0, _EVENTS, run=run.id)
    steps = store.rounds.list(run.id, limit=_EVENTS)
    run = store.runs.get(run.id)
    consents = [{**given.public(), "proof": given.proof} for given in store.consents.list(run.id)]
    about = {**run.public(), "hanse": frozen.content["hanse"], "purpose": run.config.get("purpose", "")}
    files = {
        AUTHORITY: authority.pem,
        "audit.jsonl": log,
        "consents.json": _text(consents),
        "events.jsonl": _lines(event.public() for event in events),
        "models.json": _text([version.public() for version in store.models.list(run.id)]),
        "policies.json": _text(_policies(store, events)),
        "preview.txt": thaw(frozen.text, frozen.sha256).preview().encode(),  # in the order in which owners read it
        "privacy.json": _text(_privacy(frozen)),
        "proposal.json": frozen.text.encode(),
        "rounds.jsonl": _lines({**step.public(), "receipts": commitment(step.receipts)} for step in steps),
        "run.json": _text(about),
    }
    made = datetime.now(UTC).isoformat()
    files[crate.METADATA] = crate.described(about, consents, files, made)
    names = {"run": run.id, "bundle": run.bundle_hash, "state": str(run.state), "result": run.result}
    return seal({**names, "made": made, "by": f"hanse {hanse.__version__}"}, files, authority.sign)


def _policies(store: Store, events: Iterable[Event]) -> dict[str, Json]:
    """Version to the texts by file, of all by which was decided in the run; null: they were an external engine's."""
    found: dict[str, Json] = {}
    for version in {str(e.detail.get("version")) for e in events if e.kind == "policy.decision"}:
        place = store.folder / POLICIES / f"{version}.json"
        found[version] = json.loads(place.read_bytes()) if version.isalnum() and place.is_file() else None
    return found


def _privacy(frozen: Bundle) -> Mapping[str, Json]:
    content = frozen.content
    try:
        promised = frozen.guarantee()
    except ConfigError:  # of another release
        promised = None
    return {
        "guarantee": promised.to_json() if promised is not None else None,
        "words": promised.words() if promised is not None else "no noise is added; sums are exact",
        "gathering": content["gathering"],
        "transforms": content["transforms"],
    }


def _text(value: Json) -> bytes:
    return dumps(value).encode()


def _lines(values: Iterable[Json]) -> bytes:
    return b"".join(_text(value) + b"\n" for value in values)
