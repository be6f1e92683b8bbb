"""A zip that can be packed in one way only: names in order, nothing compressed, no dates, no comments.

So two with the same content have the same bytes, and a byte that was changed anywhere, also between the files, is seen
by packing again. Nothing is compressed, so nothing that is read can grow beyond the file that it came in.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from hanse.errors import Tampered, TooLarge

MOST_BYTES = 256 << 20
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
)


def pack(files: Mapping[str, bytes]) -> bytes:
    """The zip of these files.

    >>> unpack(pack({"b.txt": b"two", "a.txt": b"one"}))
    {'a.txt': b'one', 'b.txt': b'two'}
    """
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            about.create_system, about.external_attr = 3, 0o644 << 16
            archive.writestr(about, files[name])
    return into.getvalue()


def unpack(raw: bytes) -> dict[str, bytes]:
    """Name to content. Raises ``Tampered`` where :func:`pack` would have packed it otherwise, ``TooLarge`` for more
    than 256 MB."""
    if len(raw) > MOST_BYTES:
        raise TooLarge(f"the file has {len(raw)} bytes; evidence has up to {MOST_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            listed = archive.infolist()
            if any(about.compress_type != zipfile.ZIP_STORED for about in listed):
                raise Tampered("the file is compressed; evidence is not")
            if sum(about.file_size for about in listed) > len(raw):
                raise Tampered("the file says that it holds more bytes than it has")
            found = {about.filename: archive.read(about) for about in listed}
    except _UNREADABLE as error:
        raise Tampered(f"the file cannot be read as evidence ({' '.join(str(error).split())[:200]})") from None
    if len(found) != len(listed) or pack(found) != raw:
        raise Tampered("the file was changed: packed again, what it holds has other bytes")
    return found
