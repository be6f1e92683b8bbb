"""The smallest algorithm: what it answers stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

from hanse.algorithms.probe import ALGORITHM
from hanse.kinds import Site
from hanse.large_arrays import LARGE_BYTES
from hanse.messages import Record
from hanse.table import Table


@pytest.mark.parametrize("nbytes", [1024, LARGE_BYTES])
def test_an_answer_does_not_change_with_the_next(nbytes: int) -> None:
    """A reply waits for its acknowledgement, and is sent again to a coordinator that was killed meanwhile."""
    site, probe = Site("a", Table.of({}), {"seed": 1}), ALGORITHM
    said, values = [], []
    for number in range(1, 4):
        ask = Record({"round": number}, {"x": np.zeros(nbytes // 4, np.float32)})
        said.append(probe.answer(site, ask).record.arrays["x"])
        values.append(float(said[-1][0]))
    assert len(set(values)) == 3
    for array, value in zip(said, values, strict=True):
        assert np.all(np.asarray(array) == np.float32(value))
