"""The models of this node's own: what runs that leave each site a model of its own left here, for its owner to use.

Each is a file of safetensors that nobody else may read. It never leaves the node; it is removed by its owner alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanse.errors import NotFound, WireError
from hanse.messages import Record, load, pieces
from hanse.whole_files import write_whole

FOLDER = "models"
_ENDING = ".safetensors"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


@dataclass(frozen=True, slots=True)
class OwnModel:
    """One of them. ``record`` is as the result of a run, with this node's parameters."""

    run: str
    record: Record

    @property
    def title(self) -> str:
        """What it predicts by which model and strategy."""
        data = self.record.data
        return f"{data['model_name']} for {data['prepared']['target']!r} by {data['algorithm']}"


class OwnModels:
    """Those in a node's folder."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def keep(self, run: str, record: Record) -> None:
        """Keeps a run's model, in place of an earlier one of the same run; it is on disk when this returns."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        whole = Record({**record.data, "run": run}, record.arrays)
        write_whole(self._file(run), b"".join(bytes(piece) for piece in pieces(whole)))

    def list(self) -> list[OwnModel]:
        """Those that can be read, by the name of the run."""
        return sorted(self._sorted()[0], key=lambda one: one.run)

    def damaged(self) -> dict[str, str]:
        """The others: by what :meth:`remove` knows each, why it cannot be read."""
        return self._sorted()[1]

    def _sorted(self) -> tuple[Sequence[OwnModel], dict[str, str]]:
        whole, damaged = [], {}
        for path in sorted(self._folder.glob(f"*{_ENDING}")) if self._folder.is_dir() else ():
            try:
                whole.append(_read(path))
            except WireError as error:
                damaged[path.name.removesuffix(_ENDING)] = error.message
        return whole, damaged

    def get(self, run: str) -> OwnModel:
        """That of a run. Raises ``NotFound``, ``WireError``."""
        return _read(self._there(run))

    def remove(self, run: str) -> None:
        """Deletes that of a run, damaged or not. Raises ``NotFound``."""
        self._there(run).unlink()

    def _there(self, run: str) -> Path:
        path = self._file(run)
        if not path.is_file():
            known = ", ".join([*(one.run for one in self.list()), *self.damaged()]) or "none"
            raise NotFound(f"no model of run {run[:80]!r} was left here; there are {known}")
        return path

    def _file(self, run: str) -> Path:
        """A coordinator names its runs: what is no plain name is not a path either."""
        name = run if _PLAIN.fullmatch(run) else "of-" + hashlib.sha256(run.encode()).hexdigest()
        return self._folder / f"{name}{_ENDING}"


def _read(path: Path) -> OwnModel:
    try:
        record = load(path.read_bytes())
        found = OwnModel(str(record.data["run"]), record)
        _ = found.title, record.data["round"]  # what a list shows of it
    except (WireError, KeyError, TypeError) as error:
        why = f": {error.message}" if isinstance(error, WireError) else ""
        raise WireError(f"{path.name} is no model that a run left here, or is damaged; remove it{why}") from None
    return found
