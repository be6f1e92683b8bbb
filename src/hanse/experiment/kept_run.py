"""A simulated run in a folder: the state after each step, what its sites remember, and the records of its steps.

Who proposes the same run again, over the same rows, after the process has ended or was killed, goes on from there and
ends with the same bytes. A completed run has its result in memory alone, so what it left here is removed only when its
simulation is closed: whoever is killed before they have written the model somewhere does its last step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from hanse.errors import Conflict, DataError, WireError
from hanse.experiment import records, remembered
from hanse.kinds import State
from hanse.messages import Array, Json, Record, dumps, load, loads, mark, pieces
from hanse.rounds import Journal, Step
from hanse.whole_files import write_whole

_MARK = 64  # hexadecimal digits before each record


@dataclass(frozen=True, slots=True)
class Before:
    """Where a run goes on: the next step, the state before it, the steps that were done, what each site remembers, and
    the models that it kept, by round."""

    step: int
    state: State
    steps: list[Step]
    sites: Mapping[str, Record]
    models: Mapping[int, Record]


class KeptRun:
    """One run in a folder of its own. Raises ``Conflict`` where somebody is at it.

    Args:
        folder: of this run alone; made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise Conflict(f"the same run is under way already, and keeps its states in {folder}") from None

    def before(self) -> Before | None:
        """Where to go on; None: at the beginning. Raises ``DataError`` where a file is damaged."""
        path, found = self.folder / "state", None
        if path.exists():
            record = _read(path)
            about = record.data
            arrays = {kind: _under(record, kind) for kind in ("state.", "sites.")}
            with open(self.folder / "steps", "rb") as file:
                lines = file.read(about["bytes"])
            if len(lines) < about["bytes"]:
                raise DataError(f"{self.folder / 'steps'} is damaged; remove its folder, and the run begins anew")
            steps = records.steps([loads(line) for line in lines.splitlines()])
            sites = remembered.apart(Record(about["sites"], arrays["sites."]))
            state = Record(about["state"], arrays["state."])
            kept = {number: _read(self._model(number)) for number in about["models"]}
            found = Before(about["step"], state, steps, sites, kept)
            os.truncate(self.folder / "steps", about["bytes"])  # steps since then are done again
        else:
            (self.folder / "steps").unlink(missing_ok=True)
        for number in self._models() - {*(found.models if found else ())}:  # so are the models that they made
            self._model(number).unlink()
        return found

    def add(self, step: Step) -> None:
        """The record of a step that is done."""
        said = {field.name: getattr(step, field.name) for field in fields(step)}
        with open(self.folder / "steps", "ab") as file:
            file.write(dumps(said).encode() + b"\n")

    def keep(self, step: int, state: State, sites: Mapping[str, Record]) -> None:
        """From here the run may go on: before ``step``, once the records of all steps before it and the models that
        they made are added."""
        with open(self.folder / "steps", "rb") as file:
            os.fsync(file.fileno())  # before the state that says how long it is
            size = os.fstat(file.fileno()).st_size
        both, models = remembered.together(sites), sorted(self._models())
        data: dict[str, Json] = {"step": step, "bytes": size, "state": state.data, "sites": both.data, "models": models}
        arrays = {f"state.{n}": a for n, a in state.arrays.items()} | {f"sites.{n}": a for n, a in both.arrays.items()}
        _write(self.folder / "state", Record(data, arrays))

    def model(self, number: int, model: Record) -> None:
        """A round's model, which stays with the run as it was when the round had made it: a later step that only
        measures it changes nothing here."""
        if not self._model(number).exists():
            _write(self._model(number), model)

    def close(self, ended: bool = False) -> None:
        """Nobody is at it any more; ``ended``: and nobody will go on with it."""
        if ended:
            (self.folder / "state").unlink(missing_ok=True)  # first: whoever is killed in between begins anew
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _model(self, number: int) -> Path:
        return self.folder / f"model-{number}"

    def _models(self) -> set[int]:
        return {int(path.name.removeprefix("model-")) for path in self.folder.glob("model-*")}


def remove(folder: Path) -> None:
    """What is left of a run, unless somebody is at it."""
    with contextlib.suppress(Conflict):
        KeptRun(folder).close(ended=True)


@dataclass(slots=True)
class Keeping:
    """A :class:`hanse.rounds.Journal` that keeps a run.

    Args:
        inner: is told when all is kept.
        run: where it is kept.
        sites: gives what each site remembers before a step; None where that cannot be kept.
        model: gives the number and the model of a state; None where there is none, or none is kept.
    """

    inner: Journal
    run: KeptRun
    sites: Callable[[int], Awaitable[Mapping[str, Record] | None]]
    model: Callable[[State], tuple[int, Record] | None]

    async def step(self, record: Step, state: State, keep: bool) -> None:
        self.run.add(record)
        if (made := self.model(state)) is not None:  # before the state, after which nobody makes it again
            self.run.model(*made)
        if keep and (sites := await self.sites(record.step + 1)) is not None:
            await asyncio.to_thread(self.run.keep, record.step + 1, state, sites)  # sites may be at work in this one
        await self.inner.step(record, state, keep)

    async def end(self) -> None:
        await self.inner.end()

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self.inner.event(kind, detail)


def _under(record: Record, prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: record.arrays[name] for name in record.arrays if name.startswith(prefix)}


def _write(path: Path, record: Record) -> None:
    write_whole(path, itertools.chain([mark(record).encode()], map(bytes, pieces(record))))


def _read(path: Path) -> Record:
    raw = path.read_bytes()
    try:
        record = load(memoryview(raw)[_MARK:])
        fine = mark(record).encode() == raw[:_MARK]
    except WireError:
        fine = False
    if not fine:
        raise DataError(f"{path} is damaged; remove its folder, and the run begins anew")
    return record
