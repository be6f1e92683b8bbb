"""What has this person? Whoever may ask statistics asks once of all, and once of all but one.

With the mean m over n rows, and m' over the n' rows without a person whom some other column singles out, the person's
value is n m - n' m' where n - n' = 1. The number is the share of persons whose value is found to 1 % of what values
range over.

References: Denning, Denning and Schwartz 1979, "The tracker: a threat to statistical database security".
"""

from __future__ import annotations

import numpy as np

from hanse.attack import Finding, Scene
from hanse.errors import DataError, HanseError

_NEAR = 0.01  # of the range of the values


def attack(scene: Scene) -> Finding:
    """The share of persons whose value is found."""
    persons = scene.persons()
    if not persons:
        raise DataError("two columns of numbers are needed: one that singles somebody out, and one to find a value of")
    hits = []
    for by, reaches, column, value, (low, high) in persons:
        try:
            everybody, others = scene.ask(column, None), scene.ask(column, (by, reaches))
        except HanseError:
            hits.append(False)  # it was refused
            continue
        found = everybody.rows * everybody.mean - others.rows * others.mean
        alone = round(everybody.rows - others.rows) == 1
        hits.append(bool(alone and abs(found - value) <= _NEAR * (high - low)))
    return Finding(
        number=float(np.mean(hits)),
        chance=0.0,
        measure="share of persons whose value follows from two means, over all rows and over all but theirs",
    )


ATTACK = attack
