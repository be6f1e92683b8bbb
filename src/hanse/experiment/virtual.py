"""Many sites out of one data set: which rows each has, and how much the sites differ.

A site's table is made when it is asked for, and is not kept. So the rows of a simulation take the memory of the data
set and of the sites that are at work; beside them a run keeps some bookkeeping for each site, and what all have
answered until a step has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hanse import features
from hanse.by_node import place_of
from hanse.errors import ConfigError
from hanse.kinds import generator
from hanse.messages import Array
from hanse.table import ColumnKind, Table

_STEPS = 10  # a column of numbers is taken in so many parts of equal size


class VirtualSites(Mapping[str, Table]):
    """Site name to its rows, made anew at each access; :func:`virtual_sites` gives one."""

    def __init__(self, table: Table, count: int, rows: Callable[[int], Array]) -> None:
        self._table, self._rows = table, rows
        self._names = tuple(f"site-{number:0{len(str(count - 1))}d}" for number in range(count))  # in their order

    def __getitem__(self, name: str) -> Table:
        if (number := place_of(self._names, name)) is None:
            raise KeyError(name)
        return self._table.take(self._rows(number))

    def __contains__(self, name: object) -> bool:  # Mapping's own would make the table for it
        return place_of(self._names, name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{len(self)} virtual sites of {self._table.rows} rows"


def virtual_sites(
    rows: Any,
    count: int,
    by: str | None = None,
    alpha: float = math.inf,
    size_alpha: float = math.inf,
    rows_each: int | None = None,
    seed: int = 0,
) -> VirtualSites:
    """``count`` sites of one data set, for :func:`hanse.simulate`.

    The rows fall into the classes of the column ``by`` (of numbers: into ten parts of equal size), and class c is
    divided over the sites by shares ~ Dirichlet(α, ..., α): a label makes the sites differ in labels, any other column
    in features. The sizes of sites are in proportion to a draw of Dirichlet(β, ..., β).

    Args:
        rows: a pandas or Polars frame, a mapping of columns, or a Table.
        count: how many sites; at least 1.
        by: the column in which sites differ; None: they do not.
        alpha: α > 0; the smaller, the more they differ. Infinite: all have every class in the same share.
        size_alpha: β > 0, the same for how many rows they have.
        rows_each: each site draws so many rows of all (as a mean, where sizes differ), and a row may lie at several
            sites; None: every row lies at one site. A class that is used up at a site gives it no more.
        seed: of the draws.

    Raises:
        ConfigError: a number is out of its range, or there is no such column.

    References: Hsu et al. 2019, "Measuring the effects of non-identical data distribution for federated visual
    classification" (draws, as with ``rows_each``); Li et al. 2022, "Federated learning on non-IID data silos: an
    experimental study", section 4 (partitions).

    >>> import hanse
    >>> sites = hanse.virtual_sites({"age": range(100), "ill": ["yes", "no"] * 50}, 20, by="ill", alpha=0.5)
    >>> sites, sum(table.rows for table in sites.values())
    (20 virtual sites of 100 rows, 100)
    """
    table = Table.of(rows)
    features.canonical(table.names, "of the data set ")
    if not table.rows:
        raise ConfigError("the data set has no rows to divide")
    if count < 1:
        raise ConfigError(f"count is {count}; expected at least one site")
    for name, value in (("alpha", alpha), ("size_alpha", size_alpha)):
        if not value > 0:
            raise ConfigError(f"{name} is {value}; expected a number above 0, or infinity for sites that are alike")
    if rows_each is not None and rows_each < 1:
        raise ConfigError(f"rows_each is {rows_each}; expected at least one row")
    if alpha != math.inf and by is None:
        raise ConfigError("alpha says how much sites differ, and by names no column in which they do")
    classes = _classes(table, by)
    if rows_each is None:
        return VirtualSites(table, count, _parts(classes, count, alpha, size_alpha, seed))
    return VirtualSites(table, count, _draws(classes, rows_each, alpha, size_alpha, seed))


def _classes(table: Table, by: str | None) -> list[Array]:
    """The rows of each class, none of them empty."""
    if by is None:
        return [np.arange(table.rows)]
    column = table[by]
    if column.kind is ColumnKind.IMAGE:
        raise ConfigError(f"by names {by!r}, which holds images; name a column of labels or numbers")
    values = np.where(column.missing, np.nan, column.values)
    found = np.unique(values)  # what is missing is a class too
    if len(found) > _STEPS and column.kind is not ColumnKind.CATEGORICAL:
        order = np.argsort(values, kind="stable")
        return [part for part in np.array_split(order, _STEPS) if len(part)]
    return [np.flatnonzero((values == value) | (np.isnan(values) & np.isnan(value))) for value in found]


def _shares(rng: np.random.Generator, alphas: Array) -> Array:
    """A draw of Dirichlet; of an infinite alpha its mean."""
    if np.isinf(alphas).any():
        return np.full(len(alphas), 1 / len(alphas))
    drawn = rng.standard_gamma(alphas)
    drawn[rng.integers(len(drawn))] += np.finfo(np.float64).tiny  # of tiny alphas all may be 0: one has everything
    return np.asarray(drawn / drawn.sum())


def _parts(classes: list[Array], count: int, alpha: float, size_alpha: float, seed: int) -> Callable[[int], Array]:
    """Each row at one site."""
    rng = generator(seed, "virtual sites")
    sizes = _shares(rng, np.full(count, size_alpha))
    order: list[Array] = []
    ends: list[Array] = []
    for rows in classes:
        shares = sizes if math.isinf(alpha) else _shares(rng, alpha * count * sizes)
        cuts = np.floor(np.append(0.0, np.cumsum(shares)) * len(rows) + 0.5).astype(np.int64)
        cuts[-1] = len(rows)
        order.append(rng.permutation(rows))
        ends.append(np.minimum(cuts, len(rows)))

    def rows_of(place: int) -> Array:
        found = [rows[cuts[place] : cuts[place + 1]] for rows, cuts in zip(order, ends, strict=True)]
        return np.sort(np.concatenate(found))

    return rows_of


def _draws(classes: list[Array], rows: int, alpha: float, size_alpha: float, seed: int) -> Callable[[int], Array]:
    """Each site draws its own; keyed by the site, so nothing of it need be kept."""
    prior = np.array([len(found) for found in classes]) / sum(map(len, classes))

    def rows_of(place: int) -> Array:
        rng = generator(seed, "virtual sites", place)
        many = rows if math.isinf(size_alpha) else math.ceil(rows * rng.standard_gamma(size_alpha) / size_alpha)
        shares = prior if math.isinf(alpha) else _shares(rng, alpha * len(prior) * prior)
        wanted = rng.multinomial(max(1, many), shares)
        drawn = [
            found[rng.choice(len(found), min(n, len(found)), replace=False)]
            for found, n in zip(classes, wanted, strict=True)
        ]
        return np.sort(np.concatenate(drawn))

    return rows_of
