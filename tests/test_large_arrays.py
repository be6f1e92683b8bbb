"""Memory of large arrays is used again, and never while anybody looks at it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hanse import large_arrays
from hanse.large_arrays import LARGE_BYTES, empty, release
from hanse.messages import Array, Layout, Record, pieces

SIZE = LARGE_BYTES // 4
F4 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    release()
    yield
    release()


def place(array: Array) -> int:
    return int(array.ctypes.data)


LOOKS: dict[str, Callable[[Array], object]] = {
    "itself": lambda a: a,
    "shape": lambda a: a.reshape(2, -1),
    "part": lambda a: a[5:6],
    "part of a part": lambda a: a.reshape(4, -1)[1, 3:9][2:],
    "other type": lambda a: a.view(np.uint8)[7:],
    "buffer": lambda a: a.data,
    "part of a buffer": lambda a: a.data[3:5],
    "array of a buffer": lambda a: np.frombuffer(a.data[3:5], np.uint8),
    "transposed": lambda a: a.reshape(2, -1).T,
    "iterator": lambda a: a.flat,
    "record": lambda a: Record({}, {"x": a}),
    "pieces": lambda a: list(pieces(Record({}, {"x": a}))),
}


@pytest.mark.parametrize("look", LOOKS)
def test_memory_is_not_used_again_while_somebody_looks(look: str) -> None:
    array = empty(SIZE, F4)
    array.fill(1)
    where, seen = place(array), LOOKS[look](array)
    del array
    others = [empty(SIZE, F4) for _ in range(3)]
    assert where not in map(place, others)
    for other in others:
        other.fill(2)
    if isinstance(seen, np.ndarray) and seen.dtype == F4:
        assert (seen == 1).all()
    del seen, others, other
    gc.collect()
    assert where in [place(a) for a in [empty(SIZE, F4) for _ in range(4)]]


def test_it_can_be_written_to_and_is_as_other_arrays() -> None:
    array = empty(SIZE, F4)
    array[:] = np.arange(SIZE)
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert Layout.of({"x": array}).nbytes == LARGE_BYTES


def test_only_the_same_size_is_used_again_and_small_ones_are_none_of_its_business() -> None:
    where = place(empty(SIZE, F4))
    other = empty(SIZE + 1, F4)
    assert other.nbytes == LARGE_BYTES + 4
    assert place(other) != where
    assert place(empty(SIZE // 2, np.dtype(np.float64))) == where
    before = len(large_arrays._kept)
    small = empty(10, F4)
    assert small.flags.owndata
    assert len(large_arrays._kept) == before


def test_sizes_that_change_do_not_pile_up() -> None:
    held = empty(SIZE, F4)
    for step in range(1, 6):
        empty(SIZE + step, F4)
    assert sum(memory.nbytes for _, memory in large_arrays._kept) == held.nbytes + LARGE_BYTES + 4 * 5


def test_a_model_of_several_arrays_uses_all_of_its_memory_again() -> None:
    places, state = [], []
    for _ in range(5):
        state = [empty(SIZE + k, F4) for k in range(3)]  # the last one is there until the next is made
        places.append({place(array) for array in state})
    assert places[2] == places[4] == places[0]
    assert places[1] == places[3]
    assert len(state) == 3


def test_what_is_released_goes_with_its_last_array() -> None:
    array = empty(SIZE, F4)
    array.fill(3)
    memory = weakref.ref(large_arrays._kept[0][1])
    release()
    assert not large_arrays._kept
    assert (array == 3).all()
    del array
    assert memory() is None
