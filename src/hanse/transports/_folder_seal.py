"""Sealed files: AES-256-GCM with a key that one session has for one direction.

What a file is (:class:`FileKind`) and its number are its nonce, so a file under another name, or of another session,
does not open, and no nonce is used for two contents.
"""

from __future__ import annotations

import enum
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hanse.errors import Tampered

_HEAD = struct.Struct("<4sQ")  # what it is, and how many bytes follow: so half a file is known for what it is
_MAGIC = b"HFS1"
MORE_BYTES = _HEAD.size + 16  # than what is sealed


class FileKind(enum.IntEnum):
    """What a sealed file is."""

    WRITES = 0  # the file with this number
    SEEN = 1  # that all files below this number were read
    BYE = 2  # why the session ends


class HalfThere(Exception):
    """The rest of the file is still on its way."""


class Seal:
    """One direction of one session."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, part: FileKind, number: int, content: bytes) -> bytes:
        """The content of the file.

        >>> seal = Seal(bytes(32))
        >>> seal.open(FileKind.WRITES, 3, seal.close(FileKind.WRITES, 3, b"text"))
        b'text'
        """
        return _HEAD.pack(_MAGIC, len(content) + 16) + self._cipher.encrypt(_nonce(part, number), content, None)

    def open(self, part: FileKind, number: int, file: bytes) -> bytes:
        """What was sealed. Raises :class:`HalfThere` for a file that is too short; ``Tampered``."""
        if len(file) < _HEAD.size:
            raise HalfThere
        magic, size = _HEAD.unpack_from(file)
        if magic != _MAGIC or len(file) > _HEAD.size + size:
            raise Tampered(f"file {number} is none that the other side sealed")
        if len(file) < _HEAD.size + size:
            raise HalfThere
        try:
            return self._cipher.decrypt(_nonce(part, number), file[_HEAD.size :], None)
        except InvalidTag:
            raise Tampered(f"file {number} is not as the other side sealed it") from None


def _nonce(part: FileKind, number: int) -> bytes:
    return bytes([part]) + number.to_bytes(11, "big")
