"""SciPy's BLAS works on one thread while a model is trained by L-BFGS, and NumPy's as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.optimize  # noqa: F401  its BLAS is there from now on
from threadpoolctl import ThreadpoolController

from hanse.models._lbfgs import minimise
from hanse.models._one_thread import one_thread
from hanse.training import Training
from tests.waiting import PATIENCE


def _threads() -> dict[str, int]:
    found = ThreadpoolController().lib_controllers
    return {"scipy" if "scipy.libs" in lib.filepath else lib.filepath: lib.num_threads for lib in found}


@pytest.fixture
def two() -> Iterator[dict[str, int]]:
    """Two threads for all, as an owner has it who says nothing of threads."""
    if "scipy" not in _threads():
        pytest.skip("this SciPy has no BLAS of its own")
    with ThreadpoolController().limit(limits=2):
        yield _threads()


def test_while_a_model_is_trained(two: dict[str, int]) -> None:
    seen: list[dict[str, int]] = []

    def objective(w: Any) -> tuple[float, Any]:
        seen.append(_threads())
        return float(((w - 1) ** 4).sum()), 4 * (w - 1) ** 3

    minimise(objective, {"coef": np.full(4, 3.0)}, ["coef"], Training(epochs=3))
    assert two["scipy"] == 2
    assert all(there == {**two, "scipy": 1} for there in seen[:-1])
    assert _threads() == two


def test_several_threads_at_once_leave_it_as_it_was(two: dict[str, int]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with one_thread():
            entered.set()
            assert leave.wait(PATIENCE)

    other = threading.Thread(target=work)
    with one_thread():
        other.start()
        assert entered.wait(PATIENCE)
        assert _threads()["scipy"] == 1
    leave.set()
    other.join(PATIENCE)
    assert _threads() == two
