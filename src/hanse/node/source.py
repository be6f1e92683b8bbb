"""A dataset's rows in batches: what statistics read, so that a file larger than memory works.

A registered file was read in full and strictly once, and its hash binds it; so here it is read by the
fastest way that gives the same values (:func:`hanse.readers.typed`).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from hanse import readers
from hanse.errors import DataError
from hanse.messages import Json
from hanse.table import Table, canonical_name
from hanse.whole_files import write_whole

ROWS = 1 << 17  # of a batch: a column of it is 1 MiB
SHOWN = "shown.json"


class ShownBefore(MutableMapping[str, Json]):
    """What queries have been shown of one version of a dataset, in a file of the node's folder. What is
    set is on disk before the next line runs, so a killed node forgets nothing."""

    def __init__(self, home: Path, version: str) -> None:
        self._home, self._file, self._version = home, home / SHOWN, version

    def _all(self) -> dict[str, dict[str, Json]]:
        try:
            found = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise DataError(f"{SHOWN} is damaged; the node's owner restores it from a backup")  # never: forget it
        return found

    def __getitem__(self, key: str) -> Json:
        return self._all().get(self._version, {})[key]

    def __setitem__(self, key: str, value: Json) -> None:
        with open(self._home / f"{SHOWN}.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole = self._all()
            whole.setdefault(self._version, {})[key] = value
            write_whole(self._file, json.dumps(whole))

    def __delitem__(self, key: str) -> None:
        raise DataError("what was shown cannot be taken back")

    def __iter__(self) -> Iterator[str]:
        return iter(self._all().get(self._version, {}))

    def __len__(self) -> int:
        return len(self._all().get(self._version, {}))


class FileSource:
    """The rows of a registered file.

    Args:
        path, schema, rows, options: as registered.
        memory: see :class:`ShownBefore`.
        unchanged: raises unless the file is still the registered one; called after each pass.
    """

    def __init__(
        self,
        path: Path,
        schema: Mapping[str, str],
        rows: int,
        options: Mapping[str, Any],
        memory: MutableMapping[str, Json],
        unchanged: Any,
    ) -> None:
        self._path, self._kinds, self._options, self._unchanged = path, dict(schema), dict(options), unchanged
        self._names = {canonical_name(name): name for name in schema}
        self.schema: Mapping[str, str] = {clean: schema[name] for clean, name in self._names.items()}
        self.rows, self.memory = rows, memory

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        """The rows in order, read from the file; at least one batch. Raises ``DataError`` where the file is no longer
        the registered one, or gives another number of rows."""
        names = [self._names[c] for c in columns] or list(self._kinds)[:1]
        seen = 0
        for batch in readers.typed(self._path, names, ROWS, self._kinds, **self._options):
            seen += batch.rows
            yield Table({canonical_name(n): c for n, c in batch.columns.items()})
            del batch  # what it is of goes before more is read
        self._unchanged()
        if seen != self.rows:
            raise DataError("the dataset gives another number of rows than it was registered with; refresh it")
