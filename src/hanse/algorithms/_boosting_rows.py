"""A site's rows as boosting sees them: targets, and the columns of its features one after the other, so that a site
never holds all of its values at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.rows import Targets
from hanse.learning.sampling import row_keys
from hanse.messages import Array, Record


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

    @property
    def columns(self) -> Callable[[], Iterator[Array]]:
        """What gives the (n, k) columns of the design matrix, of all usable rows. It holds nothing of the site: a
        workspace that it is given to lies in the site's memory."""
        return partial(preparation.design_columns, self.site.table, self.prepared, self.targets.kept)

    def drawn_columns(self, rows: Array | None = None) -> Iterator[Array]:
        """(m,) each column of the design matrix, of these usable rows, or of those for training."""
        where = self.targets.standing if rows is None else self.targets.at(rows)
        parts = preparation.design_columns(self.site.table, self.prepared, where)
        return (column for part in parts for column in part.T)

    def row_keys(self) -> Array:
        """(n,) what each training row is drawn by (:func:`hanse.learning.sampling.row_keys`); kept."""
        cache, of = self.site.cache, self.targets
        if "row_keys" not in cache:
            cache["row_keys"] = row_keys(self.drawn_columns(), of.y[of.trained])
        found: Array = cache["row_keys"]
        return found

    def learned_columns(self, wanted: Array) -> Iterator[Array]:
        """(n,) the training rows in each column of the design matrix that is ``wanted`` (f,) bool; of the others none,
        and they are not looked at."""
        of, agreed, nothing = self.targets, preparation.Agreed.of(self.prepared), np.zeros(0)
        rows, place, number = of.standing, 0, -1
        for entry in agreed.columns:
            number += entry.numeric
            here = range(place, place := place + len(preparation.feature_names([entry], agreed.needs)))
            if not wanted[here.start : here.stop].any():
                yield from [nothing] * len(here)
                continue
            for part in preparation.design_column(self.site.table, self.prepared, entry, number, rows):
                yield from part.T
