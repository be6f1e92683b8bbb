"""Feature alignment: from the columns of every site to one ordered list, bound by a hash.

*Intersection* keeps what all sites have; *union* keeps what any has, and says how much of it is
filled in at each site, since a filled column means "absent" and "never measured" alike.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.kinds import Source
from hanse.messages import Json, dumps
from hanse.table import Column, ColumnKind, Table, canonical_name

Schemas = Mapping[str, Mapping[str, str]]  # node -> column -> kind
MISSING, ZERO = "missing", "zero"  # what a feature is at a site that lacks it
ALIKE = "all sites write it in one way (a decimal comma makes text of numbers; a date is written 2024-01-31)"
_FILLED_SHARE = 0.2  # of the features; above, it is worth a word


@dataclass(frozen=True, slots=True)
class Alignment:
    """The features of a run.

    Args:
        features: names in canonical (sorted) order; the same at every node.
        kinds: feature to column kind.
        filled: node to the share of the features that it lacks, in [0, 1].
        warnings: for people.
    """

    features: tuple[str, ...]
    kinds: Mapping[str, str]
    filled: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Binds names, order and kinds."""
        return hashlib.sha256(dumps([[f, self.kinds[f]] for f in self.features]).encode()).hexdigest()

    def to_json(self) -> dict[str, Json]:
        """As it stands in a bundle; ``sha256`` is of the features and kinds."""
        return {
            "features": list(self.features),
            "kinds": dict(self.kinds),
            "filled": dict(self.filled),
            "warnings": list(self.warnings),
            "sha256": self.sha256,
        }


def canonical(names: Iterable[str], where: str = "") -> dict[str, str]:
    """Canonical name to the name as it stands (outer spaces go). Two that become equal are an error."""
    found: dict[str, str] = {}
    for name in names:
        clean = canonical_name(name)
        if clean in found:
            raise DataError(f"columns {found[clean]!r} and {name!r} {where}have the same name; rename one")
        found[clean] = name
    return found


@functools.lru_cache(64)
def _canonical_once(names: tuple[str, ...]) -> Mapping[str, str]:
    """The same: many sites have the same columns, and each is asked in many steps."""
    return canonical(names)


def union_and_intersection(schemas: Schemas) -> tuple[list[str], list[str]]:
    """Sorted canonical names that any site has, and that all sites have."""
    sets = [set(columns) for columns in {id(columns): columns for columns in _canonical(schemas).values()}.values()]
    if not sets:
        return [], []
    return sorted(set.union(*sets)), sorted(set.intersection(*sets))


def _canonical(schemas: Schemas) -> dict[str, Mapping[str, str]]:
    """The same by canonical names; one object for all nodes whose schema is one, as of virtual sites."""
    known: dict[int, Mapping[str, str]] = {}
    for node, columns in schemas.items():
        if id(columns) not in known:
            known[id(columns)] = {clean: columns[name] for clean, name in canonical(columns, f"of {node} ").items()}
    return {node: known[id(columns)] for node, columns in schemas.items()}


def _filled(kinds: Mapping[str, Mapping[str, str]], names: Collection[str]) -> dict[str, float]:
    """Node to the share of these features that it lacks."""
    known: dict[int, float] = {}
    for columns in kinds.values():
        if id(columns) not in known:
            known[id(columns)] = round(sum(n not in columns for n in names) / max(len(names), 1), 6)
    return {node: known[id(columns)] for node, columns in kinds.items()}


def align(
    schemas: Schemas,
    strategy: str,
    *,
    targets: Sequence[str],
    not_features: Sequence[str] = (),
    only: Sequence[str] | None = None,
    sample_id: str | None = None,
    fill: str = MISSING,
    weight: str | None = None,
) -> Alignment:
    """The alignment of all sites' columns.

    Args:
        schemas: node to its columns and their kinds.
        strategy: ``intersection`` or ``union``.
        targets: the columns that are predicted: each must stand at every site, and is never a feature.
        not_features: sample ids and the like; never features.
        only: keep just these (each must be available under the strategy).
        sample_id: a column that names the rows, never a feature, which somebody expects to be there; a site that lacks
            it is a warning, since its own column of that meaning would be learned from.
        fill: what :func:`apply` will do with a feature that a site lacks, for the warnings.
        weight: a column that says what rows count for: as a target.

    Raises:
        ConfigError: no sites, no target or weight, no common feature, a wanted one is missing, or no site has
            ``sample_id``.
    """
    if not schemas:
        raise ConfigError("no site has a dataset that fits; check the tags of the run and who is registered")
    kinds = _canonical(schemas)
    for target in targets:
        if lacking := sorted(node for node, columns in kinds.items() if target not in columns):
            raise ConfigError(f"the target column {target!r} is missing at {', '.join(lacking)}{_meant(target, kinds)}")
    if lacking := sorted(node for node, columns in kinds.items() if weight is not None and weight not in columns):
        hint = _meant(str(weight), kinds)
        raise ConfigError(f"the column of weights {weight!r} is missing at {', '.join(lacking)}{hint}")
    union, intersection = union_and_intersection(schemas)
    barred = {*targets, *not_features, sample_id, weight}
    warnings = _without(kinds, sample_id) if sample_id is not None else []
    names = [n for n in (intersection if strategy == "intersection" else union) if n not in barred]
    if only is not None:
        wanted = sorted(set(only))
        absent = [n for n in wanted if n not in names]
        if absent:
            hints = "".join(_meant(name, kinds) for name in absent if name not in barred)
            raise ConfigError(f"features not available under {strategy}: {', '.join(absent)}{hints}")
        names = wanted
    settled: dict[str, str] = {}
    for name in list(names):
        seen = {columns[name] for columns in kinds.values() if name in columns}
        kind = _reconcile(seen)
        if kind is None or kind == ColumnKind.OPEN:
            why = f"is {_where(kinds, name)}; it is one where {ALIKE}" if kind is None else "has no value at any site"
            if only is not None:
                raise ConfigError(f"feature {name!r} {why}")
            names.remove(name)
            warnings.append(f"{name!r} was left out: it {why}")
        else:
            settled[name] = kind
    if not names:
        raise ConfigError(f"no feature is left under {strategy}; the sites share {len(intersection)} columns")
    filled = _filled(kinds, names)
    for node, share in sorted(filled.items()):
        if share > (_FILLED_SHARE if fill == MISSING else 0):
            said = "filled in" if fill == MISSING else "0, as if they had been measured,"
            warnings.append(f"{share:.0%} of the features are {said} at {node}, which lacks them")
    return Alignment(tuple(names), settled, filled, tuple(warnings))


def _meant(name: str, kinds: Schemas) -> str:
    """What somebody may have meant by a column that sites lack, after a semicolon, or "".

    >>> _meant("diseas", {"ulm": {"age": "numeric", "disease": "categorical"}})
    "; did you mean 'disease'?"
    """
    known = sorted({column for columns in kinds.values() for column in columns})
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and set(parts) <= set(known):
        return "; it names several columns, which only a model of times until an event takes (cox_regression)"
    if name in known:
        having = sorted(node for node, columns in kinds.items() if name in columns)
        return f"; {name!r} is at {', '.join(having)} alone"
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _without(kinds: Schemas, sample_id: str) -> list[str]:
    """A sentence where some sites lack the column that names the rows. Raises ``ConfigError`` where all do."""
    lacking = sorted(node for node, columns in kinds.items() if sample_id not in columns)
    if len(lacking) == len(kinds):
        hint = _meant(sample_id, kinds) or "; set it to null where no column names the rows"
        raise ConfigError(f"no site has the column {sample_id!r} that sample_id_column names{hint}")
    if not lacking:
        return []
    return [
        f"{', '.join(lacking)} has no column {sample_id!r} (sample_id_column); a column there that names the rows "
        "under another name would be a feature"
    ]


def survey(schemas: Schemas, only: Sequence[str] | None = None) -> Alignment:
    """The columns of a run that learns no model: those of ``only`` (None: all), at whatever site has
    them. Nothing is filled in; a site that lacks a column says nothing about it.

    Raises:
        ConfigError: no sites, a column that no site has, or one of different kinds.
    """
    if not schemas:
        raise ConfigError("no site has a dataset that fits; check the tags of the run and who is registered")
    kinds = _canonical(schemas)
    union = sorted({c for columns in kinds.values() for c in columns})
    absent = [name for name in only or () if name not in union]
    if absent:
        raise ConfigError(f"no site has a column {absent[0]!r}; there are {', '.join(union[:50])}")
    settled: dict[str, str] = {}
    warnings = []
    for name in union if only is None else sorted(set(only)):
        seen = {columns[name] for columns in kinds.values() if name in columns}
        kind = _reconcile(seen)
        if kind is not None:
            settled[name] = ColumnKind.NUMERIC.value if kind == ColumnKind.OPEN else kind
        elif only is not None:
            raise ConfigError(f"column {name!r} is of different kinds: {_where(kinds, name)}")
        else:
            warnings.append(f"{name!r} was left out: it is {_where(kinds, name)}")
    filled = _filled(kinds, settled)
    return Alignment(tuple(settled), settled, filled, tuple(warnings))


def _reconcile(kinds: set[str]) -> str | None:
    """The kind that all sites can use, None if there is none; ``open`` where no site has a value that tells."""
    kinds = kinds - {ColumnKind.OPEN} or kinds
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds <= {"numeric", "boolean"}:
        return "numeric"
    return None


def conflicts(schemas: Schemas) -> dict[str, str]:
    """The columns that are of kinds which do not go together, and where they are of which, sorted by name.

    >>> conflicts({"ulm": {"age": "numeric", "sex": "open"}, "bonn": {"age": "categorical", "sex": "categorical"}})
    {'age': 'categorical at bonn; numeric at ulm'}
    """
    kinds = {node: {c: columns[n] for c, n in canonical(columns).items()} for node, columns in schemas.items()}
    names = sorted({name for columns in kinds.values() for name in columns})
    at = {name: {columns[name] for columns in kinds.values() if name in columns} for name in names}
    return {name: _where(kinds, name) for name in names if _reconcile(at[name]) is None}


def _where(kinds: Schemas, name: str) -> str:
    """Which kind a column is at which sites: ``categorical at ulm, numeric at bonn, köln``."""
    at: dict[str, list[str]] = {}
    for node, columns in sorted(kinds.items()):
        if columns.get(name, ColumnKind.OPEN) != ColumnKind.OPEN:
            at.setdefault(str(columns[name]), []).append(node)
    return "; ".join(f"{kind} at {', '.join(nodes)}" for kind, nodes in sorted(at.items()))


def as_settled(column: Column, kind: ColumnKind) -> Column:
    """The column as the ``kind`` that the sites agreed on, if it is open; else as it is."""
    if column.kind is ColumnKind.OPEN and kind not in (ColumnKind.OPEN, ColumnKind.IMAGE):
        return Column.absent(kind, len(column))
    return column


class SettledSource:
    """The rows of a source with its open columns as the kinds that the sites agreed on.

    Args:
        source: :class:`hanse.kinds.Source`.
        kinds: of the alignment.
    """

    def __init__(self, source: Source, kinds: Mapping[str, str]) -> None:
        self._source = source
        self._open = {n: ColumnKind(kinds[n]) for n, k in source.schema.items() if k == ColumnKind.OPEN and n in kinds}
        self.schema: Mapping[str, str] = {**source.schema, **{n: str(k) for n, k in self._open.items()}}
        self.rows, self.memory = source.rows, source.memory

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        """The rows in order, open columns as the kind that the sites settled."""
        for batch in self._source.batches(columns):
            if self._open.keys() & batch.columns.keys():
                batch = Table({n: as_settled(c, self._open.get(n, c.kind)) for n, c in batch.columns.items()})
            yield batch
            del batch  # what it is of goes before more is read


def apply(
    table: Table, features: Sequence[str], kinds: Mapping[str, str], fill: str = MISSING, besides: Sequence[str] = ()
) -> Table:
    """The table with exactly ``features``, in that order, and then those columns of ``besides`` that the site has, as
    they are; a feature that the site lacks is filled with missing values (what they become is the preparation's
    choice), or with zeros where it is of numbers."""
    have = _canonical_once(table.names) if features or besides else {}
    further = [name for name in besides if name in have]

    def made(name: str) -> Column:
        if name in further:
            return table[have[name]]
        kind, column = ColumnKind(kinds[name]), table[have[name]] if name in have else None
        if column is None or _says_nothing(column, kind):
            if kind is ColumnKind.IMAGE:
                raise DataError(f"this site has no images {name!r}; use feature_strategy intersection")
            lacking = column is None and fill == ZERO and kind in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
            return Column(kind, np.zeros(table.rows)) if lacking else Column.absent(kind, table.rows)
        if column.kind is not kind and {column.kind, kind} != {ColumnKind.NUMERIC, ColumnKind.BOOLEAN}:
            raise DataError(f"column {name!r} is {column.kind} here, but the run expects {kind}")
        return Column(kind, column.values, column.categories)

    return table.of_columns(list(dict.fromkeys([*features, *further])), made)


def _says_nothing(column: Column, kind: ColumnKind) -> bool:
    """Whether a column is of another kind only because it has no value that would tell its kind."""
    return column.kind is not kind and bool(column.missing.all())
