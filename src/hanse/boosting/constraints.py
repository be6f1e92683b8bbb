"""Which columns a node may be split on, and in which direction its leaves may go.

- **Monotone**: where the margin may only rise with a column, the left part of a split on it must not weigh more than
  the right one, and nothing below either part may go beyond the middle of the two. Missing values are neither less nor
  more than given ones: a split of all given values from the missing ones may weigh either way.
- **Interactions**: the columns on one path must all be of one group.
- **Sampling**: a tree has a share of all columns, a level a share of these, a node a share of those. What is drawn
  depends on the seed of the run, the round, the output and the way to the node alone.

References: XGBoost 3.2, ``src/tree/split_evaluator.h``, ``src/tree/constraints.cc``, ``src/common/random.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hanse.kinds import generator
from hanse.messages import Array

Step = tuple[int, int]  # the column that a node on the way was split on, and 0 for its left part, 1 for the right one


@dataclass(frozen=True, slots=True)
class Constraints:
    """Of one run.

    Args:
        monotone: (f,) int8: 1 where the margin may only rise, -1 where only fall, else 0. None: 0 everywhere.
        together: (groups, f) bool: which columns may stand on one path. None: all.
        bytree, bylevel, bynode: shares of the columns.
        seed: of the run.
    """

    monotone: Array | None = None
    together: Array | None = None
    bytree: float = 1.0
    bylevel: float = 1.0
    bynode: float = 1.0
    seed: int = 0

    @property
    def free(self) -> bool:
        """Whether every node may be split on every column."""
        return self.together is None and min(self.bytree, self.bylevel, self.bynode) == 1

    def allowed(self, columns: int, round: int, output: int, way: Sequence[Step]) -> Array:
        """(f,) bool: the columns that a node may be split on.

        Args:
            way: from the root to the node.
        """
        pool = np.arange(columns)
        depth, sides = len(way), "".join(str(side) for _, side in way)
        draws = ((self.bytree, "tree", ""), (self.bylevel, "level", str(depth)), (self.bynode, "node", sides))
        for share, what, where in draws:
            if share < 1:
                rng = generator(self.seed, "columns", round, output, what, where)
                pool = np.sort(rng.choice(pool, max(1, int(share * len(pool))), replace=False))
        found = np.zeros(columns, bool)
        found[pool] = True
        if self.together is not None and way:
            used = np.unique([column for column, _ in way])
            groups = self.together[self.together[:, used].all(axis=1)]
            found &= groups.any(axis=0) | np.isin(np.arange(columns), used)
        return found
