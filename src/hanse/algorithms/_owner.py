"""What the owner of a node allows of a query as a whole: columns, and choices of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hanse.algorithms._query import Query
from hanse.errors import DataError, NotAllowed
from hanse.kinds import Site, Source
from hanse.messages import Array, Json, dumps
from hanse.queries import MINIMUM, Filter, Owner, chosen, parse_filter
from hanse.suppression import isolates
from hanse.table import Column, ColumnKind

MOST_FILTERS = 20


def owner_of(site: Site, query: Query, schema: Collection[str]) -> Owner:
    """Raises ``NotAllowed`` where the owner's settings forbid the query as a whole."""
    settings = site.owner
    columns = {base(c, schema) for c in query.plan.columns()} | {name for name, _, _ in query.where}
    allowed = settings.get("statistics_columns", ["*"])
    barred = {c for c in columns if c in settings.get("statistics_denied_columns", [])}
    barred |= {c for c in columns if "*" not in allowed and c not in allowed}
    if barred:
        raise NotAllowed(f"the owner of this node gives no statistics of {', '.join(sorted(barred))}")
    return Owner(
        int(settings.get("minimum_cell", MINIMUM)),
        settings.get("allow_extremes", False) is True,
        rare=settings.get("hide_rare_values", False) is not True,
    )


def check_filter(site: Site, source: Source, query: Query, owner: Owner) -> None:
    """Refuses a choice of rows that, compared with an earlier one, would show too few.

    Choices are remembered with the columns that were asked of them: a choice that differs from another by
    many rows may do so by few that have a value of a column, and is compared when that column is asked.
    """
    most = int(site.owner.get("most_filters", MOST_FILTERS))
    raw: list[Json] = list(source.memory.get("filters") or [])
    earlier = [parse_filter(f) for f in raw]
    columns = sorted(c for c in query.plan.columns() if c in source.schema)  # of images none is missing
    asked: dict[str, list[str]] = dict(source.memory.get("filter_columns") or {})
    asked_of = [set(asked.get(_name(f), source.schema)) for f in earlier]  # of one without a list: of all
    mine = asked_of[earlier.index(query.where)] if query.where in earlier else None
    if mine is not None and mine >= set(columns):
        return
    if mine is None and len(earlier) >= most:
        raise NotAllowed(f"this node answers {most} different choices of rows per dataset, and they are used up")
    others: list[Filter] = [(), *earlier]
    touched = sorted({c for f in (*others, query.where) for c, _, _ in f})
    if lacking := [c for c in touched if c not in source.schema]:
        raise DataError(f"where: this site has no column {lacking[0]!r}")
    if images := [c for c, _, _ in query.where if source.schema[c] == ColumnKind.IMAGE]:
        raise DataError(f"where: {images[0]!r} is an image; rows are chosen by numbers, dates and labels")
    seen: list[Counter[bytes]] = [Counter() for _ in range(len(columns) + 1)]  # in which choices rows of a column are
    for batch in source.batches(sorted({*columns, *touched})):
        there = np.column_stack([np.ones(batch.rows, bool), *(present(batch[c]) for c in columns)])
        patterns, of = _patterns(np.column_stack([chosen(batch, one) for one in (*others, query.where)]))
        for found, has in zip(seen, there.T, strict=True):
            counts = np.bincount(of[has], minlength=len(patterns))
            found.update({p.tobytes(): int(n) for p, n in zip(patterns, counts, strict=True) if n})
    told = np.array([[True, *(c in of for c in columns)] for of in (set(columns), *asked_of)])
    whose = [[*np.flatnonzero(of_all), len(others)] for of_all in told.T]  # the answers that there are of each column
    apart = [_among(found, which) for found, which in zip(seen, whose, strict=True)]
    if sum(n for pattern, n in seen[0].items() if pattern[-1]) < owner.minimum or any(
        _differs_by_few(patterns, counts, owner.minimum) for patterns, counts in apart
    ):
        raise NotAllowed(
            "this choice of rows holds, or differs from an earlier one by, fewer rows than this node's minimum"
        )
    if any(len(counts) and isolates(patterns, counts, owner.minimum) for patterns, counts in apart):
        raise NotAllowed(
            "this choice of rows would make up a sum of fewer rows than this node's minimum, with earlier ones"
        )
    source.memory["filter_columns"] = {**asked, _name(query.where): sorted({*columns, *(mine or ())})}
    if mine is None:
        source.memory["filters"] = [*raw, [list(part) for part in query.where]]


def _patterns(chosen_by: Array) -> tuple[Array, Array]:
    """(p, k) each way to be in k choices that there is, and (n,) which one a row has."""
    bits = np.packbits(chosen_by, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    words[:, : bits.shape[1]] = bits
    code = words.view(np.uint64)
    _, first, of = np.unique(code[:, 0] if code.shape[1] == 1 else code, axis=0, return_index=True, return_inverse=True)
    return chosen_by[first], of.reshape(-1)


def _among(found: Mapping[bytes, int], choices: Sequence[int]) -> tuple[Array, Array]:
    """(p, k) each way to be in these k choices that there is, and (p,) the rows of each."""
    counts: Counter[bytes] = Counter()
    for pattern, count in found.items():
        counts[np.frombuffer(pattern, bool)[choices].tobytes()] += count
    patterns = np.array([np.frombuffer(pattern, bool) for pattern in counts], bool).reshape(-1, len(choices))
    return patterns, np.array(list(counts.values()), np.int64)


def _differs_by_few(patterns: Array, counts: Array, minimum: int) -> bool:
    """Whether the last choice holds fewer rows than the minimum, or differs so from another; none is not few."""
    mine, others = patterns[:, -1:], patterns[:, :-1]
    rows = counts @ np.hstack([mine, mine & ~others, others & ~mine])
    return bool(np.any((rows > 0) & (rows < minimum)))


def _name(where: Filter) -> str:
    return dumps([list(part) for part in where])


def present(column: Column) -> Array:
    """(n,) bool: rows that have a value."""
    return column.values >= 0 if column.kind is ColumnKind.CATEGORICAL else np.isfinite(column.values)


def base(column: str, schema: Collection[str]) -> str:
    """The column that a name stands for: ``scan`` for ``scan[0]``, unless there is one of that name."""
    return column if column in schema or not column.endswith("]") else column.rsplit("[", 1)[0]
