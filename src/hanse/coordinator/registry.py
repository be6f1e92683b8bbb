"""Who takes part, and what is said about their data: registration, lists, analysis of columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import hanse
from hanse import comparison, features, releases, validity
from hanse.coordinator import capabilities as machines
from hanse.coordinator import summaries
from hanse.coordinator.presence import Presence
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, Conflict, NotAllowed, NotFound
from hanse.identity import check_node_id
from hanse.messages import Json
from hanse.store import Store
from hanse.store.accounts import UserAccount
from hanse.store.database import iso
from hanse.store.nodes import ENROLLED, CertificateOnFile, Node

_UNENROLLED = "unenrolled:"  # stands for the certificate of a node that registered by REST alone
UNLABELLED = "unlabelled"


def enrolled(node: Node) -> bool:
    """Whether the node has a certificate, so that it can connect."""
    return not node.fingerprint.startswith(_UNENROLLED)


def check_enrolled(node: Node) -> None:
    """Raises ``NotAllowed`` for a node that was shut out: nobody speaks for it any more."""
    if node.status != ENROLLED:
        raise NotAllowed(f"node {node.id} is {node.status}; ask the operator to reinstate it")


def register(
    store: Store,
    settings: CoordinatorSettings,
    account: UserAccount,
    node_id: str,
    summary: Mapping[str, Json],
    declared: Mapping[str, Json] | None,
    address: str,
) -> tuple[Node, bool, tuple[str, ...]]:
    """Registers a node for a data owner's account; whether it is new, and what of it does not count and why.

    What a node has measured itself (its machine, its data) stays: what is told here beside it is kept as declared.

    Raises:
        NotAllowed: it is not on the whitelist, or (without one) neither enrolled nor linked.
        Conflict: another account decides for it.
    """
    check_node_id(node_id)
    try:
        known: Node | None = store.nodes.get(node_id)
    except NotFound:
        known = None
    if known is not None:
        check_enrolled(known)
    if settings.expected_client_ids is not None:
        if node_id not in settings.expected_client_ids:
            raise NotAllowed(f"{node_id} is not on this coordinator's whitelist (expected_client_ids)")
    elif known is None and node_id not in account.nodes and not settings.open_registration:
        raise NotAllowed(f"{node_id} is not known here; join with a join token, or ask the operator to link it")
    if node_id not in account.nodes:
        if known is not None and known.owner is None and enrolled(known):
            # an enrolled node without an owner is not anybody's to take
            raise Conflict(f"{node_id} is enrolled and has no owner yet; ask the operator to link it to your account")
        store.accounts.link(account.id, node_id, actor=account.name)
    if known is None:
        store.nodes.register(
            node_id, CertificateOnFile("-", _UNENROLLED + node_id), address=address, actor=account.name
        )
    said = [] if known is None else machines.contradicted(known, declared or {})
    if known is not None and known.datasets and summary:
        said.append("the node itself told what its data are like; its summary stays")
        summary = {}
    node = store.nodes.describe(
        node_id, summary=summary or None, capabilities=machines.told(known, declared), address=address
    )
    return node, known is None or not (known.summary or machines.declared(known)), tuple(said)


def check_summary(summary: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` where the numbers of a registration contradict each other."""
    counts, samples = summary["class_distribution"], summary["num_samples"]
    if sum(counts.values()) != samples:
        raise ConfigError(
            f"class_distribution sums to {sum(counts.values())}, num_samples is {samples}; count rows without "
            f"a label under {UNLABELLED!r}"
        )
    columns = summary.get("features")
    if columns is not None:
        features.canonical(columns)
        if len(columns) != summary["num_features"]:
            raise ConfigError(f"num_features is {summary['num_features']}, but {len(columns)} features are named")


def datasets_of(node: Node, columns: bool) -> list[dict[str, Json]]:
    """The datasets that a node told of, with the names of their columns and categories only where ``columns``."""
    return [{k: v for k, v in d.items() if columns or k not in ("columns", "categories")} for d in node.datasets]


def client(node: Node, presence: Presence, settings: CoordinatorSettings, columns: bool = False) -> dict[str, Json]:
    """A node in mllabiome's words."""
    return {
        "client_id": node.id,
        "status": presence.status(node.id, node.last_heartbeat),
        "connected": presence.reaches(node.id),
        "busy": presence.busy(node.id),
        "last_heartbeat": iso(presence.last_heard(node.id, node.last_heartbeat)),
        "registered_at": iso(node.registered_at),
        "country": node.country or None,
        "summary": summaries.shown(node, settings.small_cell, columns),
        "datasets": datasets_of(node, columns),
    }


def node_view(
    node: Node, presence: Presence, settings: CoordinatorSettings, columns: bool = False, clock: str = ""
) -> dict[str, Json]:
    """A node in our own words. ``clock``: what is wrong with its clock."""
    status = presence.status(node.id, node.last_heartbeat) if node.status == "enrolled" else node.status
    return {
        "id": node.id,
        "status": status,
        "connected": presence.reaches(node.id),
        "busy": presence.busy(node.id),
        "enrolled": enrolled(node),
        "owner": node.owner,
        "address": node.address,
        "last_heartbeat": iso(presence.last_heard(node.id, node.last_heartbeat)),
        "registered_at": iso(node.registered_at),
        "consent_mode": node.consent_mode,
        "release": node.release,
        "country": node.country or None,
        "warnings": [*warnings(node), *([clock] if clock else [])],
        "capabilities": dict(node.capabilities),
        "summary": summaries.shown(node, settings.small_cell, columns),
        "datasets": datasets_of(node, columns),
    }


def warnings(node: Node) -> list[str]:
    """What its owner or the operator has to do about a node, in sentences."""
    found = []
    if not releases.together(node.release, hanse.__version__):
        found.append(
            f"it runs hanse {node.release} and this coordinator {hanse.__version__}: it takes part in no run until "
            "both are of one line"
        )
    ends = validity.time(node.capabilities.get("certificate_ends"))
    remedy = "make a join token that names it; its owner then runs: hanse node init --join TOKEN"
    if soon := validity.ending(f"the certificate of {node.id}", ends, remedy):
        found.append(soon)
    return found if node.status == ENROLLED else []


def analyze(
    nodes: Sequence[Node], client_ids: Collection[str] | None, tags: Collection[str], include_features: bool
) -> dict[str, Json]:
    """Union and intersection of the features of the nodes, and what metadata columns they share.

    Columns come from the datasets that carry ``tags``; of a node without one, from its registration.
    Raises ``NotFound`` for an unknown id, ``Conflict`` where nobody has told any column.
    """
    if client_ids is not None:
        unknown = sorted(set(client_ids) - {n.id for n in nodes})
        if unknown:
            raise NotFound(f"there is no client {', '.join(unknown)}")
        nodes = [n for n in nodes if n.id in client_ids]
    schemas: dict[str, dict[str, str]] = {}
    metadata: dict[str, set[str]] = {}
    labels: dict[str, list[str]] = {}
    warnings: list[str] = []
    for node in nodes:
        columns, extra = _told(node, tags)
        if not columns and not extra:
            warnings.append(f"{node.id} has not told its columns; it cannot be aligned")
            continue
        schemas[node.id] = {c: k for c, k in columns.items() if c not in extra}
        metadata[node.id] = set(features.canonical(sorted(extra)))
        labels[node.id] = _labels(*summaries.of_all(node))
    if not schemas:
        raise Conflict("no client has told its columns yet; add a dataset at a node, or register with 'features'")
    union, intersection = features.union_and_intersection(schemas)
    warnings += [f"{name!r} is {where}" for name, where in features.conflicts(schemas).items()]
    per_client = {}
    for id, columns in schemas.items():
        own = set(features.canonical(columns))
        others = {c for other, found in schemas.items() if other != id for c in features.canonical(found)}
        per_client[id] = {
            "n_features": len(own),
            "only_here": len(own - others),
            "coverage": round(len(own) / len(union), 6) if union else None,
        }
    warnings += comparison.labels(labels, "the target")
    return {
        "clients": sorted(schemas),
        "union": {"count": len(union), **({"features": union} if include_features else {})},
        "intersection": {"count": len(intersection), **({"features": intersection} if include_features else {})},
        "common_metadata_columns": sorted(set.intersection(*metadata.values())),
        "per_client": per_client,
        "label_sets": labels,
        "warnings": warnings,
    }


def _told(node: Node, tags: Collection[str]) -> tuple[dict[str, str], set[str]]:
    """Columns with their kinds, and which of them are metadata."""
    columns: dict[str, str] = {}
    extra: set[str] = set()
    for dataset in node.datasets:
        if set(tags) <= set(dataset.get("tags") or ()):
            columns.update(dataset.get("columns") or {})
            extra.update(dataset.get("metadata_columns") or ())
    if not columns and not tags:
        columns = dict.fromkeys(_texts(node.summary.get("features")), "numeric")
        extra = set(_texts(node.summary.get("metadata_columns")))
    return columns, extra


def _labels(*summaries: Mapping[str, Json]) -> list[str]:
    found = [s.get("class_distribution") for s in summaries]
    return sorted({str(label) for d in found if isinstance(d, Mapping) for label in d})


def _texts(value: Json) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
