"""Keeping the two ends of a session's files in step by exchanging parcels, one after the other, each answered by one.

A parcel says which files of its sender there are, and which of the other side's it has; with it go those that the other
side lacks. So a parcel that is lost, or comes twice, costs time and nothing else. What is in the files is sealed
(``_folder_papers.py``): whoever carries a parcel learns their names and sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hanse.errors import WireError
from hanse.messages import Array, Json, Record, dump, load
from hanse.transports import _folder_files as files

PARCEL_BYTES = 64 << 20  # of files in one parcel
LONGEST_WAIT_S = 60.0


class Mirror:
    """One side's files, and its copies of the other's.

    Args:
        root: the folder.
        mine, theirs: the directories in it that this side writes, and those that it has copies of.

    >>> import tempfile
    >>> one, other = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> (one / "a").mkdir(); _ = (one / "a" / "hello.json").write_text("said")
    >>> here, there = Mirror(one, ["a"], ["b"]), Mirror(other, ["b"], ["a"])
    >>> there.take(here.packed()), (other / "a" / "hello.json").read_text()
    (True, 'said')
    >>> here.lacking(), here.take(there.packed()), here.lacking()
    (['a/hello.json'], False, [])
    """

    def __init__(self, root: Path, mine: Sequence[str], theirs: Sequence[str]) -> None:
        self._root, self._mine, self._theirs = root, tuple(mine), frozenset(theirs)
        self._known: Mapping[str, str] = {}  # what the other side has of ours, as it said last
        self._copies: dict[str, str] = {}
        self.wait_s = 0.0  # how long the other side would wait for news

    def packed(self, wait_s: float = 0.0) -> bytes:
        """A parcel for the other side. ``wait_s``: how long its answer may wait for news."""
        there = self._there()
        arrays: dict[str, Array] = {}
        size = 0
        for name in self._lacking(there):
            content = files.read(self._root / name, PARCEL_BYTES)
            if content is None:
                continue
            if arrays and size + len(content) > PARCEL_BYTES:
                break
            arrays[name], size = np.frombuffer(content, np.uint8), size + len(content)
        said: dict[str, Json] = {"there": dict(there), "have": dict(self._copies), "wait_s": wait_s}
        return dump(Record(said, arrays))

    def lacking(self) -> list[str]:
        """Files that the other side does not have, and that are worth a parcel: what was read can wait for one."""
        return [name for name in self._lacking(self._there()) if not name.endswith(".seen")]

    def take(self, parcel: bytes) -> bool:
        """Does what a parcel says; returns whether anything came. Raises ``WireError``."""
        record = load(parcel)
        there, have = (_tags(record.data.get(name)) for name in ("there", "have"))
        wait_s = record.data.get("wait_s")
        if not isinstance(wait_s, int | float) or not 0 <= wait_s <= LONGEST_WAIT_S:
            raise WireError("a parcel that does not say how long its answer may wait")
        for name in {*there, *record.arrays}:
            folder, _, file = name.rpartition("/")
            if folder not in self._theirs or not files.named(file) or name not in there:
                raise WireError(f"a parcel with {name[:200]!r}, which is none of its sender's files")
        for name, array in record.arrays.items():
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.place(path, np.asarray(array, np.uint8).tobytes(), sync=False)
            self._copies[name] = there[name]
        for name in [name for name in self._copies if name not in there]:
            files.remove(self._root / name)
            del self._copies[name]
        self._known, self.wait_s = have, float(wait_s)
        return any(not name.endswith(".seen") for name in record.arrays)

    def _lacking(self, there: Mapping[str, str]) -> list[str]:
        return sorted(name for name, tag in there.items() if self._known.get(name) != tag)

    def _there(self) -> dict[str, str]:
        found = {}
        for folder in self._mine:
            for file in filter(files.named, files.listed(self._root / folder)):
                try:
                    about = (self._root / folder / file).stat()
                except OSError:
                    continue
                found[f"{folder}/{file}"] = f"{about.st_size}-{about.st_mtime_ns}-{about.st_ino}"
        return found


def _tags(said: Any) -> dict[str, str]:
    if not isinstance(said, dict) or not all(isinstance(tag, str) for tag in said.values()):
        raise WireError("a parcel that does not say what there is")
    return said
