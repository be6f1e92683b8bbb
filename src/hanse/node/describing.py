"""What an owner's file says when it is read for the first time: kind, schema, rows, version, and whose the rows are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hanse import readers, subjects
from hanse.errors import DataError
from hanse.node.contents import hashing, stamp_of, version_of
from hanse.node.dataset import Dataset
from hanse.node.mock import read_mock
from hanse.table import ColumnKind

Note = Callable[[float], None]  # told now and then which share is done, in [0, 1]
Describe = Callable[[Dataset, Note], Dataset]


def describe(dataset: Dataset, note: Note) -> Dataset:
    """The dataset with what its content says: kind, schema, rows, version."""
    path = dataset.path
    stamp = stamp_of(path) if path.exists() else ""
    module = readers.reader_for(path)
    readers.check_options(module.read, module.KIND, dataset.options)
    metadata: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    if hasattr(module, "survey"):
        size = max(path.stat().st_size, 1)
        with hashing(path) as version:
            schema, rows = readers.survey(
                path, schema=dataset.declared, note=lambda done: note(min(done / size, 1.0)), **dataset.options
            )
            sha256 = version()
    else:
        if module.KIND == "profile":
            table, report = module.load(path, schema=dataset.declared, **dataset.options)
            metadata = report.metadata_columns
        else:
            table = readers.read(path, schema=dataset.declared, **dataset.options)
        schema, rows, sha256 = table.schema(), table.rows, version_of(path)
        images = [c for c in table.columns.values() if c.kind is ColumnKind.IMAGE]
        shape = tuple(map(int, images[0].values.shape[1:])) if images else ()
    for name in dataset.public_categories:
        if schema.get(name) != ColumnKind.CATEGORICAL:
            raise DataError(f"public categories for {name!r}, which is not a categorical column")
    found = replace(
        dataset,
        kind=module.KIND,
        schema=schema,
        rows=rows,
        version=sha256,
        stamp=stamp,
        metadata_columns=metadata,
        image_shape=shape,
    )
    if found.subject:
        found = _with_subjects(found, module)
    if stamp_of(path) != stamp:
        raise DataError(f"{path.name} changes while it is read; try again when it is complete")
    if found.mock is not None:
        read_mock(found)
    return found


def _with_subjects(dataset: Dataset, module: Any) -> Dataset:
    """The dataset with how many persons its rows are of. Raises ``DataError`` where rows do not say."""
    name, path = dataset.subject, dataset.path
    if name not in dataset.schema:
        raise DataError(f"there is no column {name!r} that says whose a row is; there are {', '.join(dataset.schema)}")
    if hasattr(module, "stream"):
        batches = readers.typed(path, [name], 1 << 17, dict(dataset.schema), **dataset.options)
    else:
        batches = iter([readers.read(path, schema=dataset.schema, **dataset.options)])
    found = subjects.tally(batch[name] for batch in batches)
    return replace(dataset, subjects=len(found), most_rows_of_subject=max(found.values(), default=1))
