"""Policies are followed as their files change, and nothing is decided while they cannot be read."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from hanse.cedar import files as followed_files
from hanse.cedar.files import LOOK_S, SETTLED_S, PolicyFiles, read
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import ConfigError, NotNow
from hanse.facts import Facts
from tests.policy.some_facts import FINE

NODE = Vocabulary({"answer": Facts})
YES = '@id("yes") permit (principal, action, resource);\n'
NO = '@id("no") forbid (principal, action, resource);\n'


class Clock:
    """Whoever looks at it twice sees time pass."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.02
        return self.now


@pytest.fixture(autouse=True)
def each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are looked at whenever something is decided."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.0)


def test_files_are_looked_at_as_often_as_is_said_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what stays as it is; a change is looked at until it counts. Also by a clock that is put back."""
    monkeypatch.setattr(followed_files, "LOOK_S", LOOK_S)
    file, at, looks = tmp_path / "a.cedar", [100.0], 0
    file.write_text(YES)
    files = PolicyFiles(file, NODE, lambda: at[0], lambda: 0.0)

    def counted() -> int:
        nonlocal looks
        before = looks
        files.current()
        return looks - before

    look = files._look

    def looked() -> object:
        nonlocal looks
        looks += 1
        return look()

    monkeypatch.setattr(files, "_look", looked)
    assert [counted() for _ in range(3)] == [1, 0, 0]
    at[0] += 0.99 * LOOK_S
    assert counted() == 0
    at[0] += 0.02 * LOOK_S
    assert [counted(), counted()] == [1, 0]
    at[0] -= 1
    assert counted() == 1
    at[0] += 1.01 * LOOK_S
    file.write_text(YES + NO)
    assert [counted(), counted()] == [1, 1]
    at[0] += SETTLED_S
    assert not says(files)


def followed(path: Path, clock: Clock) -> PolicyFiles:
    """By this clock alone: files that are not dated yet."""
    return PolicyFiles(path, NODE, clock, lambda: 0.0)


def says(files: PolicyFiles) -> bool:
    return files.current().decide("answer", "Ada", "r", FINE).allowed


@pytest.mark.parametrize("folder", [False, True])
def test_a_change_counts_once_the_files_have_stayed_the_same(tmp_path: Path, folder: bool) -> None:
    file, clock = tmp_path / "a.cedar", Clock()
    file.write_text(YES)
    files = followed(tmp_path if folder else file, clock)
    assert says(files)
    file.write_text(YES + NO[:10])  # an editor that has not finished
    assert says(files)
    clock.now += SETTLED_S / 2
    file.write_text(YES + NO)
    assert says(files)
    clock.now += SETTLED_S / 2
    assert says(files)  # these are not as old yet
    clock.now += SETTLED_S
    assert not says(files)


class Later:
    """A date that many seconds after the real one."""

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self) -> float:
        return time.time() + self.by


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("what", ["written", "as old and as large as before", "gone", "come"])
def test_what_changed_while_nothing_was_decided_counts_at_once(tmp_path: Path, folder: bool, what: str) -> None:
    """What was asked first, an hour after an owner had forbidden it, was allowed: only then the change was seen, and
    it had to settle."""
    file, clock, date = tmp_path / "rules" / "a.cedar", Clock(), Later()
    file.parent.mkdir()
    file.write_text(YES + "/" * (len(NO) - 1) + "\n")
    before = file.stat()
    files = PolicyFiles(file.parent if folder else file, NODE, clock, date)
    assert says(files)
    if what == "written":
        file.write_text(YES + NO)
    elif what == "as old and as large as before":
        file.write_text(YES + NO)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif what == "gone":
        file.unlink()
    elif not folder:
        return
    else:
        (file.parent / "b.cedar").write_text(NO)
    date.by = 3600.0
    if what == "gone":
        with pytest.raises(NotNow):
            says(files)
    else:
        assert not says(files)


def test_a_folder_that_is_gone_with_what_held_it_permits_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "a.cedar").write_text(YES)
    files = PolicyFiles(tmp_path / "a" / "b", NODE, Clock())
    assert says(files)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(NotNow):
        says(files)


def test_nothing_is_decided_while_they_cannot_be_read(tmp_path: Path) -> None:
    file, clock = tmp_path / "a.cedar", Clock()
    file.write_text(YES)
    files = followed(file, clock)
    for broken in ("permit (principal, action", YES.replace(";", " when { context.purpos == 1 };"), NO):
        file.write_text(broken)
        says(files) if files._policies else None
        clock.now += 1
        for _ in range(2):
            with pytest.raises(NotNow, match="cannot be read now"):
                says(files)
                says(files)
                clock.now += 1
        file.write_text(YES)
        with pytest.raises(NotNow):
            says(files)
        clock.now += 1
        assert says(files)
    file.unlink()
    assert says(files)
    clock.now += 1
    with pytest.raises(NotNow):
        says(files)


def test_files_that_come_and_go_in_a_folder_count(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a.cedar").write_text(YES)
    files = followed(tmp_path, clock)
    for name, text in ((".b.cedar.swp", NO), ("b.cedar~", NO), ("notes.txt", NO)):  # none of them is one
        (tmp_path / name).write_text(text)
        assert says(files)
        clock.now += 1
        assert says(files)
    (tmp_path / "b.cedar").write_text(NO)
    assert says(files)
    clock.now += 1
    assert not says(files)
    (tmp_path / "b.cedar").unlink()
    assert not says(files)
    clock.now += 1
    assert says(files)


@pytest.mark.parametrize("name", ["b.CEDAR", "b.cedar.txt", "b.Cedar.TXT", "more/b.cedar", "b.cedar/notes"])
def test_a_policy_under_a_name_that_is_not_read_is_not_passed_over(tmp_path: Path, name: str) -> None:
    """It would forbid nothing, and nobody be told."""
    clock = Clock()
    (tmp_path / "a.cedar").write_text(YES)
    files = followed(tmp_path, clock)
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(NO)
    with pytest.raises(ConfigError, match=f"{name.partition('/')[0]} in .* would not be read as a policy: only files"):
        read(tmp_path, NODE)
    assert says(files)
    clock.now += 1
    with pytest.raises(NotNow):
        says(files)
    place.rename(tmp_path / "b.cedar" if place.parent == tmp_path else tmp_path / "moved")
    if place.parent != tmp_path:
        place.parent.rmdir()
    with pytest.raises(NotNow):
        says(files)
    clock.now += 1
    assert says(files) is (place.parent != tmp_path)


def test_what_cannot_be_read_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.cedar", NODE)
    with pytest.raises(ConfigError, match=r"no file \*.cedar"):
        read(tmp_path, NODE)
    (tmp_path / "a.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        PolicyFiles(tmp_path, NODE)


def _has_leases(folder: Path) -> bool:
    """Whether the system tells who writes a file there."""
    (folder / "nobody writes").touch()
    with (folder / "nobody writes").open() as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except (OSError, AttributeError):
            return False
    return True


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("over", [False, True])
def test_a_file_that_is_still_being_written_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: bool, over: bool
) -> None:
    """A writer that paused for longer than files have to stay the same had its first half decide: a permit without
    its forbid."""
    if not _has_leases(tmp_path):
        pytest.skip("needs a system that tells who writes a file: Linux, and a file system with leases")
    file, clock, date = tmp_path / "a.cedar", Clock(), Later()
    file.write_text(YES + NO)
    files = PolicyFiles(tmp_path if folder else file, NODE, clock, date)
    assert not says(files)
    with file.open("w") as writer:
        writer.write(YES)
        writer.flush()
        date.by = 3600.0 if over else 0.0
        for _ in range(5):
            assert not says(files), "the half is none of the policies"
            clock.now += 2 * SETTLED_S
        assert caplog.text.count("is open to write: it counts when that is over") == 1
        clock.now += followed_files.WRITTEN_S
        with pytest.raises(NotNow, match=r"being written \(a.cedar\), for too long by now"):
            files.current()
        writer.write(NO.replace("no", "another"))
    for _ in range(2):
        clock.now += SETTLED_S
        said = files.current().decide("answer", "Ada", "r", FINE)
    assert said.by == ("another",)
    with file.open("a") as writer:
        assert followed_files._open_to_write(file)
    assert not followed_files._open_to_write(file)
