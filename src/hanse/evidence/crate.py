"""The evidence of a run described as an RO-Crate: ``ro-crate-metadata.json``, in JSON-LD.

References: RO-Crate 1.1, https://w3id.org/ro/crate/1.1; the run is a ``CreateAction``, each decision an
``AuthorizeAction`` or a ``RejectAction`` of schema.org.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from hanse.messages import Json
from hanse.store.states import TERMINAL, RunState

METADATA = "ro-crate-metadata.json"
_ABOUT = {
    "authority.crt": ("The federation's authority, whose key signs this evidence", "application/x-pem-file"),
    "audit.jsonl": (
        "Lines of the coordinator's audit log about the run, in their chain of hashes",
        "application/jsonl",
    ),
    "consents.json": ("What each data owner decided, signed by the node", "application/json"),
    "events.jsonl": ("What happened in the run, in order", "application/jsonl"),
    "manifest.json": ("All files with their SHA-256: what is signed", "application/json"),
    "manifest.sig": ("The signature of manifest.json (ECDSA with SHA-256, base64)", "text/plain"),
    "models.json": ("The versions of the model, by SHA-256, with what was measured", "application/json"),
    "policies.json": ("The operator's policies by which was decided, by version", "application/json"),
    "preview.txt": ("Settings and code as the data owners read them", "text/plain"),
    "privacy.json": ("What was promised about privacy, and how contributions came together", "application/json"),
    "proposal.json": (
        "The proposal, whose SHA-256 the data owners agreed to: settings, data, code",
        "application/json",
    ),
    "rounds.jsonl": ("The record of each step", "application/jsonl"),
    "run.json": ("The run: who proposed it, of whom, how it ended", "application/json"),
}


def described(run: Mapping[str, Json], consents: list[dict[str, Json]], files: Mapping[str, bytes], made: str) -> bytes:
    """The metadata.

    Args:
        run: ``{id, proposer, purpose, state, started, ended, hanse, result, ...}``.
        consents: ``{node, decision, time, ...}`` each.
        files: all others, but for the manifest, which has this file's hash.
        made: when (ISO, UTC).
    """
    parts = [_file(name, files.get(name)) for name in sorted({*files, "manifest.json", "manifest.sig"})]
    decisions = [_decision(consent) for consent in consents]
    action: dict[str, Json] = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Federated run {run['id']}",
        "description": run.get("purpose") or "no purpose was said",
        "agent": {"@id": "#proposer"},
        "instrument": {"@id": "#hanse"},
        "object": {"@id": "proposal.json"},
        "actionStatus": {"@id": f"http://schema.org/{_status(RunState(run['state']))}"},
    }
    action |= {"startTime": run["started"]} if run.get("started") else {}
    action |= {"endTime": run["ended"]} if run.get("ended") else {}
    result: list[dict[str, Json]] = []
    if run.get("result"):
        action["result"] = {"@id": "#result"}
        model = {"@id": "#result", "@type": "CreativeWork", "name": "The run's result", "sha256": run["result"]}
        result = [{**model, "description": "Kept at the coordinator, not in this crate: named by its SHA-256"}]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Evidence of the federated run {run['id']}",
        "description": "Who asked what of whose data, who agreed, what was computed, and what came of it",
        "datePublished": made,
        "author": {"@id": "#proposer"},
        "license": {"@id": "#terms"},
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "mentions": [{"@id": "#run"}, *({"@id": one["@id"]} for one in decisions)],
    }
    graph: list[Json] = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        root,
        *parts,
        action,
        *result,
        *decisions,
        *({"@id": f"#node-{c['node']}", "@type": "Organization", "name": c["node"]} for c in consents),
        {"@id": "#proposer", "@type": "Person", "name": run["proposer"]},
        {"@id": "#hanse", "@type": "SoftwareApplication", "name": "Hanse", "version": run.get("hanse", "")},
        {
            "@id": "#terms",
            "@type": "CreativeWork",
            "name": "For those who took part in the run, and for whom the law entitles",
        },
    ]
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
    return json.dumps({"@context": context, "@graph": graph}, indent=1, ensure_ascii=False).encode()


def _status(state: RunState) -> str:
    """As schema.org calls it."""
    if state is RunState.COMPLETED:
        return "CompletedActionStatus"
    if state in TERMINAL:
        return "FailedActionStatus"
    begun = state not in (RunState.PENDING, RunState.AWAITING_CONSENT)
    return "ActiveActionStatus" if begun else "PotentialActionStatus"


def _file(name: str, content: bytes | None) -> dict[str, Json]:
    what, form = _ABOUT[name]
    about: dict[str, Json] = {"@id": name, "@type": "File", "name": what, "encodingFormat": form}
    if content is not None:
        about |= {"contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    return about


def _decision(consent: Mapping[str, Json]) -> dict[str, Json]:
    kind = "AuthorizeAction" if consent["decision"] == "accept" else "RejectAction"
    return {
        "@id": f"#decision-{consent['node']}",
        "@type": kind,
        "name": f"{consent['node']}: {consent['decision']}",
        "agent": {"@id": f"#node-{consent['node']}"},
        "object": {"@id": "proposal.json"},
        "endTime": consent["time"],
    }
