"""The summaries of the datasets, kept beside the catalogue: made when a dataset changes, told in every greeting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hanse.errors import NotFound
from hanse.messages import Json
from hanse.node.catalogue import Catalogue
from hanse.node.dataset import Dataset
from hanse.node.describing import Note
from hanse.node.settings import NodeSettings
from hanse.summary import summary
from hanse.table import canonical_name
from hanse.whole_files import write_whole

FILE = "summaries.json"


def summaries(home: Path) -> dict[str, Json]:
    """What :mod:`hanse.summary` said of each dataset, as it is registered now."""
    versions = {d.name: d.version for d in Catalogue(home).list()}
    return {name: entry["summary"] for name, entry in _kept(home).items() if versions.get(name) == entry.get("version")}


Look = Callable[[Path, Dataset, str | None, int, Note], dict[str, Any]]


def look(home: Path, dataset: Dataset, target: str | None, count: int, note: Note) -> dict[str, Any]:
    """The summary of the rows as they are now; ``count``: the smallest that leaves."""
    return summary(Catalogue(home).source(dataset), target, count, dataset.never_features, note)


def summarise(home: Path, dataset: Dataset, target: str | None, note: Note, look: Look = look) -> None:
    """Looks at the rows and keeps what is said of them. ``target``: None for the one that was given before;
    ``look``: what reads the file, by default in this process."""
    try:
        count = NodeSettings.load(home).policy.minimum_count
    except NotFound:
        count = NodeSettings().policy.minimum_count
    count *= dataset.most_rows_of_subject
    known = _kept(home)
    before = known.get(dataset.name, {}).get("target")
    target = target or (before if before in set(map(canonical_name, dataset.schema)) else None)
    said = look(home, dataset, target, count, note)
    _keep(home, {**known, dataset.name: {"version": dataset.version, "summary": said, "target": target}})


def forget(home: Path) -> None:
    """Drops what is kept of datasets that are not registered any more."""
    _keep(home, _kept(home))


def _kept(home: Path) -> dict[str, Any]:
    try:
        found = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(home: Path, entries: dict[str, Any]) -> None:
    names = {d.name for d in Catalogue(home).list()}
    write_whole(home / FILE, json.dumps({n: e for n, e in entries.items() if n in names}))
