"""Spool files are used again for a moment, hold nothing of each other, and go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hanse.errors import TooLarge, WireError
from hanse.messages import Assembler, Message, Record, Spool, frames
from hanse.transports import _spools
from hanse.transports._spools import Spools

SIZE = 1 << 20


def open_files(folder: Path) -> int:
    """How many files of the folder are open, with a name or without."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder))
    return count


def filled(spool: Spool, byte: int, nbytes: int) -> Spool:
    spool.write(0, memoryview(bytes([byte]) * nbytes))
    return spool


def test_a_file_is_used_again_and_what_it_held_cannot_be_read(tmp_path: Path) -> None:
    async def main() -> None:
        spools = Spools(tmp_path)
        first = filled(spools.take(SIZE), 1, SIZE)
        fd = first._fd
        del first
        assert spools.kept_bytes == SIZE
        second = filled(spools.take(10), 2, 10)
        assert second._fd == fd
        assert bytes(second.read(0, 10)) == b"\x02" * 10
        for offset, nbytes in ((0, 11), (10, 1), (5, 6), (-1, 2)):
            with pytest.raises(WireError):
                second.read(offset, nbytes)
        with pytest.raises(WireError):
            second.write(5, memoryview(bytes(6)))
        assert not list(tmp_path.iterdir())  # it has no name that could be left behind

    asyncio.run(main())


def test_a_message_in_a_file_that_was_used_before_is_the_message(tmp_path: Path) -> None:
    async def main() -> None:
        spools, random = Spools(tmp_path), np.random.default_rng(1)
        for size in (5000, 200, 9000, 0, 4999):
            x = random.standard_normal(size)
            assembler, message = Assembler(spools.take), None
            for frame in frames(Message("reply", "1", "n", Record({}, {"x": x})), 1, 1024):
                message = assembler.feed(frame)
            assert isinstance(message, Message)
            assert message.body.arrays["x"].tobytes() == x.tobytes()

    asyncio.run(main())


def test_two_payloads_never_share_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        spools = Spools(tmp_path)
        for _ in range(3):
            held = [filled(spools.take(SIZE), k, SIZE) for k in range(4)]
            assert len({spool._fd for spool in held}) == 4
            assert [bytes(spool.read(SIZE - 1, 1)) for spool in held] == [bytes([k]) for k in range(4)]
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        assert spools.kept_bytes == 4 * SIZE

    asyncio.run(main())


def test_files_that_nobody_needs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spools, "IDLE_SECONDS", 0.05)

    async def main() -> None:
        spools = Spools(tmp_path)
        held = filled(spools.take(SIZE), 1, SIZE)
        filled(spools.take(SIZE), 1, SIZE)
        assert spools.kept_bytes == SIZE
        assert open_files(tmp_path) == 2
        for _ in range(100):
            await asyncio.sleep(0.02)
            if spools.idle._timer is None:
                break
        assert spools.kept_bytes == 0
        del held  # the step took longer than that: it is kept for the next one, and goes like the others
        assert spools.kept_bytes == SIZE
        for _ in range(100):
            await asyncio.sleep(0.02)
            if spools.idle._timer is None and open_files(tmp_path) == 0:
                break
        assert spools.kept_bytes == 0
        assert open_files(tmp_path) == 0

    asyncio.run(main())


def test_little_is_kept_and_nothing_without_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spools, "KEPT_BYTES", 3 * SIZE)

    async def main() -> None:
        async def kept(nbytes: int) -> None:
            for _ in range(200):
                if spools.kept_bytes == nbytes and open_files(tmp_path) == nbytes // SIZE:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(f"{spools.kept_bytes} bytes are kept in {open_files(tmp_path)} open files")

        spools = Spools(tmp_path)
        held = [filled(spools.take(SIZE), k, SIZE) for k in range(5)]
        held.clear()
        await kept(3 * SIZE)
        monkeypatch.setattr(_spools, "KEPT_FILES", 2)
        filled(spools.take(SIZE), 1, SIZE)
        await kept(2 * SIZE)

    asyncio.run(main())
    gc.collect()
    assert open_files(tmp_path) == 0
    spools = Spools(tmp_path)
    filled(spools.take(SIZE), 1, SIZE)
    assert spools.kept_bytes == 0
    assert open_files(tmp_path) == 0


def test_what_is_freed_after_its_event_loop_is_not_kept(tmp_path: Path) -> None:
    spools = Spools(tmp_path)

    async def main() -> Spool:
        return filled(spools.take(SIZE), 1, SIZE)

    held = asyncio.run(main())
    assert open_files(tmp_path) == 1
    del held
    assert spools.kept_bytes == 0
    assert open_files(tmp_path) == 0


def test_files_are_closed_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spools, "KEPT_FILES", 0)
    closers: list[int] = []
    honest = _spools._close

    def watched(descriptors: list[int]) -> None:
        if descriptors:
            closers.append(threading.get_ident())
        honest(descriptors)

    monkeypatch.setattr(_spools, "_close", watched)

    async def main() -> None:
        spools = Spools(tmp_path)
        filled(spools.take(SIZE), 1, SIZE)
        for _ in range(200):
            if closers and open_files(tmp_path) == 0:
                return
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(closers) == 1
    assert closers[0] != threading.get_ident()


def test_files_that_are_too_many_while_the_loop_ends_are_closed_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop that ends lends no threads, and still waits for those that work."""

    async def main() -> None:
        spools = Spools(tmp_path)
        filled(spools.take(SIZE), 1, SIZE)
        assert open_files(tmp_path) == 1
        await asyncio.get_running_loop().shutdown_default_executor()
        monkeypatch.setattr(_spools, "IDLE_SECONDS", 0.0)
        spools.idle._look()
        assert spools.kept_bytes == 0
        assert open_files(tmp_path) == 0

    asyncio.run(main())


def test_a_payload_for_which_the_disk_has_no_room_is_refused_before_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file holds already counts, as it is written over."""

    async def main() -> None:
        spools = Spools(tmp_path)
        del (used := [filled(spools.take(SIZE), 1, SIZE)])[:]
        assert not used
        room = SimpleNamespace(f_bavail=10, f_frsize=4096)
        monkeypatch.setattr(os, "fstatvfs", lambda fd: room)
        with pytest.raises(TooLarge, match=f"there is room on disk for {SIZE + 40_960}"):
            spools.take(SIZE + 40_961)
        assert spools.kept_bytes == SIZE  # the file is kept for one that fits
        filled(spools.take(SIZE + 40_960), 2, SIZE)

    asyncio.run(main())
