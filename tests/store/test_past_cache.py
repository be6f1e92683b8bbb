"""What is written past the page cache is in the file, byte by byte, wherever that lies."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse.store import past_cache as module
from hanse.store.past_cache import past_cache

BUFFER = 3 * 4096


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUFFER_BYTES", BUFFER)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield made
    os.close(made)


def written(fd: int, sizes: list[int]) -> bytes:
    raw = os.urandom(sum(sizes))
    with past_cache(fd) as write:
        place = 0
        for size in sizes:
            write(memoryview(raw)[place : place + size])
            place += size
    return raw


SIZES = [[], [0], [1], [4096], [BUFFER], [BUFFER + 1], [10, 4086], [5 * BUFFER - 1, 2], [100, 3 * BUFFER, 4096 - 100]]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_all_bytes_are_in_the_file(sizes: list[int], fd: int) -> None:
    raw = written(fd, sizes)
    assert os.pread(fd, 1 << 20, 0) == raw
    os.write(fd, b"more")  # it goes on as any file does
    assert os.pread(fd, 1 << 20, 0) == raw + b"more"


@pytest.mark.parametrize("sizes", SIZES[4:], ids=str)
@pytest.mark.parametrize("first", ["not at all", "no write", "a part"])
def test_where_the_file_system_cannot_they_go_through_its_cache(
    first: str, sizes: list[int], fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, direct = os.write, list[bool]()

    def write(fd: int, data: memoryview) -> int:
        direct.append(bool(module.fcntl.fcntl(fd, module.fcntl.F_GETFL) & os.O_DIRECT))
        if direct[-1] and first == "no write":
            raise OSError(errno.EINVAL, "invalid")
        return honest(fd, data[:1000] if direct[-1] else data) if first == "a part" else honest(fd, data)

    def none(self: module._File, flag: int) -> None:
        raise OSError(errno.EINVAL, "invalid")

    monkeypatch.setattr(os, "write", write)
    if first == "not at all":
        monkeypatch.setattr(module._File, "_set", none)
    raw = written(fd, sizes)
    assert os.pread(fd, 1 << 20, 0) == raw
    assert sum(direct) <= 1


def test_a_full_disk_is_said(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        written(fd, [BUFFER])
