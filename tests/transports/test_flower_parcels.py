"""Two sides' files are kept in step by parcels, whatever of them is lost or comes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.errors import WireError
from hanse.messages import Record, dump
from hanse.transports import _flower_parcels as parcels
from hanse.transports._flower_parcels import Mirror
from hanse.transports._folder_files import sealed

SESSION = "ab" * 16


def pair(home: Path) -> tuple[Mirror, Mirror]:
    (home / "one/a").mkdir(parents=True)
    (home / "other/b").mkdir(parents=True)
    return Mirror(home / "one", ["a"], ["b"]), Mirror(home / "other", ["b"], ["a"])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "remove", "rewrite"]), st.integers(0, 4), st.booleans()), max_size=12
    )
)
def test_what_is_lost_on_the_way_is_sent_again(steps: list[tuple[str, int, bool]], tmp_path_factory: object) -> None:
    home = tmp_path_factory.mktemp("mirror")  # type: ignore[attr-defined]
    here, there = pair(home)
    for what, number, arrives in steps:
        path = home / "one/a" / (sealed(SESSION, number) if what != "rewrite" else "hello.json")
        if what == "remove":
            path.unlink(missing_ok=True)
        else:
            (path.parent / ".new").write_bytes(f"{what} {number}".encode())
            (path.parent / ".new").replace(path)
        parcel = here.packed()
        if arrives:
            there.take(parcel)
            there.take(parcel)  # twice is once
    there.take(here.packed())
    here.take(there.packed())
    assert content(home / "other/a") == content(home / "one/a")
    assert here.lacking() == []


def test_more_than_a_parcel_takes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "PARCEL_BYTES", 1000)
    here, there = pair(tmp_path)
    for number in range(5):
        (tmp_path / "one/a" / sealed(SESSION, number)).write_bytes(bytes(400))
    count = 0
    while here.lacking():
        there.take(here.packed())
        here.take(there.packed())
        count += 1
    assert count == 3
    assert len(content(tmp_path / "other/a")) == 5


def test_what_was_read_is_not_worth_a_parcel(tmp_path: Path) -> None:
    here, there = pair(tmp_path)
    (tmp_path / "one/a" / f"{SESSION}.seen").write_bytes(b"x")
    assert here.lacking() == []
    assert not there.take(here.packed())
    assert content(tmp_path / "other/a") == {f"{SESSION}.seen": b"x"}  # it rides along all the same


@pytest.mark.parametrize(
    "name",
    ["a/../../evil", "b/hello.json", "a/evil.sh", "/etc/passwd", "hello.json", "a/.hello.json", "a/a/hello.json"],
)
def test_no_file_is_written_but_the_other_sides(tmp_path: Path, name: str) -> None:
    _, there = pair(tmp_path)
    said = {"there": {name: "1"}, "have": {}, "wait_s": 0.0}
    with pytest.raises(WireError, match="none of its sender's files"):
        there.take(dump(Record(said, {name: np.zeros(3, np.uint8)})))
    assert content(tmp_path / "other/a") == {}
    assert content(tmp_path / "other/b") == {}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"there": {}, "have": {}},
        {"there": [], "have": {}, "wait_s": 0},
        {"there": {}, "have": {"x": 1}, "wait_s": 0},
        {"there": {}, "have": {}, "wait_s": 1e9},
        {"there": {}, "have": {}, "wait_s": "1"},
    ],
)
def test_a_parcel_says_all_that_it_has_to(tmp_path: Path, said: dict[str, object]) -> None:
    _, there = pair(tmp_path)
    with pytest.raises(WireError):
        there.take(dump(Record(said)))  # type: ignore[arg-type]


def test_bytes_that_are_no_parcel(tmp_path: Path) -> None:
    _, there = pair(tmp_path)
    for raw in (b"", b"x" * 100, dump(Record())[:-3]):
        with pytest.raises(WireError):
            there.take(raw)
