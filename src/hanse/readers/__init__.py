"""Readers: from what an owner has on disk to a :class:`hanse.table.Table`.

One file per format; the folder is the registry. Each has ``EXTENSIONS``, ``KIND`` (what a dataset of
it is called) and ``read(path, *, schema=None, **options)``. A reader refuses what it does not
understand and says where: nothing is dropped, guessed or repaired in silence. Messages name the file,
never the folder it is in, and the kind of an offending value, never the value.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect as _inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError, DataError
from hanse.table import Column, Table

Schema = Mapping[str, str]  # column -> kind


def formats() -> tuple[str, ...]:
    """The formats that can be read.

    >>> formats()
    ('csv', 'images', 'parquet', 'profile')
    """
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def reader_for(path: Path) -> Any:
    """The reader module for ``path``: by extension, or by what a folder holds.

    Raises:
        DataError: there is nothing at ``path``, or no reader knows its extension.
    """
    if path.is_dir():
        profile = importlib.import_module(f"{__name__}.profile")
        return profile if profile.looks_like(path) else importlib.import_module(f"{__name__}.images")
    if not path.is_file():
        raise DataError(f"there is no file or folder {path.name!r} at the place given; check the path")
    known: list[str] = []
    for name in formats():
        module = importlib.import_module(f"{__name__}.{name}")
        if path.suffix.lower() in module.EXTENSIONS:
            return module
        known += [] if name in ("images", "profile") else module.EXTENSIONS
    raise DataError(
        f"{path.name}: no reader for {path.suffix or 'a file without an extension'!r}; "
        f"files: {', '.join(sorted(known))}; folders: images, profiles"
    )


def prepare() -> None:
    """Loads the library that reads files of rows, where it is installed, for who has the time for it now."""
    with contextlib.suppress(ModuleNotFoundError):  # :func:`read` says so
        import polars  # noqa: F401


def missing_words(path: str | Path) -> tuple[str, ...]:
    """The texts that the reader for ``path`` takes for "nothing there" unless it is told otherwise."""
    option = _inspect.signature(reader_for(Path(path)).read).parameters.get("missing")
    return tuple(option.default) if option is not None else ()


def read(path: str | Path, *, schema: Schema | None = None, **options: Any) -> Table:
    """The table at ``path``; the reader is chosen by :func:`reader_for`.

    Raises:
        DataError: the file is not what it should be; names the row, the line and the column.
        ConfigError: the reader has no such option, or its library is not installed.
    """
    path = Path(path)
    module = reader_for(path)
    check_options(module.read, module.KIND, options)
    try:
        table: Table = module.read(path, schema=schema, **options)
    except ModuleNotFoundError as missing:
        extra = {"polars": "node", "PIL": "images"}.get(str(missing.name))
        if extra is None:
            raise
        raise ConfigError(
            f"reading {path.name} needs a library that is not installed here; pip install 'hanse[{extra}]'"
        ) from None
    return table


def stream(
    path: str | Path,
    columns: Sequence[str] | None = None,
    rows_per_batch: int = 100_000,
    *,
    schema: Schema | None = None,
    **options: Any,
) -> Iterator[Table]:
    """Tables of at most ``rows_per_batch`` rows, in order, in bounded memory (CSV, TSV, Parquet).

    Kinds are the same in every batch; categories are those of the batch, so that a batch never has
    to know the others: go by label, not by code. A file without rows gives one empty table.
    """
    path = Path(path)
    module = _streaming(path)
    if rows_per_batch < 1:
        raise ConfigError(f"rows_per_batch is {rows_per_batch}; expected 1 or more")
    check_options(module.stream, module.KIND, options)
    batches: Iterator[Table] = module.stream(path, columns, rows_per_batch, schema=schema, **options)
    return batches


def survey(
    path: str | Path, *, schema: Schema | None = None, note: Callable[[int], None] = lambda done: None, **options: Any
) -> tuple[dict[str, str], int]:
    """Kind of each column, and the number of rows: the whole file is read once, strictly, in bounded memory (CSV, TSV,
    Parquet). ``note`` is told now and then how many bytes of the file are done.

    Raises:
        DataError: as :func:`read` does.
    """
    path = Path(path)
    module = _streaming(path)
    check_options(module.read, module.KIND, options)
    found: tuple[dict[str, str], int] = module.survey(path, schema=schema, note=note, **options)
    return found


def typed(
    path: str | Path, columns: Sequence[str], rows_per_batch: int, schema: Schema, **options: Any
) -> Iterator[Table]:
    """:func:`stream` of a file that :func:`survey` found to have this ``schema``, in the fastest way that gives the
    same values (arrays may be read-only). A file that has changed since may go unnoticed: the caller watches it."""
    path = Path(path)
    module = _streaming(path)
    check_options(module.read, module.KIND, options)
    batches: Iterator[Table] = module.typed(path, columns, rows_per_batch, schema, **options)
    return batches


def by_columns(path: str | Path, schema: Schema, **options: Any) -> Callable[[str], Column] | None:
    """What reads one column at a time, as :func:`typed`, where the file's format lets one be read without the others;
    None where it does not."""
    path = Path(path)
    module = reader_for(path)
    if not hasattr(module, "by_columns"):
        return None
    check_options(module.read, module.KIND, options)
    read: Callable[[str], Column] = module.by_columns(path, schema, **options)
    return read


def _streaming(path: Path) -> Any:
    module = reader_for(path)
    if not hasattr(module, "stream"):
        raise DataError(f"{path.name} cannot be read in batches; only CSV, TSV and Parquet files can")
    return module


def check_options(function: Callable[..., Any], what: str, options: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` where ``function`` takes no keyword of that name."""
    known = {
        name
        for name, p in _inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name != "schema"
    }
    if unknown := sorted(set(options) - known):
        takes = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"the {what} reader has no option {unknown[0]!r}; it takes {takes}")
