"""Folders of images: one sub-folder per class, or a flat folder with a ``labels.csv``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.readers import _columns
from hanse.readers import csv as _csv
from hanse.table import Array, Column, ColumnKind, Table

EXTENSIONS = (".png", ".jpg", ".jpeg")
KIND = "images"
LABELS = "labels.csv"
IGNORED = ("Thumbs.db", "desktop.ini")  # left behind by file managers, like names with a leading dot


def read(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    resize: Sequence[int] | None = None,
    mode: str | None = None,
) -> Table:
    """A table with ``image``, uint8 of (n, height, width, channels), and ``label``; in the order of
    the class and file names, so the same on every machine.

    With a flat folder, ``labels.csv`` has the columns ``file`` and ``label``; what else it has
    becomes columns as well. File names do not: they tend to hold names of people.

    Args:
        schema: column to kind; enforced.
        resize: (height, width) to scale every image to (bilinear). Without it all images must be of
            one size.
        mode: ``L`` (grey, one channel) or ``RGB`` to convert to. Without it all images must be one
            of the two; a palette or transparency counts as RGB.

    Raises:
        DataError: no images, a file that is none or is broken, sizes or colours that differ, a label
            without a file or a file without a label.
    """
    if mode not in (None, "L", "RGB"):
        raise ConfigError(f"mode is {mode!r}; expected 'L' or 'RGB'")
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise ConfigError(f"resize is {tuple(resize)}; expected (height, width), both 1 or more")
    if (path / LABELS).is_file():
        files, columns = _flat(path, schema)
    else:
        files, columns = _per_class(path)
    table = Table({"image": Column(ColumnKind.IMAGE, _stack(path, files, resize, mode)), **columns})
    for name, kind in _columns.kinds(schema, table.names, path.name).items():
        if table[name].kind is not kind:
            raise DataError(f"{path.name}: column {name!r} is {table[name].kind}, but the schema says {kind}")
    return table


def _entries(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.name[0] != "." and p.name not in IGNORED]
    return sorted(found, key=lambda p: p.name)


def _per_class(path: Path) -> tuple[list[Path], dict[str, Column]]:
    files: list[Path] = []
    labels: list[str | None] = []
    for folder in _entries(path):
        if not folder.is_dir() or folder.is_symlink():
            raise DataError(
                f"{path.name}: {folder.name!r} is not a sub-folder; expected one sub-folder per class, "
                f"or images next to a {LABELS}"
            )
        images = _entries(folder)
        if not images:
            raise DataError(f"{path.name}: the sub-folder {folder.name!r} holds no images; remove or fill it")
        for file in images:
            _must_be_image(file, f"{folder.name}/{file.name}")
        files += images
        labels += [folder.name] * len(images)
    if not files:
        raise DataError(f"{path.name}: found no sub-folders and no {LABELS}; expected one folder per class")
    return files, {"label": Column.categorical(labels)}


def _flat(path: Path, schema: Mapping[str, str] | None) -> tuple[list[Path], dict[str, Column]]:
    declared = {k: v for k, v in (schema or {}).items() if k not in ("image", "file")}
    labels = _csv.read(path / LABELS, schema={"label": "categorical", **declared, "file": "categorical"})
    names = labels["file"].labels()
    there = {p.name: p for p in _entries(path) if p.name != LABELS}
    files, seen = [], set()
    for row, name in enumerate(names, 1):
        if name is None or name not in there:  # a name with a folder in it is never among them
            raise DataError(f"{LABELS}: row {row}, column 'file': there is no such file in the folder")
        if name in seen:
            raise DataError(f"{LABELS}: row {row}, column 'file': the file stands in an earlier row already")
        seen.add(name)
        _must_be_image(there[name], name)
        files.append(there[name])
    if left := sorted(set(there) - seen):
        raise DataError(f"{path.name}: {len(left)} files are not in {LABELS}, the first is {left[0]!r}")
    if not files:
        raise DataError(f"{LABELS}: there are no rows; expected one per image")
    if "image" in labels.names:
        raise DataError(f"{LABELS}: a column 'image' is there already; rename it")
    order = np.array(sorted(range(len(files)), key=lambda i: files[i].name))
    rest = labels.drop(["file"]).take(order)
    return [files[i] for i in order], dict(rest.columns)


def _must_be_image(file: Path, shown: str) -> None:
    if not file.is_file() or file.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{shown}: not an image file; expected {', '.join(EXTENSIONS)}")


def _stack(path: Path, files: Sequence[Path], resize: Sequence[int] | None, mode: str | None) -> Array:
    stacked: Array | None = None
    for i, file in enumerate(files):
        shown = file.relative_to(path).as_posix()
        pixels = _pixels(file, shown, resize, mode)
        if stacked is None:
            stacked = np.empty((len(files), *pixels.shape), np.uint8)
        height, width, channels = stacked.shape[1:]
        if pixels.shape[:2] != (height, width):
            raise DataError(
                f"{shown}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but the first "
                f"image has {height} x {width}; give resize=(height, width) to scale all"
            )
        if pixels.shape[2] != channels:
            raise DataError(
                f"{shown}: {pixels.shape[2]} colour channels, but the first image has {channels}; "
                "give mode='L' or mode='RGB' to convert all"
            )
        stacked[i] = pixels
    assert stacked is not None
    return stacked


def _pixels(file: Path, shown: str, resize: Sequence[int] | None, mode: str | None) -> Array:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a decompression bomb is a warning at first
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                image.load()
                if image.mode[0] in "IF":
                    raise DataError(f"{shown}: more than 8 bits per pixel; convert it to 8 bits")
                own = "L" if image.mode in ("L", "1", "LA") else "RGB"
                picture = image.convert(mode or own)
    except DataError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{shown}: cannot be read as an image ({type(error).__name__}); replace it") from None
    if resize is not None:
        picture = picture.resize((int(resize[1]), int(resize[0])), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
