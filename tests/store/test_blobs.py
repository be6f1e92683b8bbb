"""Records by content: whole or not there, and never other bytes than their name says."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hanse.errors import NotFound, Tampered
from hanse.messages import Record, digest, dump
from hanse.store.blobs import Blobs


def record(n: int = 1000, seed: int = 0) -> Record:
    values = np.random.default_rng(seed).random(n)
    return Record({"n": n}, {"w": values, "flags": np.array([True, False]), "none": np.zeros((0, 3), np.float32)})


def test_put_and_get(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    sha = blobs.put(record())
    assert sha == digest(record())
    assert blobs.path(sha).read_bytes() == dump(record())
    again = Blobs(tmp_path).get(sha)
    assert again.data == {"n": 1000}
    assert again.arrays["w"].tobytes() == record().arrays["w"].tobytes()
    assert again.arrays["none"].shape == (0, 3)
    assert not again.arrays["w"].flags.writeable
    assert blobs.put(record()) == sha
    assert blobs.sizes() == {sha: len(dump(record()))}
    assert [p.name for p in tmp_path.iterdir()] == [f"{sha}.safetensors"]


def test_an_empty_record(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    assert blobs.get(blobs.put(Record())).data == {}


def test_a_stored_record_can_be_stored_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    sha = blobs.put(record())
    assert blobs.put(blobs.get(sha)) == sha


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", None, 3])
def test_only_hashes_are_names(tmp_path: Path, name: str) -> None:
    blobs = Blobs(tmp_path)
    assert not blobs.has(name)
    with pytest.raises(NotFound):
        blobs.get(name)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grow", "header"])
def test_damage_is_found_and_mended_by_put(tmp_path: Path, damage: str) -> None:
    sha = Blobs(tmp_path).put(record())
    path = tmp_path / f"{sha}.safetensors"
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        raw[-5] ^= 1
    elif damage == "cut":
        del raw[-8:]
    elif damage == "empty":
        raw.clear()
    elif damage == "grow":
        raw += b"\0"
    else:
        raw[:8] = b"\xff" * 8
    path.chmod(0o600)
    path.write_bytes(raw)
    blobs = Blobs(tmp_path)
    with pytest.raises(Tampered):
        blobs.get(sha)
    blobs.put(record())
    assert blobs.get(sha).data == {"n": 1000}


def test_a_file_exchanged_after_it_was_checked_is_checked_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    sha = blobs.put(record())
    blobs.get(sha)
    other = dump(record(seed=1))
    replacement = tmp_path / "x"
    replacement.write_bytes(other)
    os.replace(replacement, blobs.path(sha))
    with pytest.raises(Tampered):
        blobs.get(sha)


@pytest.mark.parametrize("large", [True, False])
def test_the_pages_of_a_large_one_are_given_back_when_they_are_on_disk(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that it would not work, and what comes in next would have to make room by itself."""
    done: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sync(fd), done.append("synced"))[0])
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, what: done.append(f"advised {what}"))
    body = record()
    monkeypatch.setattr("hanse.store.blobs._LARGE_BYTES", body.nbytes + (not large))
    assert Blobs(tmp_path).put(body) == digest(body)
    assert done[:2] == (["synced", f"advised {os.POSIX_FADV_DONTNEED}"] if large else ["synced", "synced"])


def test_delete_and_prune(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, fsync=False)
    shas = [blobs.put(record(seed=i)) for i in range(4)]
    held = blobs.get(shas[0])
    assert blobs.delete(shas[0])
    assert not blobs.delete(shas[0])
    assert held.arrays["w"].sum() > 0  # still readable for those who hold it
    with pytest.raises(NotFound, match="pruned"):
        blobs.get(shas[0])
    assert blobs.prune({shas[1]}, grace_s=3600) == ()
    assert blobs.prune({shas[1]}) == tuple(sorted(shas[2:]))
    assert set(blobs.sizes()) == {shas[1]}


def test_leftovers_go_at_the_start_but_not_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / ".put-dead").write_bytes(b"half")
    blobs = Blobs(tmp_path, fsync=False)
    assert not (tmp_path / ".put-dead").exists()
    path, fd = blobs._temporary()
    Blobs(tmp_path)
    assert path.exists()
    os.close(fd)
    Blobs(tmp_path)
    assert not path.exists()


def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(ValueError, match="dtype"):
        blobs.put(Record({}, {"text": np.array(["a"])}))
    assert list(tmp_path.iterdir()) == []


def test_threads_may_put_the_same(tmp_path: Path) -> None:
    blobs, found = Blobs(tmp_path, fsync=False), []
    threads = [threading.Thread(target=lambda: found.append(blobs.put(record(50_000)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert blobs.get(found[0]).arrays["w"].shape == (50_000,)


_PUTTER = """
import sys, numpy as np
from hanse.messages import Record
from hanse.store.blobs import Blobs
blobs, i = Blobs(sys.argv[1]), 0
while True:
    print(blobs.put(Record({"i": i}, {"w": np.full(200_000, float(i))})), flush=True)
    i += 1
"""


def test_a_killed_writer_leaves_whole_records_only(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _PUTTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    shas = [process.stdout.readline().strip() for _ in range(10)]
    process.send_signal(signal.SIGKILL)
    shas += [line for line in process.stdout.read().split("\n")[:-1] if line]
    process.stdout.close()
    process.wait()
    blobs = Blobs(tmp_path)
    assert not list(tmp_path.glob(".put-*"))
    assert set(shas) <= set(blobs.sizes())
    for sha in blobs.sizes():
        assert blobs.get(sha).arrays["w"].shape == (200_000,)


def test_putting_holds_no_second_copy(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, fsync=False)
    big = Record({}, {"w": np.random.default_rng(0).integers(0, 255, 64 << 20, np.uint8)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sha = blobs.put(big)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 24 << 10  # KiB; the record has 64 MiB
    assert blobs.get(sha).nbytes == 64 << 20


@pytest.mark.long
def test_putting_is_quick(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, fsync=False)
    big = Record({}, {"w": np.random.default_rng(0).integers(0, 255, 64 << 20, np.uint8)})
    raw = big.arrays["w"]
    took, floor = [], []
    for _ in range(3):  # beside the same bytes hashed and written, of the processor's time: the machine is shared
        began = time.process_time()
        blobs.put(big)
        took.append(time.process_time() - began)
        began = time.process_time()
        hashlib.sha256(raw).digest()
        (tmp_path / "plain").write_bytes(raw)
        floor.append(time.process_time() - began)
    assert min(took) < 4 * min(floor)
