"""Memory of large arrays is used again, and never while anybody looks at it."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hanse import large_arrays, spans
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine
from hanse.large_arrays import LARGE_BYTES, empty, puts, release, several, spill
from hanse.messages import Array, Layout, Record, Spool, digest, pieces

SIZE = LARGE_BYTES // 4
F4 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    release()
    gc.collect(1)  # what a test makes is young until it looks again: it need not look at all that there is
    yield
    large_arrays._shares = False
    spill(None)
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
    gc.collect(1)
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
    assert sum(kept.memory.nbytes for kept in large_arrays._kept) == held.nbytes + LARGE_BYTES + 4 * 5


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
    memory = weakref.ref(large_arrays._kept[0].memory)
    release()
    assert not large_arrays._kept
    assert (array == 3).all()
    del array
    assert memory() is None


# ---------------------------------------------------------------- what is too much for memory


def in_files() -> int:
    """Bytes of arrays in files that this process maps."""
    found = 0
    for row in Path("/proc/self/maps").read_text().splitlines():
        if ".spool (deleted)" in row:
            low, high = (int(number, 16) for number in row.split()[0].split("-"))
            found += high - low
    return found


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if every large array were too much for memory, and a folder for them."""
    monkeypatch.setattr(large_arrays, "MEMORY_BYTES", LARGE_BYTES - 1)
    spill(tmp_path)
    return tmp_path


def test_what_is_beyond_lies_in_files_without_a_name_and_is_used_again(little: Path) -> None:
    state = [empty(SIZE, F4) for _ in range(3)]
    assert in_files() == 3 * LARGE_BYTES
    assert list(little.iterdir()) == []
    for k, array in enumerate(state):
        array.fill(k)
    assert [float(array.mean()) for array in state] == [0, 1, 2]
    places = {place(array) for array in state}
    del array, state
    assert {place(array) for array in [empty(SIZE, F4) for _ in range(3)]} == places
    release()
    gc.collect(1)
    assert in_files() == 0


@pytest.mark.parametrize("of", ["one", "several"])
def test_what_is_put_is_in_the_array_and_goes_through_its_file(
    little: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = (empty(SIZE, F4) if of == "one" else several({"b": (99, F4), "a": (SIZE, F4)})["a"]).reshape(4, -1)
    written, write = list[int](), Spool.write
    monkeypatch.setattr(Spool, "write", lambda self, at, data: (written.append(len(data)), write(self, at, data)))
    block, put = np.arange(1 << 14, dtype=float), puts(array)
    for k in range(2):
        for low in range(0, SIZE, block.size):
            put(low, block + k)
        assert (array.reshape(-1, block.size) == block + k).all()
    assert sum(written) == 2 * LARGE_BYTES
    for start in (-1, SIZE - 1):
        with pytest.raises(ValueError, match="2 numbers at"):
            put(start, block[:2])
    release()
    put(0, block[:3] + 7)  # as long as somebody has the array
    assert array[0, :4].tolist() == [7, 8, 9, 4]


def test_what_lies_in_memory_is_put_there() -> None:
    for array in (empty(SIZE, F4), np.zeros(7, F4)):
        puts(array)(2, np.arange(3.0))
        assert array[1:6].tolist()[1:4] == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
@pytest.mark.parametrize("size", [SIZE // 2 + 3, 3])
def test_arrays_are_added_as_numpy_adds_them_wherever_they_lie(little: Path, size: int, dtype: str) -> None:
    made = np.random.default_rng(3).normal(scale=9, size=(2, size)).astype(dtype)
    total = empty(2 * size, np.dtype(dtype)).reshape(2, size)
    total[...] = made[::-1]
    spans.add(total, made)
    assert total.tobytes() == (made[::-1] + made).tobytes()
    if dtype != "i8":
        return
    with pytest.raises(TypeError, match="same_kind"):
        spans.add(total, made.astype(float))


def test_where_there_is_no_folder_or_no_room_it_is_memory(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    held = [empty(SIZE, F4) for _ in range(3)]
    held[2].fill(1)
    assert in_files() == 0
    assert list(little.iterdir()) == []
    monkeypatch.undo()
    spill(None)
    held += [empty(SIZE + 1, F4) for _ in range(3)]
    assert in_files() == 0


def test_many_small_arrays_that_are_large_together_lie_in_one_file(little: Path) -> None:
    wanted = {f"layer {k}": (1 + 10_007 * k, np.dtype(t)) for k, t in enumerate(("f4", "f8", "i8", "u1", "f4") * 8)}
    made = several(wanted)
    assert {name: (array.size, array.dtype) for name, array in made.items()} == wanted
    total = sum(array.nbytes for array in made.values())
    assert total <= in_files() <= total + 64 * len(wanted) + 4096
    for k, array in enumerate(made.values()):
        assert array.flags.aligned
        assert array.flags.c_contiguous
        array.fill(k % 100)
    for k, array in enumerate(made.values()):
        assert (array == k % 100).all()
    assert place(several(wanted)["layer 0"]) != place(made["layer 0"])
    few = several({"a": (3, F4), "b": (SIZE // 2, F4)})
    assert few["a"].flags.owndata
    assert few["b"].flags.owndata
    last = made["layer 39"]
    del made, array
    release()
    assert (last == 39).all()  # it holds what the others lay in
    del last, few
    gc.collect(1)
    assert in_files() == 0


def test_a_sum_in_files_has_the_same_bytes(little: Path) -> None:
    rows = np.random.default_rng(3)
    found = tuple(
        (
            Answer(f"n{k}", 1.0 + k, {}, {}, 0),
            Record({}, {"a.w": rows.normal(size=(3, SIZE // 3)).astype("f4"), "a.b": rows.normal(size=SIZE // 2)}),
        )
        for k in range(3)
    )
    in_file = Contributions(found, {}, Combine.SUM).mean()
    assert in_files() >= LARGE_BYTES
    spill(None)
    in_memory = Contributions(found, {}, Combine.SUM).mean()
    assert digest(Record({}, in_file)) == digest(Record({}, in_memory))


# ---------------------------------------------------------------- handed to another process


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_arrays, "SHARED_BYTES", LARGE_BYTES - 1)
    large_arrays.share()


def test_what_is_handed_on_is_what_was_written_and_is_never_written_to_again(sharing: None) -> None:
    array = empty(SIZE, F4)
    array[:] = np.arange(SIZE)
    expected = array.tobytes()
    fd = large_arrays.handed({"x": array})
    assert fd is not None
    try:
        assert large_arrays.handed({"x": array}) is None  # it is the other's now
        del array
        for _ in range(3):
            empty(SIZE, F4).fill(7)
        assert os.pread(fd, len(expected), 0) == expected
    finally:
        os.close(fd)


def test_several_arrays_are_handed_on_where_they_lie_as_they_travel(sharing: None) -> None:
    whole = empty(LARGE_BYTES, np.dtype(np.uint8))
    whole[:] = np.arange(LARGE_BYTES, dtype="u8").astype("u1")
    half = LARGE_BYTES // 2
    arrays = {"b": whole[half:].view("f4"), "a": whole[:half].view("f4")}
    turned = {"a": arrays["b"], "b": arrays["a"]}
    assert large_arrays.handed(turned) is None
    assert large_arrays.handed({**arrays, "c": np.zeros(3, "u1")}) is None
    fd = large_arrays.handed(arrays)
    assert fd is not None
    raw = b"".join(list(pieces(Record({}, arrays)))[1:])
    assert os.pread(fd, LARGE_BYTES, 0) == raw
    os.close(fd)


def test_what_lies_elsewhere_or_is_small_is_not_handed_on(sharing: None) -> None:
    array = empty(SIZE, F4)
    assert large_arrays.handed({"x": np.zeros(SIZE, F4)}) is None
    assert large_arrays.handed({"x": array[1:]}) is None
    assert large_arrays.handed({"x": array.view("u4")[::-1].view(F4)}) is None
    large_arrays._shares = False
    assert large_arrays.handed({"x": array}) is None


def test_descriptors_go_with_their_memory(sharing: None) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect(1)
    before = descriptors()
    for k in range(4):
        array = empty(SIZE + k, F4)
        del array
    release()
    gc.collect(1)
    assert descriptors() <= before


def test_what_is_lent_is_used_for_an_array_of_its_size_and_given_back(sharing: None) -> None:
    fd = os.memfd_create("lent")
    os.ftruncate(fd, LARGE_BYTES)
    memory = np.frombuffer(mmap.mmap(fd, LARGE_BYTES), np.uint8)
    large_arrays.lend(memory, fd)
    other = empty(SIZE + 1, F4)  # it is no reason to forget what was lent
    assert not large_arrays.loan_seen(fd)
    array = empty(SIZE, F4)
    array.fill(3)
    assert np.frombuffer(os.pread(fd, 40, LARGE_BYTES - 40), F4).tolist() == [3.0] * 10
    assert large_arrays.on_loan({"x": array}) == fd
    assert large_arrays.on_loan({"x": other}) is None
    assert large_arrays.handed({"x": array}) is None  # who lent it has it
    assert large_arrays.loan_seen(fd)
    assert large_arrays.settle()  # somebody looks at it
    del array
    assert not large_arrays.settle()
    assert place(empty(SIZE, F4)) != memory.ctypes.data
    os.fstat(fd)  # it is not ours to close
    os.close(fd)


@pytest.fixture
def sent(sharing: None) -> Iterator[tuple[int, list[Array]]]:
    """Memory that another process sent and lends for what is sent back: its descriptor, and a look at it."""
    fd = os.memfd_create("sent")
    os.ftruncate(fd, LARGE_BYTES)
    mapping = mmap.mmap(fd, LARGE_BYTES)
    window = np.frombuffer(mapping, np.uint8)
    large_arrays.lend(np.frombuffer(mapping, np.uint8), fd, weakref.ref(window))
    looks = [np.frombuffer(window.data.toreadonly(), F4).reshape(2, -1)]
    del window
    yield fd, looks
    os.close(fd)


def test_what_was_sent_is_written_over_only_by_who_says_so(sent: tuple[int, list[Array]]) -> None:
    fd, given = sent
    assert not large_arrays.handed({"x": given[0]})
    other = empty(SIZE, F4)
    other.fill(5)
    assert not given[0].any()
    array = large_arrays.in_place_of(given[0])
    assert (array.shape, array.dtype) == (given[0].shape, F4)
    array += 3
    assert os.pread(fd, LARGE_BYTES, 0) == np.full(SIZE, 3, F4).tobytes()
    assert large_arrays.on_loan({"x": array}) == fd
    part = large_arrays.in_place_of(given[0][1:])
    part += 1
    assert array[:, 0].tolist() == [3, 4]
    assert large_arrays.on_loan({"x": part}) is None  # it does not lie there from the first byte on
    elsewhere = [given[0][:, 1:], np.zeros(SIZE, F4), np.zeros((0, 3), F4)]
    for found in elsewhere:
        made = large_arrays.in_place_of(found)
        made[...] = 9
        assert made.shape == found.shape
    assert array[0].max() == 3
    given.clear()
    del array, made
    assert large_arrays.settle()  # a part of it is still looked at
    del part


def test_what_was_sent_and_is_looked_at_no_more_is_lent_as_any_other(sent: tuple[int, list[Array]]) -> None:
    fd, given = sent
    assert large_arrays.loan_seen(fd)
    given.clear()
    assert not large_arrays.loan_seen(fd)
    array = empty(SIZE, F4)
    array.fill(2)
    assert large_arrays.on_loan({"x": array}) == fd
    assert os.pread(fd, 4, 0) == np.float32(2).tobytes()
    del array
    assert not large_arrays.settle()


def test_an_array_that_nobody_lent_is_not_written_over(sharing: None) -> None:
    for array in (empty(SIZE, F4), np.ones(5, F4)):
        array.fill(1)
        large_arrays.in_place_of(array).fill(2)
        assert (array == 1).all()


def test_who_looks_at_what_was_handed_on_is_told_once(sharing: None) -> None:
    array = empty(SIZE, F4)
    fd = large_arrays.handed({"x": array})
    assert fd is not None
    os.close(fd)
    assert large_arrays.settle()
    assert not large_arrays.settle()
