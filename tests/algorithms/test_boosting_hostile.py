"""A coordinator that asks for what there is not: compiled loops write where it says, so a node looks at it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from drive import Drive, shares
from test_boosting import model, settings, table_of

from hanse.errors import DataError, WireError
from hanse.messages import Record

Matrix = np.ndarray[Any, Any]
Wrong = Callable[[Matrix], Matrix]


def first(value: Any) -> Wrong:
    """The same array, but for what stands there first."""

    def made(array: Matrix) -> Matrix:
        array.flat[0] = value
        return array

    return made


def twice(array: Matrix) -> Matrix:
    return np.concatenate([array, array])


def less(array: Matrix) -> Matrix:
    return array[:-1]


class Hostile(Drive):
    """Says something else to ``site-0`` in the first ask in which an array counts; keeps what the site said."""

    def __init__(self, name: str, wrong: Wrong, **more: Any) -> None:
        super().__init__(shares(table_of(more.pop("kind")), 120, 120), **more)
        self.name, self.wrong, self.said = name, wrong, ""

    def run(self, reverse: bool = False) -> Record:
        inner = self.algorithm
        answer = inner.answer

        def asked(site: Any, ask: Record) -> Any:
            names = [
                name for name in ask.arrays if name == self.name and (ask.arrays[name].size or name.endswith("apart"))
            ]
            if site.node == "site-0" and names and not self.said:
                other = {**ask.arrays, self.name: self.wrong(np.array(ask.arrays[self.name]))}
                try:
                    answer(site, Record(ask.data, other))
                except (WireError, DataError) as error:
                    self.said = error.message
            return answer(site, ask)

        object.__setattr__(inner, "answer", asked)
        return super().run(reverse)


CASES: list[tuple[str, str, Wrong, str]] = [
    ("binary", "count.cells.width", first(40), "more keys than there are"),
    ("binary", "count.cells.bits", first(20), "more parts than keys"),
    ("binary", "count.cells.bits", first(-1), "more parts than keys"),
    ("binary", "count.cells.cells", first(1 << 40), "more or fewer of them than begin"),
    ("binary", "count.cells.cells", first(-1), "more or fewer of them than begin"),
    ("binary", "count.cells.start", first(1 << 32), "where there is no key"),
    ("multiclass", "count.units", twice, "the units are of 6 sums"),
    ("binary", "forward.bins.count", first(-1), "more or fewer edges"),
    ("binary", "forward.bins.count", first(1 << 40), "more or fewer edges"),
    ("binary", "forward.bins.edges", less, "more or fewer edges"),
    ("binary", "forward.bins.categories", first(9), "another number of bins"),
    ("binary", "forward.base", lambda base: base[:0], "those of 0 outputs"),
    ("multiclass", "forward.base", twice, "those of 6 outputs"),
    ("multiclass", "units", twice, "the units are of 6 outputs"),
    ("binary", "units", lambda units: np.repeat(units, 3, axis=0), "the units are of 3 outputs"),
    ("binary", "forward.trees.group", first(1), "an output that does not exist"),
    ("binary", "forward.trees.left", first(0), "does not stand after its parent"),
    ("binary", "forward.trees.feature", first(99), "a feature that does not exist"),
    ("binary", "forward.trees.listed", first(7), "another number of categories"),
    ("binary", "level.apart", lambda apart: np.int32([-1]), "none of this table"),
    ("binary", "level.apart", lambda apart: np.int32([3, 1 << 20]), "none of this table"),
    ("survival", "times.hazard", less, "hazards are of"),
    ("reg:absoluteerror", "residuals.home", less, "what leaf they are"),
]


@pytest.mark.parametrize(("kind", "name", "wrong", "said"), CASES, ids=[f"{c[1]}-{i}" for i, c in enumerate(CASES)])
def test_what_is_asked_of_what_there_is_not_is_refused(kind: str, name: str, wrong: Wrong, said: str) -> None:
    """And the site answers what is asked next as if nothing had been."""
    about = settings(kind, num_rounds=2, test_fraction=0.2)
    drive = Hostile(name, wrong, kind=kind, **about)
    found = drive.run()
    assert said in drive.said
    assert not any(drive.failures)
    assert model(found) == model(Drive(drive.tables, **about).run())
