"""A run as REST shows it, under the names of mllabiome's sessions."""

from __future__ import annotations

import threading
from collections.abc import Collection

from hanse import algorithms, protection
from hanse.bundle import Bundle
from hanse.config import RunConfig
from hanse.differences import differences
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.store import Store
from hanse.store.database import iso
from hanse.store.runs import StoredRun


def brief(store: Store, run: StoredRun) -> dict[str, Json]:
    """Without bundle. Blocks."""
    consents = {
        c.node: {
            "decision": c.decision,
            "time": iso(c.time),
            "actor": c.actor,
            "via": c.via,
            "reason": c.reason,
            "signed": c.proof is not None,
        }
        for c in store.consents.list(run.id)
        if c.hash == run.bundle_hash
    }
    model = store.models.latest(run.id)
    result = (
        None
        if model is None
        else {"version": model.version, "sha256": model.sha, "bytes": model.nbytes, "metrics": dict(model.metrics)}
    )
    return {
        "session_id": run.id,
        "state": str(run.state),
        "name": run.config.get("name", ""),
        "purpose": run.config.get("purpose", ""),
        "study": run.config.get("study", ""),
        "config": dict(run.config),
        "learns": algorithms.learns(str(run.config.get("federated_strategy", "auto"))),
        "nearness": algorithms.nearness_of(run.config),
        "privacy": _privacy(run),
        "proposer": run.proposer,
        "expected_clients": list(run.nodes),
        "remaining": [n for n in run.nodes if n not in consents],
        "consents": consents,
        "code_hash": run.bundle_hash,
        "created_at": iso(run.created),
        "started_at": iso(run.started),
        "ended_at": iso(run.ended),
        "expires_at": iso(run.expires),
        "reason": run.reason,
        "current_round": run.round,
        "num_rounds": run.config.get("num_rounds"),
        "step": run.step,
        "result": result,
    }


def _privacy(run: StoredRun) -> str:
    """What differential privacy it promises, in words; "" where none."""
    if run.config.get("privacy") is None:
        return ""
    try:
        return protection.words(RunConfig.parse(run.config), len(run.nodes))
    except ConfigError:  # of another release
        return ""


def changes(store: Store, run: StoredRun, nodes: Collection[str]) -> dict[str, Json]:
    """Of each of ``nodes`` that ``run`` asks: what it asks that the last run of the same person on the same data which
    this node agreed to did not (:mod:`hanse.differences`), as ``{since: that run, lines}``; nothing of a node where
    there was none. Blocks."""
    found: dict[str, Json] = {}
    now = store.runs.bundle(run.id)
    for node in sorted({*nodes} & {*run.nodes}):
        dataset = (now.get("datasets", {}).get(node) or {}).get("name")
        if since := store.consents.accepted_before(run, node, dataset):
            found[node] = {"since": since, "lines": list(differences(store.runs.bundle(since), now))}
    return found


def full(store: Store, run: StoredRun, frozen: Bundle | None = None) -> dict[str, Json]:
    """With what owners read before they decide. Blocks."""
    return {**brief(store, run), **(_shown.get(run.bundle_hash) or _read(store, run, frozen))}


_PROPOSALS = 16  # of a quarter of a megabyte each
_shown: dict[str, dict[str, Json]] = {}  # of proposals by their hash, which binds all of it; the last ones
_keeping = threading.Lock()


def _read(store: Store, run: StoredRun, frozen: Bundle | None) -> dict[str, Json]:
    """What owners read of a proposal. Whoever watches a run asks for it again and again, and it never changes."""
    frozen = frozen or Bundle(store.runs.bundle(run.id))
    if not frozen.content:
        return {"code_preview": None, "alignment": None, "datasets": None}
    found = {
        "code_preview": frozen.preview(),
        "alignment": frozen.content["alignment"],
        "datasets": frozen.content["datasets"],
    }
    if run.bundle_hash == frozen.sha256:  # a hash that stands in the database beside other content binds nothing
        with _keeping:
            while len(_shown) >= _PROPOSALS:
                del _shown[next(iter(_shown))]
            _shown[run.bundle_hash] = found
    return found
