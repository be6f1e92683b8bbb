"""Profile and metadata: a folder with a ``*profiles.tsv`` (abundances, MetaPhlAn layout) and a
``*metadata.tsv`` (one row per sample), joined by the sample id.

Public files have the features as rows or the samples as rows, so the orientation is found and
reported. Ids stay on the node: :class:`JoinReport` shows counts, and ids only to who asks for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.readers import _columns
from hanse.readers import csv as _csv
from hanse.table import Array, Column, ColumnKind, Table

EXTENSIONS = (".tsv",)
KIND = "profile"
PROFILES = ("*profiles.tsv", "*profile.tsv")
METADATA = ("*metadata.tsv",)
RANKS = "dkpcofgst"  # domain or kingdom, phylum, class, order, family, genus, species, strain
FEATURE_HEADS = frozenset(
    (
        "clade_name",
        "#clade_name",
        "clade",
        "feature",
        "features",
        "feature_id",
        "taxon",
        "taxa",
        "taxonomy",
        "lineage",
        "otu",
        "otu_id",
        "#otu id",
        "asv",
        "asv_id",
    )
)


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What came of the join. The ids are for the owner: they are not in ``repr`` nor in ``counts``.

    Args:
        orientation: ``features as rows`` or ``samples as rows``, as the profile has them.
        sample_id: the metadata column with the ids.
        ranks: rank letter to number of features in the file; ``?`` where the name tells no rank.
        profile_duplicates, metadata_duplicates: ids that stand more than once.
        metadata_missing: rows of the metadata without an id.
    """

    orientation: str
    sample_id: str
    profile_samples: int
    metadata_samples: int
    joined: int
    features: int
    ranks: Mapping[str, int]
    metadata_columns: tuple[str, ...]
    metadata_missing: int = 0
    only_in_profile: tuple[str, ...] = field(default=(), repr=False)
    only_in_metadata: tuple[str, ...] = field(default=(), repr=False)
    profile_duplicates: tuple[str, ...] = field(default=(), repr=False)
    metadata_duplicates: tuple[str, ...] = field(default=(), repr=False)

    def counts(self) -> dict[str, int]:
        """Numbers without ids; exact, so for the owner."""
        return {
            "profile_samples": self.profile_samples,
            "metadata_samples": self.metadata_samples,
            "joined": self.joined,
            "only_in_profile": len(self.only_in_profile),
            "only_in_metadata": len(self.only_in_metadata),
            "profile_duplicates": len(self.profile_duplicates),
            "metadata_duplicates": len(self.metadata_duplicates),
            "metadata_missing": self.metadata_missing,
        }


def looks_like(path: Path) -> bool:
    """Whether a folder holds both files."""
    return bool(_matches(path, PROFILES)) and bool(_matches(path, METADATA))


def read(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    sample_id: str | None = None,
    rank: str | None = None,
) -> Table:
    """The joined table: the sample id, the other metadata columns, then the features (numeric), rows
    sorted by sample id. Samples that are in one file only are left out, as :func:`join` reports.

    Args:
        schema: column to kind; enforced.
        sample_id: the metadata column with the ids; by default the one whose values are the
            profile's samples.
        rank: keep the features of one rank (``g`` for genus); a table of all ranks holds each count
            several times over.

    Raises:
        DataError: an id that is there twice or missing, no common sample, a feature that is no number.
    """
    return load(path, schema=schema, sample_id=sample_id, rank=rank)[0]


def join(path: Path, *, sample_id: str | None = None) -> JoinReport:
    """The report alone; also of files that :func:`read` refuses for their ids."""
    return _Files(path, sample_id).report


def load(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    sample_id: str | None = None,
    rank: str | None = None,
) -> tuple[Table, JoinReport]:
    """Table (see :func:`read`) and report."""
    if rank is not None and (len(rank) != 1 or rank not in RANKS):
        raise ConfigError(f"rank is {rank!r}; expected one of {', '.join(RANKS)}")
    files = _Files(path, sample_id)
    report = files.report
    for name, count in (
        (files.profile.name, len(report.profile_duplicates)),
        (files.metadata.name, len(report.metadata_duplicates)),
    ):
        if count:
            raise DataError(f"{name}: {count} sample ids stand more than once; each must be unique")
    if report.metadata_missing:
        raise DataError(
            f"{files.metadata.name}: {report.metadata_missing} rows have no id in column {report.sample_id!r}"
        )
    if not report.joined:
        raise DataError(f"{files.profile.name} and {files.metadata.name} have no sample id in common")
    return files.table(schema, rank), report


class _Files:
    """Both files as text, with the orientation settled."""

    def __init__(self, path: Path, sample_id: str | None) -> None:
        self.folder = path.name
        self.profile, self.metadata = _one(path, PROFILES), _one(path, METADATA)
        (names, *self.cells), self.place = _csv.read_text(self.profile, unique=False)
        facts, self.facts_place = _csv.read_text(self.metadata)
        self.facts = {c.name: _columns.clean(c, _columns.MISSING) for c in facts}
        first, head = names.name, [c.name for c in self.cells]
        side = [(name or "").strip() for name in names]
        if "" in side:
            raise self.place.error(side.index(""), first, "nothing there, expected a name")
        self.by_feature = self._by_feature(first, head, side)
        self.samples: list[str] = head if self.by_feature else side
        self.features: list[str] = side if self.by_feature else head
        self.id = sample_id or self._id_column()
        if self.id not in self.facts:
            raise DataError(f"{self.metadata.name}: there is no column {self.id!r} for the sample ids")
        twice = [name for name, n in Counter(self.features).items() if n > 1]
        if twice:
            raise DataError(f"{self.profile.name}: {len(twice)} features stand twice, such as {twice[0]!r}")
        self.ids = self.facts[self.id].to_list()

    def _by_feature(self, first: str, head: Sequence[str], side: Sequence[str]) -> bool:
        if first.strip().lower() in FEATURE_HEADS:
            return True
        most_head = max((len(set(head) & set(c)) for c in self.facts.values()), default=0)
        most_side = max((len(set(side) & set(c)) for c in self.facts.values()), default=0)
        enough = min(3, max(1, len(next(iter(self.facts.values())))))
        if max(most_head, most_side) < enough or most_head == most_side:
            raise DataError(
                f"{self.profile.name}: cannot tell features from samples: neither its columns nor its rows "
                f"are named like the samples in {self.metadata.name}; "
                "call the first column 'clade_name' if features are rows"
            )
        return most_head > most_side

    def _id_column(self) -> str:
        known = set(self.samples)
        overlap = {name: len(known & set(c)) for name, c in self.facts.items()}
        best = max(overlap.values(), default=0)
        names = [name for name, count in overlap.items() if count == best]
        if not best or len(names) > 1:
            says = f"columns {', '.join(map(repr, names))} fit equally well" if best else "no column has them"
            raise DataError(
                f"{self.metadata.name}: which column holds the sample ids of {self.profile.name}? {says}; "
                "say sample_id=..."
            )
        return names[0]

    @property
    def report(self) -> JoinReport:
        here = Counter(self.samples)
        there = Counter(i for i in self.ids if i is not None)
        return JoinReport(
            orientation="features as rows" if self.by_feature else "samples as rows",
            sample_id=self.id,
            profile_samples=len(self.samples),
            metadata_samples=len(self.ids),
            joined=len(here.keys() & there.keys()),
            features=len(self.features),
            ranks=dict(Counter(rank_of(name) or "?" for name in self.features)),
            metadata_columns=tuple(self.facts),
            metadata_missing=self.ids.count(None),
            only_in_profile=tuple(sorted(here.keys() - there.keys())),
            only_in_metadata=tuple(sorted(there.keys() - here.keys())),
            profile_duplicates=tuple(sorted(i for i, n in here.items() if n > 1)),
            metadata_duplicates=tuple(sorted(i for i, n in there.items() if n > 1)),
        )

    def table(self, schema: Mapping[str, str] | None, rank: str | None) -> Table:
        keep = [i for i, name in enumerate(self.features) if rank is None or rank_of(name) == rank]
        if not keep:
            raise DataError(f"{self.profile.name}: no feature has the rank {rank!r}")
        if both := sorted({self.features[i] for i in keep} & set(self.facts)):
            raise DataError(f"{self.folder}: {both[0]!r} is a feature and a metadata column; rename one")
        names = [self.features[i] for i in keep]
        declared = _columns.kinds(schema, [*self.facts, *names], self.folder)
        if wrong := [n for n in names if declared.get(n, "numeric") != "numeric"]:
            raise DataError(f"{self.folder}: feature {wrong[0]!r} is numeric; the schema says otherwise")
        common = sorted(set(self.samples) & set(self.ids))
        fact_row = {sample: i for i, sample in enumerate(self.ids)}
        rows = np.array([fact_row[s] for s in common])
        columns: dict[str, Column] = {self.id: Column.categorical(common)}
        for name in self.facts:
            if name != self.id:
                columns[name] = self._fact(name, declared).take(rows)
        place = {sample: i for i, sample in enumerate(self.samples)}
        values = self._values()[:, [place[s] for s in common]][keep]
        for name, row in zip(names, values, strict=True):
            columns[name] = Column.numeric(np.ascontiguousarray(row))
        return Table(columns)

    def _fact(self, name: str, declared: Mapping[str, ColumnKind]) -> Column:
        series, place = self.facts[name], self.facts_place
        kind = declared.get(name) or _columns.decide(name, _columns.look([series], ())[0], place)
        return _columns.from_text(series, kind, (), place)

    def _values(self) -> Array:
        """(features, samples) float64."""
        columns = [
            _columns.from_text(series, ColumnKind.NUMERIC, _columns.MISSING, self.place).values for series in self.cells
        ]
        values = np.array(columns, np.float64).reshape(len(columns), -1)
        return values.T if self.by_feature else values


def rank_of(feature: str) -> str | None:
    """The rank letter of a lineage such as ``d__Bacteria___p__Firmicutes``, or None.

    >>> [rank_of(f) for f in ("d__Bacteria___p__Firmicutes", "k__Bacteria|p__Firmicutes|c__Bacilli", "age")]
    ['p', 'c', None]
    """
    last = feature.replace("|", "___").replace(";", "___").split("___")[-1].strip()
    return last[0] if len(last) > 3 and last[1:3] == "__" and last[0] in RANKS else None


def _matches(path: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({p for pattern in patterns for p in path.glob(pattern) if p.is_file() and p.name[0] != "."})


def _one(path: Path, patterns: Sequence[str]) -> Path:
    found = _matches(path, patterns)
    if len(found) != 1:
        raise DataError(f"{path.name}: found {len(found)} files named {patterns[0]}; expected exactly one")
    return found[0]
