"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from hanse.whole_files import write_whole


def test_what_it_writes_and_who_may_read_it(tmp_path: Path) -> None:
    for mode in (0o600, 0o644, 0o400):
        write_whole(tmp_path / "a", "größe\n", mode)
        assert (tmp_path / "a").read_bytes() == "größe\n".encode()
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    write_whole(tmp_path / "a", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a"]


def test_one_that_is_there_can_be_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"first", replace=False)
    write_whole(tmp_path / "key", b"second", replace=False)
    assert (tmp_path / "key").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("broken", ["fsync", "fchmod", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_whole(tmp_path / "a", b"old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        with pytest.raises(OSError, match="no space"):
            write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    write_whole(tmp_path / "a", b"x")
    assert done == ["file", "name", "folder"]


def test_who_reads_meanwhile_finds_one_or_the_other(tmp_path: Path) -> None:
    texts = [bytes([i]) * 100_000 for i in range(4)]
    write_whole(tmp_path / "a", texts[0])
    writers = [threading.Thread(target=lambda t=t: [write_whole(tmp_path / "a", t) for _ in range(20)]) for t in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert (tmp_path / "a").read_bytes() in texts
    assert os.listdir(tmp_path) == ["a"]
