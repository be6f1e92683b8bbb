"""The node's register of datasets: what is here, what may be said about it, and that it is unchanged.

The register is ``catalogue.json`` in the node's home. Paths stand in it and in nothing that leaves the
node: :meth:`hanse.node.dataset.Dataset.public` and :func:`hanse.summary.summary` are all that others get to know.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hanse import readers
from hanse.errors import ConfigError, Conflict, DataError, NotFound
from hanse.kinds import Source, generator
from hanse.node.contents import stamp_of, version_of
from hanse.node.dataset import Dataset
from hanse.node.describing import Describe, Note, describe
from hanse.node.mock import empty, make_mock, read_mock
from hanse.queries import TableSource
from hanse.table import Column, ReadColumns, Table
from hanse.whole_files import write_whole

HELD_BYTES = 64 << 20  # of a table that is kept in memory, where an algorithm could do with one column at a time
FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
TAG = re.compile(r"[^\s\x00-\x1f\x7f]{1,64}")


class Catalogue:
    """The register in ``home``; safe with several processes on one home.

    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> _ = (home / "visits.csv").write_text("age,ill\\n61,yes\\n47,no\\n")
    >>> catalogue = Catalogue(home / "node")
    >>> catalogue.add(home / "visits.csv", tags=["visits"]).schema
    {'age': 'numeric', 'ill': 'categorical'}
    >>> catalogue.load("visits").rows
    2
    """

    def __init__(self, home: Path, describe: Describe = describe) -> None:
        """``describe``: what looks at a file that is added or has changed; by default in this process."""
        self.home, self._describe = Path(home), describe
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self.home / "catalogue.json"

    def add(
        self,
        path: str | Path,
        name: str | None = None,
        tags: Iterable[str] = (),
        schema: Mapping[str, str] | None = None,
        mock: str | Path | None = None,
        reader_options: Mapping[str, Any] | None = None,
        public_categories: Mapping[str, Sequence[str]] | None = None,
        subject: str = "",
        note: Note = lambda done: None,
    ) -> Dataset:
        """Register the file or folder at ``path``: it is read once, in full (a CSV or Parquet file of any size in
        bounded memory), and hashed.

        Args:
            name: by default made of the file name.
            schema: column to kind; enforced now and at every load.
            mock: a file that others may see; must have the same columns and kinds.
            public_categories: labels of categorical columns that mock data may show.
            subject: the column that says whose a row is (:mod:`hanse.subjects`).
            note: told now and then which share of a file is done, in [0, 1].

        Raises:
            Conflict: the name is taken.
            DataError: the name, the tags, the data or the mock are not what they should be.
        """
        path = Path(path).expanduser().resolve()
        name = _checked_name(name if name is not None else _name_of(path))
        if name in self._read():
            raise Conflict(f"there is a dataset {name!r} already; remove it, or choose another name")
        dataset = self._describe(
            Dataset(
                name=name,
                tags=_checked_tags(tags),
                kind="",
                schema={},
                rows=0,
                version="",
                path=path,
                added_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
                mock=None if mock is None else Path(mock).expanduser().resolve(),
                declared=None if schema is None else {k: str(v) for k, v in schema.items()},
                options=_plain(reader_options or {}),
                public_categories={k: tuple(map(str, v)) for k, v in (public_categories or {}).items()},
                subject=subject,
            ),
            note,
        )
        with self._changing() as datasets:
            if name in datasets:
                raise Conflict(f"there is a dataset {name!r} already; remove it, or choose another name")
            datasets[name] = dataset
        return dataset

    def remove(self, name: str) -> None:
        """Forget a dataset; its file stays. Raises ``NotFound``."""
        with self._changing() as datasets:
            _known(datasets, name)
            del datasets[name]

    def list(self) -> list[Dataset]:
        """All datasets, by name."""
        return [dataset for _, dataset in sorted(self._read().items())]

    def get(self, name: str) -> Dataset:
        """The dataset of that name. Raises ``NotFound``."""
        return _known(self._read(), name)

    def find(self, tags: Iterable[str]) -> list[Dataset]:  # type: ignore[valid-type]
        """The datasets that carry all of ``tags``, by name."""
        wanted = {tags} if isinstance(tags, str) else set(tags)
        return [dataset for dataset in self.list() if wanted <= set(dataset.tags)]

    def copy(self, name: str, home: Path) -> Dataset:
        """Makes a catalogue in ``home`` that has this dataset and no other. Raises ``NotFound``."""
        dataset = self.get(name)
        Catalogue(home)._write({name: dataset})
        return dataset

    def load(self, dataset: Dataset | str) -> Table:
        """The table, as it was registered.

        Raises:
            DataError: the content is not that of the registered version.
            NotFound: it was removed from the catalogue, or registered anew since ``dataset`` was got.
        """
        current = self.get(dataset if isinstance(dataset, str) else dataset.name)
        if isinstance(dataset, Dataset) and dataset.version != current.version:
            raise NotFound(f"dataset {current.name!r} has another version by now; get it again")
        stamp = self._unchanged(current)
        table = readers.read(current.path, schema=current.schema, **current.options)
        if stamp_of(current.path) != stamp or table.schema() != dict(current.schema):
            raise _changed(current)
        return table

    def opened(self, dataset: Dataset | str, held: int = HELD_BYTES) -> Table:
        """The same table, of which a column is read from the file each time that it is asked for, where the table would
        take more than ``held`` bytes and the file's format lets one be read without the others. Raises as :meth:`load`
        does, also where a column is read."""
        current = self.get(dataset if isinstance(dataset, str) else dataset.name)
        if current.rows * len(current.schema) * 8 <= held:
            return self.load(dataset)
        if isinstance(dataset, Dataset) and dataset.version != current.version:
            raise NotFound(f"dataset {current.name!r} has another version by now; get it again")
        stamp = self._unchanged(current)
        read = readers.by_columns(current.path, current.schema, **current.options)
        if read is None:
            return self.load(dataset)

        def column(name: str) -> Column:
            found = read(name)
            whole = len(found) == current.rows and found.kind == current.schema[name]
            if stamp_of(current.path) != stamp or not whole:
                raise _changed(current)
            return found

        return Table(ReadColumns(current.rows, tuple(current.schema), column))

    def source(self, dataset: Dataset | str) -> Source:
        """The rows in batches, as they were registered; files are read without holding them whole.
        Raises as :meth:`load` does."""
        from hanse.node.source import FileSource, ShownBefore

        current = self.get(dataset if isinstance(dataset, str) else dataset.name)
        memory = ShownBefore(self.home, current.version)
        if not hasattr(readers.reader_for(current.path), "stream"):
            return TableSource(self.load(dataset), memory)
        if isinstance(dataset, Dataset) and dataset.version != current.version:
            raise NotFound(f"dataset {current.name!r} has another version by now; get it again")
        stamp = self._unchanged(current)

        def unchanged() -> None:
            if stamp_of(current.path) != stamp:
                raise _changed(current)

        return FileSource(current.path, current.schema, current.rows, current.options, memory, unchanged)

    def refresh(self, name: str, note: Note = lambda done: None) -> Dataset:
        """Read and hash again, and register what is there now as the dataset's version."""
        dataset = self._describe(self.get(name), note)
        with self._changing() as datasets:
            if _known(datasets, name).added_at != dataset.added_at:
                raise Conflict(f"dataset {name!r} was added anew meanwhile; look at it and try again")
            datasets[name] = dataset
        return dataset

    def mock(self, name: str, rows: int = 20, rng: np.random.Generator | None = None) -> Table:
        """The view that others may see: the owner's mock file, else :func:`hanse.node.mock.make_mock` of the schema.
        Does not touch the data."""
        dataset = self.get(name)
        if dataset.mock is not None:
            return read_mock(dataset)
        return make_mock(empty(dataset), rows, rng or generator(0, "mock", name), dataset.public_categories)

    def _unchanged(self, dataset: Dataset) -> str:
        """The stamp of the content, which is the registered one; raises ``DataError`` if it is not."""
        stamp = stamp_of(dataset.path)
        if stamp == dataset.stamp:
            return stamp
        if version_of(dataset.path) != dataset.version or stamp_of(dataset.path) != stamp:
            raise _changed(dataset)
        with self._changing() as datasets:  # same bytes, new times: spare the next load the hash
            now = datasets.get(dataset.name)
            if now is not None and now.version == dataset.version:
                datasets[dataset.name] = replace(now, stamp=stamp)
        return stamp

    def _read(self) -> dict[str, Dataset]:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise DataError(
                    f"catalogue.json has format {content['format']!r}, this version reads {FORMAT}; "
                    "use the version of Hanse that wrote it"
                )
            return {entry["name"]: Dataset.from_json(entry) for entry in content["datasets"]}
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                "catalogue.json is damaged; restore it from a backup, or move it away and add the "
                "datasets again (their files are untouched)"
            ) from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Dataset]]:
        """The register under a lock; written when the block ends without an error."""
        with open(self.home / "catalogue.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system even if the process is killed
            datasets = self._read()
            before = dict(datasets)
            yield datasets
            if datasets != before:
                self._write(datasets)

    def _write(self, datasets: Mapping[str, Dataset]) -> None:
        lines = ",\n".join(
            json.dumps(d.to_json()) for _, d in sorted(datasets.items())
        )  # indented, it takes much longer
        write_whole(self._file, f'{{"format": {FORMAT}, "datasets": [\n{lines}\n]}}\n')


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError):
        raise ConfigError("reader options must be plain: text, numbers and lists of them") from None
    return plain


def _changed(dataset: Dataset) -> DataError:
    return DataError(
        f"dataset {dataset.name!r} has changed since it was registered; run `hanse node dataset refresh {dataset.name}`"
    )


def _known(datasets: Mapping[str, Dataset], name: str) -> Dataset:
    if name not in datasets:
        raise NotFound(f"there is no dataset {name!r}; `hanse node dataset list` shows what there is")
    return datasets[name]


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise DataError(
            f"dataset name {name[:80]!r}; expected 1 to 64 of a-z, 0-9, '_', '.', '-', the first a letter or a digit"
        )
    return name


def _name_of(path: Path) -> str:
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).lstrip("_.-")[:64] or "dataset"


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    listed = [tags] if isinstance(tags, str) else list(tags)
    for tag in listed:
        if not TAG.fullmatch(tag):
            raise DataError(f"tag {tag[:80]!r}; expected 1 to 64 characters without spaces")
    return tuple(sorted(set(listed)))
