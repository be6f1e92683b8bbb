"""Memory that agent and worker share: used again with its mapping, and never while somebody looks."""

from __future__ import annotations

import fcntl
import os

import numpy as np
import pytest

from hanse.errors import WireError
from hanse.node.shared_memory import Mappings, SharedPool, make

SIZE = 1 << 20


def filled(byte: int, nbytes: int = SIZE) -> memoryview:
    return memoryview(bytes([byte]) * nbytes)


def test_memory_that_is_used_again_keeps_its_mapping_and_holds_the_new_bytes() -> None:
    pool = SharedPool()
    first = pool.shared(SIZE)
    first.write(0, filled(1))
    assert bytes(first.read(0, SIZE)) == bytes(filled(1))
    mapping = first._mapping
    del first
    second = pool.shared(SIZE - 100)
    assert second._mapping is mapping is not None
    second.write(0, filled(2, 1000))
    second.write(1000, filled(3, SIZE - 1100))
    assert bytes(second.read(0, SIZE)) == b"\x02" * 1000 + b"\x03" * (SIZE - 1100)  # and not a byte more
    assert os.pread(second.fd, 2, 999) == b"\x02\x03"
    with pytest.raises(WireError):
        second.write(SIZE - 101, filled(4, 2))


def test_an_array_of_it_cannot_be_written_to() -> None:
    buffer = SharedPool().shared(SIZE)
    with pytest.raises(ValueError, match="WRITEABLE"):
        np.frombuffer(buffer.read(0, 8), np.uint8).setflags(write=True)


def test_memory_without_a_page_in_it_can_be_used_again() -> None:
    pool = SharedPool()
    broken = pool.shared(SIZE)  # its transfer broke off before the first byte
    del broken
    again = pool.shared(SIZE)
    again.write(SIZE - 8, filled(7, 8))
    assert bytes(again.read(0, SIZE)) == bytes(SIZE - 8) + b"\x07" * 8


def test_the_worker_sees_the_same_memory_through_one_mapping() -> None:
    mappings, fd = Mappings(), make(SIZE)
    window = mappings.window(fd, SIZE)
    window[:] = 5
    assert os.pread(fd, 3, SIZE - 3) == b"\x05" * 3
    other = os.dup(fd)  # it comes with every task, under another number
    assert mappings.window(other, 100).ctypes.data == window.ctypes.data
    with pytest.raises(WireError, match="expected"):
        mappings.window(fd, SIZE + 1)
    os.ftruncate(fd, 2 * SIZE)
    assert mappings.window(fd, 2 * SIZE).size == 2 * SIZE
    window[0] = 9  # the older look at it still holds
    assert os.pread(fd, 1, 0) == b"\x09"
    for number in (fd, other):
        os.close(number)


def mapped(inodes: list[int]) -> int:
    with open("/proc/self/maps") as maps:
        return sum(int(line.split()[4]) in inodes for line in maps if "memfd:hanse" in line)


def test_the_worker_holds_little_memory_and_lets_go_of_all() -> None:
    mappings, inodes = Mappings(), list[int]()
    for _ in range(10):
        fd = make(SIZE)
        mappings.window(fd, SIZE)
        inodes.append(os.fstat(fd).st_ino)
        os.close(fd)
    assert mapped(inodes) == 3
    mappings.clear()
    assert mapped(inodes) == 0


def test_memory_that_a_worker_shares_must_be_memory_that_can_be_used_again() -> None:
    pool = SharedPool()
    sealed, small, (pipe, writing) = make(SIZE), make(10), os.pipe()
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    for fd, message in ((sealed, "written"), (small, "announced"), (pipe, "something else")):
        with pytest.raises(WireError, match=message):
            pool.adopt(fd, SIZE)
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)  # closed
    os.close(writing)
    assert not pool._free


def test_an_answer_where_the_task_lay_is_read_to_its_end_and_not_beyond() -> None:
    pool = SharedPool()
    task = pool.shared(SIZE)
    task.write(0, filled(1))
    seen = np.frombuffer(task.read(0, 8), np.uint8)
    other, same = pool.shared(SIZE), os.dup(task.fd)
    assert not other.answered(same, SIZE)
    with pytest.raises(WireError, match="announced"):
        task.answered(same, SIZE + 1)
    assert task.answered(same, 10)
    os.pwrite(same, bytes(filled(2, 10)), 0)
    assert bytes(task.read(0, 20)) == b"\x02" * 10
    assert len(pool.shared(SIZE).read(0, SIZE)) == SIZE
    del task  # somebody still looks at it: it is not written to again
    pool.shared(SIZE).write(0, filled(3))
    assert seen.tolist() == [2] * 8
    os.close(same)


def test_a_huge_hole_from_a_worker_is_not_filled() -> None:
    pool, hole = SharedPool(), make(1 << 40)
    os.pwrite(hole, b"\x01" * SIZE, 0)
    buffer = pool.adopt(hole, SIZE)
    assert bytes(buffer.read(0, SIZE)) == bytes(filled(1))
    assert os.fstat(hole).st_blocks * 512 < 2 * SIZE
    assert buffer.capacity == SIZE
