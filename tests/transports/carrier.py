"""Keeps two folders in step as badly as a tool may that synchronises: late, out of order, in halves, twice, with copies
beside and with what was removed coming back. Not a test itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
from collections import Counter
from pathlib import Path


class Carrier:
    """Carries what the coordinator writes from ``coordinator`` to ``node``, and what nodes write the other way.

    Args:
        seed: of what goes wrong.
        faults: how often each file is delayed, cut, copied beside, or brought back after it was removed.
    """

    def __init__(self, coordinator: Path, node: Path, seed: int = 0, faults: float = 0.5) -> None:
        self._random, self._faults = random.Random(seed), faults
        self._ways = [
            (coordinator / "coordinator", node / "coordinator"),
            (coordinator / "to-nodes", node / "to-nodes"),
            (coordinator / "joined", node / "joined"),
            (node / "to-coordinator", coordinator / "to-coordinator"),
            (node / "joining", coordinator / "joining"),
        ]
        self._there: dict[Path, tuple[int, int]] = {}  # source to what of it was carried
        self.did: Counter[str] = Counter()
        self.kept: dict[Path, bytes] = {}  # all that was ever carried, by where to
        self.stopped = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(0.002)
            if not self.stopped:
                self.step()

    def step(self) -> None:
        """Looks once."""
        for source, target in self._ways:
            files = [path for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")]
            self._random.shuffle(files)
            for path in files:
                with contextlib.suppress(FileNotFoundError):
                    self._carry(path, target / path.relative_to(source))
            for path in [p for p in self._there if source in p.parents and not p.exists()]:
                self._remove(path, target / path.relative_to(source))

    def _carry(self, path: Path, to: Path) -> None:
        about = path.stat()
        looks = (about.st_size, about.st_mtime_ns)
        if self._there.get(path) == looks:
            return
        if self._chance("late"):
            return
        content = path.read_bytes()
        to.parent.mkdir(parents=True, exist_ok=True)
        if self._chance("beside"):
            name = f"{to.stem}.sync-conflict-20261129-120000-ABCDEFG{to.suffix}"
            (to.parent / name).write_bytes(content[::-1])
        if self._chance("cut"):
            to.write_bytes(content[: self._random.randrange(len(content))])  # in place: the rest comes another time
            return
        if self._chance("in place"):
            to.write_bytes(content)
        else:
            temporary = to.parent / f".syncthing.{to.name}.tmp"
            temporary.write_bytes(content)
            os.replace(temporary, to)
        self._there[path] = looks
        self.kept[to] = content

    def _remove(self, path: Path, to: Path) -> None:
        if self._chance("late"):
            return
        del self._there[path]
        to.unlink(missing_ok=True)
        old = [at for at in self.kept if at.parent == to.parent and at.suffix == ".sealed"]
        if old and self._chance("back again"):
            at = self._random.choice(old)
            at.write_bytes(self.kept[at])

    def _chance(self, what: str) -> bool:
        happens = self._random.random() < self._faults
        self.did[what] += happens
        return happens


def restore(kept: dict[Path, bytes], name: str = "") -> None:
    """Somebody puts back all that was ever there, or what is called so."""
    for path, content in kept.items():
        if name in path.name:
            path.write_bytes(content)


def emptied(folder: Path) -> None:
    """Somebody tidied up what is not theirs."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
