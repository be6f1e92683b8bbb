"""From a data scientist's settings to a frozen proposal: which nodes, which datasets, which features."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import hanse
from hanse import algorithms, alignment, bundle, features, releases
from hanse.bundle import Bundle
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, NotAllowed, NotFound, OtherRelease
from hanse.messages import Json
from hanse.store.nodes import ENROLLED, Node
from hanse.summary import labels_told

Dataset = Mapping[str, Json]
_HEAVY = 0.9  # of all rows: worth a word


@dataclass(frozen=True, slots=True)
class FrozenProposal:
    """What was frozen, and for whom. ``warnings`` are for the data scientist."""

    bundle: Bundle
    nodes: tuple[str, ...]
    warnings: tuple[str, ...]


def freeze(
    config: RunConfig, nodes: Sequence[Node], online: Collection[str], allowed: Collection[str] | None = None
) -> FrozenProposal:
    """The proposal for ``config``.

    Args:
        nodes: the registry.
        online: who is on line now; a run without data asks these where it names nobody.
        allowed: the whitelist of the coordinator; None: no such list.

    Raises:
        NotFound, NotAllowed: a node that was asked for is unknown, or may not take part.
        Conflict: no node can take part.
        OtherRelease: a node that would be asked is of another line of releases than this coordinator.
        ConfigError: datasets, target or features do not fit.
    """
    usable = {n.id: n for n in nodes if n.status == ENROLLED and (allowed is None or n.id in allowed)}
    if config.expected_client_ids is not None:
        _check_expected(config.expected_client_ids, {n.id for n in nodes}, usable)
        usable = {id: usable[id] for id in config.expected_client_ids}
    if not algorithms.needs_data(config):
        chosen = sorted(usable if config.expected_client_ids is not None else set(usable) & set(online))
        if not chosen:
            raise Conflict("no node is on line; start one, or name them in expected_client_ids")
        _check_releases([usable[id] for id in chosen])
        frozen = bundle.freeze(config, {"features": [], "kinds": {}}, {})
        return FrozenProposal(frozen, tuple(chosen), _warn(config, chosen))
    datasets = choose_datasets(config, usable)
    _check_releases([usable[id] for id in datasets])
    if not algorithms.needs_model(config):
        found = alignment.of(config, {node: _columns(d) for node, d in datasets.items()}, {})
        frozen = bundle.freeze(config, found, bundle.bound(datasets))
        return FrozenProposal(frozen, tuple(sorted(datasets)), _warn(config, sorted(datasets)))
    alignment.check_target(config)
    metadata = {c for d in datasets.values() for c in d.get("metadata_columns") or ()}
    labels = {
        name: {node: labels_told(usable[node].summary, str(d.get("name")), name) for node, d in datasets.items()}
        for name in config.targets
    }
    schemas = {node: _columns(d) for node, d in datasets.items()}
    found = alignment.of(config, schemas, labels, metadata)
    alignment.check_labels(config, labels)
    alignment.check_numbers(config, schemas)
    alignment.check_measures(config, schemas)
    named = bundle.bound(datasets)
    warnings = (*found["warnings"], *_heavy(config, named), *_warn(config, sorted(datasets)))
    found["warnings"] = list(warnings)  # owners read them too
    return FrozenProposal(bundle.freeze(config, found, named), tuple(sorted(datasets)), warnings)


def _check_releases(nodes: Sequence[Node]) -> None:
    """Raises ``OtherRelease`` where one of them could only refuse what this coordinator would send."""
    others = {n.id: n.release for n in nodes if not releases.together(n.release, hanse.__version__)}
    if others:
        said = ", ".join(f"{id} runs hanse {release}" for id, release in sorted(others.items()))
        raise OtherRelease(
            f"{said}, and this coordinator runs hanse {hanse.__version__}: they cannot take part in one run; bring "
            "them to one release, or name the other nodes in expected_client_ids"
        )


def choose_datasets(config: RunConfig, nodes: Mapping[str, Node]) -> dict[str, Dataset]:
    """Node id to the one dataset of it that carries the tags, and the ``country`` of the node."""
    found: dict[str, Dataset] = {}
    for id, node in sorted(nodes.items()):
        fitting = [d for d in node.datasets if set(config.tags) <= set(d.get("tags") or ())]
        if len(fitting) > 1 and config.target_column:  # the target may tell which is meant
            for name in config.targets:
                fitting = _with_target(name, id, fitting)
        if len(fitting) > 1:
            names = ", ".join(str(d.get("name")) for d in fitting)
            raise ConfigError(f"node {id} has several datasets that fit ({names}); give tags that only one carries")
        if fitting:
            found[id] = {**fitting[0], "country": node.country}
        elif config.expected_client_ids is not None:
            wanted = f"with the tags {', '.join(config.tags)}" if config.tags else "registered"
            raise ConfigError(f"node {id} has no dataset {wanted}; its owner adds one with: hanse node dataset add")
    if not found:
        wanted = f"with the tags {', '.join(config.tags)}" if config.tags else "registered"
        carried = sorted({str(tag) for node in nodes.values() for d in node.datasets for tag in d.get("tags") or ()})
        there = f"; the tags of their datasets are {', '.join(carried[:20])}" if config.tags and carried else ""
        raise Conflict(f"no node has a dataset {wanted}; there are {len(nodes)} nodes{there}")
    return found


def _with_target(target: str, node: str, datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets that have the column to be predicted. Raises ``ConfigError`` where none has."""
    columns = {str(d.get("name")): list(features.canonical(_columns(d))) for d in datasets}
    found = [d for d in datasets if target in columns[str(d.get("name"))]]
    if not found:
        close = difflib.get_close_matches(target, sorted({c for own in columns.values() for c in own}), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"the target column {target!r} is in no dataset of node {node} that fits ({', '.join(columns)}){hint}"
        )
    return found


def _heavy(config: RunConfig, named: Mapping[str, Mapping[str, Json]]) -> tuple[str, ...]:
    total = sum(d["most_rows"] for d in named.values())
    return tuple(
        f"{node} declares {d['most_rows'] / total:.1%} of all rows, so its model is nearly that of the average; "
        "max_weight_share bounds the share of one node"
        for node, d in named.items()
        if len(named) > 1 and d["most_rows"] > _HEAVY * total and config.max_weight_share > _HEAVY
    )


def _columns(dataset: Dataset) -> Mapping[str, str]:
    columns = dataset.get("columns")
    return columns if isinstance(columns, Mapping) else {}


def _check_expected(expected: Sequence[str], known: Collection[str], usable: Mapping[str, Node]) -> None:
    if not expected:
        raise ConfigError("expected_client_ids is an empty list; name nodes, or leave it out")
    unknown = sorted(set(expected) - set(known))
    if unknown:
        raise NotFound(f"there is no node {', '.join(unknown)}")
    barred = sorted(set(expected) - set(usable))
    if barred:
        raise NotAllowed(f"{', '.join(barred)} may not take part: not on the coordinator's whitelist, or revoked")


def _warn(config: RunConfig, nodes: Sequence[str]) -> tuple[str, ...]:
    if config.min_available_nodes > len(nodes):
        raise ConfigError(f"min_available_nodes is {config.min_available_nodes}, but only {len(nodes)} nodes are asked")
    if config.min_completed > len(nodes):
        raise ConfigError(f"min_completed is {config.min_completed}, but only {len(nodes)} nodes are asked")
    return ()
