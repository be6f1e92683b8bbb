"""A site's rows as boosting sees them: targets, and the columns of its features one after the other, so that a site
never holds all of its values at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hanse.boosting import edges
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.rows import Targets
from hanse.learning.sampling import row_keys
from hanse.messages import Array, Record

KEPT_BYTES = 32 << 20  # of sorted keys, between the exchanges that count them


@dataclass(frozen=True, slots=True)
class Observed:
    """The rows of a site by what all sites agreed on."""

    site: Site
    prepared: Record
    targets: Targets

    @staticmethod
    def of(site: Site, prepared: Record) -> Observed:
        """Made of the site's table."""
        return Observed(site, prepared, preparation.targets(site, prepared))

    def columns(self) -> Iterator[Array]:
        """(n, k) float64 columns of the design matrix, of all usable rows."""
        return preparation.design_columns(self.site.table, self.prepared, self.targets.kept)

    def drawn_columns(self, rows: Array) -> Iterator[Array]:
        """(m,) each column of the design matrix, of these usable rows."""
        parts = preparation.design_columns(self.site.table, self.prepared, self.targets.at(rows))
        return (column for part in parts for column in part.T)

    def row_keys(self) -> Array:
        """(n,) what each training row is drawn by (:func:`hanse.learning.sampling.row_keys`); kept."""
        cache, of = self.site.cache, self.targets
        if "row_keys" not in cache:
            cache["row_keys"] = row_keys(self.drawn_columns(of.train), of.y[of.train])
        found: Array = cache["row_keys"]
        return found

    def sorted_keys(self, wanted: Array) -> Iterator[Array]:
        """The :func:`hanse.boosting.edges.sorted_keys` of the training rows in each column of the design matrix that is
        ``wanted``; of the others none. They are kept for the next exchange where all of them are small, and else made
        again of one column after the other."""
        of, agreed, nothing = self.targets, preparation.Agreed.of(self.prepared), np.zeros(0, np.uint32)
        whole = of.kept is None and not len(of.test)
        rows = None if whole else of.at(of.train)
        kept: dict[int, Array] = self.site.cache.setdefault("keys", {})
        small = 4 * len(of.train) * len(wanted) <= KEPT_BYTES
        place = 0
        for entry in agreed.columns:
            here = range(place, place := place + len(preparation.feature_names([entry], agreed.needs)))
            if any(wanted[i] and i not in kept for i in here):
                parts = preparation.design_columns(self.site.table, self.prepared, rows, entry.name)
                for i, column in zip(here, (column for part in parts for column in part.T), strict=True):
                    kept[i] = edges.sorted_keys(column)
            yield from (kept[i] if wanted[i] else nothing for i in here)
            if not small:
                kept.clear()

    def let_go(self) -> None:
        """What only the exchanges before the first tree need."""
        self.site.cache.pop("keys", None)
