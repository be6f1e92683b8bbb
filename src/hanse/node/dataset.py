"""One dataset of a node: what is known of it here, and the part of that which others get to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError
from hanse.summary import MIN_COUNT
from hanse.suppression import most_rows


@dataclass(frozen=True, slots=True)
class Dataset:
    """One registered dataset. ``path``, ``mock``, ``stamp`` and ``options`` are **local only**.

    Args:
        kind: ``tabular``, ``images`` or ``profile``.
        schema: column to kind, of all columns.
        version: SHA-256 (hex) of the bytes of the file; of a folder, of its sorted relative names
            and the hashes of their contents.
        metadata_columns: columns of a profile that are never features.
        image_shape: (height, width, channels), empty without images.
        public_categories: column to the labels that the owner lets others know.
        options: of the reader.
        subject: the column that says whose a row is; "": each row is somebody else's.
        subjects, most_rows_of_subject: how many persons there are, and the most rows that one of them has.
        stamp: cheap mark of the content (names, sizes, times); when it differs, the hash decides.
    """

    name: str
    tags: tuple[str, ...]
    kind: str
    schema: Mapping[str, str]
    rows: int
    version: str
    added_at: str
    path: Path = field(repr=False)
    mock: Path | None = field(default=None, repr=False)
    metadata_columns: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()
    public_categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    declared: Mapping[str, str] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    stamp: str = field(default="", repr=False)
    subject: str = ""
    subjects: int = 0
    most_rows_of_subject: int = 1

    @property
    def units(self) -> int:
        """How many persons the rows are of, where they say; else how many rows there are."""
        return self.subjects if self.subject else self.rows

    @property
    def never_features(self) -> tuple[str, ...]:
        """Columns that are about the rows and are learned from by nobody: metadata, and who the person is."""
        return (*self.metadata_columns, *([self.subject] if self.subject else []))

    def public(self, min_count: int = MIN_COUNT) -> dict[str, Any]:
        """What may leave the node. ``rows`` is rounded down to a multiple of ``min_count``, and None
        below it, so that neither a small dataset nor one row more is seen. ``most_rows`` is the most that
        it can be then: what a contribution made of it may count for. Where a person may have several rows, so many
        times ``min_count``."""
        if min_count < 1:
            raise ConfigError(f"min_count is {min_count}; expected 1 or more")
        min_count *= self.most_rows_of_subject
        return {
            "name": self.name,
            "tags": list(self.tags),
            "kind": self.kind,
            "columns": dict(self.schema),
            "metadata_columns": list(self.never_features),
            "categories": {name: list(labels) for name, labels in self.public_categories.items()},
            "rows": self.rows // min_count * min_count if self.rows >= min_count else None,
            "most_rows": most_rows(self.rows, min_count),
            "version": self.version,
            "has_mock": self.mock is not None,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, as it stands in the catalogue."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"path": str(self.path), "mock": None if self.mock is None else str(self.mock)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Dataset:
        """What :meth:`to_json` wrote. Raises what reading anything else raises: ``KeyError``, ``TypeError``, ..."""
        known = dict(entry)
        for name in ("tags", "metadata_columns", "image_shape"):
            known[name] = tuple(known[name])
        known["public_categories"] = {k: tuple(v) for k, v in known["public_categories"].items()}
        known["path"] = Path(known["path"])
        known["mock"] = None if known["mock"] is None else Path(known["mock"])
        return cls(**known)
