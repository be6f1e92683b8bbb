"""The models of this node's own: what runs that leave each site a model of its own left here, for its owner to use.

Each is a file of safetensors that nobody else may read. It never leaves the node; it is removed by its owner alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hanse.errors import NotFound, WireError
from hanse.messages import Record, load, pieces
from hanse.whole_files import write_whole

FOLDER = "models"
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
        """All of them, by the name of the run. Raises ``WireError`` for a file that is damaged."""
        found = [_read(path) for path in self._folder.glob("*.safetensors")] if self._folder.is_dir() else []
        return sorted(found, key=lambda one: one.run)

    def get(self, run: str) -> OwnModel:
        """That of a run. Raises ``NotFound``, ``WireError``."""
        path = self._file(run)
        if not path.is_file():
            known = ", ".join(one.run for one in self.list()) or "none"
            raise NotFound(f"no model of run {run[:80]!r} was left here; there are {known}")
        return _read(path)

    def remove(self, run: str) -> None:
        """Deletes that of a run. Raises ``NotFound``."""
        self._file(self.get(run).run).unlink()

    def _file(self, run: str) -> Path:
        """A coordinator names its runs: what is no plain name is not a path either."""
        name = run if _PLAIN.fullmatch(run) else "of-" + hashlib.sha256(run.encode()).hexdigest()
        return self._folder / f"{name}.safetensors"


def _read(path: Path) -> OwnModel:
    record = load(path.read_bytes())
    try:
        return OwnModel(str(record.data["run"]), record)
    except KeyError:
        raise WireError(f"{path.name} is no model that a run left here; remove it") from None
