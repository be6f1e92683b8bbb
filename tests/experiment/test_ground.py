"""What this part needed of the ground below it: small rules that were missing there."""

from __future__ import annotations

import numpy as np
import pytest

from hanse import features
from hanse.errors import ConfigError, DataError, from_code
from hanse.table import ColumnKind, Table


def test_a_code_means_the_class_that_introduced_it() -> None:
    """A subclass elsewhere inherits the code, and may need other arguments."""

    class Picky(ConfigError):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} {second}")

    assert type(from_code("config", "wrong")) is ConfigError
    assert Picky.code == "config"


def test_a_column_without_values_has_no_kind_of_its_own() -> None:
    table = Table.of({"x": [float("nan")] * 3, "y": [1.0, 2.0, 3.0]})
    found = features.apply(table, ["x", "y"], {"x": "categorical", "y": "numeric"})
    assert found["x"].kind is ColumnKind.CATEGORICAL
    assert np.all(found["x"].missing)
    with pytest.raises(DataError, match="'y' is numeric here"):
        features.apply(table, ["y"], {"y": "categorical"})
