"""Texts of bundles as a node keeps them: the code that many runs have in common is there once.

A bundle is the settings of a run and the code that will run, a quarter of a megabyte of it, the same for all runs of
one kind on one release. What was approved is kept for good; so each code is kept once, by its hash, and the rest beside
it.
"""

from __future__ import annotations

import functools
import hashlib
import zlib

from hanse.errors import WireError
from hanse.messages import dumps, loads

SCHEMA = "CREATE TABLE IF NOT EXISTS codes (sha256 TEXT PRIMARY KEY, packed BLOB NOT NULL);"
_HASH, _NUMBER = 64, 10  # characters: the hash of the code; where in the text it stood; how long the text is
_HEAD = _HASH + 2 * _NUMBER
UNUSED = f"""DELETE FROM codes WHERE sha256 NOT IN
  (SELECT CAST(substr(text, 1, {_HASH}) AS TEXT) FROM proposals WHERE typeof(text) = 'blob')"""
# how long the text is that a column ``text`` stands for, in SQL
LENGTH = f"""CASE typeof(text) WHEN 'blob'
  THEN CAST(CAST(substr(text, {_HASH + _NUMBER + 1}, {_NUMBER}) AS TEXT) AS INTEGER) ELSE length(text) END"""


def pack(text: str) -> tuple[bytes, str, bytes]:
    """What is kept of the text, and its code: by which hash, and packed.

    >>> text = '{"code":{"a.py":"x = 1"},"config":{}}'
    >>> kept, sha256, code = pack(text)
    >>> kept[:64].decode() == sha256, unpack(kept, code) == text
    (True, True)
    """
    try:
        content = loads(text)
    except WireError:
        content = None
    code = dumps(content["code"]) if isinstance(content, dict) and "code" in content else ""
    place = max(text.find(code), 0)
    if not text.startswith(code, place):  # not as we would write it
        code = ""
    sha256 = hashlib.sha256(code.encode()).hexdigest()
    rest = text[:place] + text[place + len(code) :]
    head = f"{sha256}{place:{_NUMBER}}{len(text):{_NUMBER}}".encode()
    return head + zlib.compress(rest.encode()), sha256, _packed(code)


def unpack(kept: bytes, code: bytes | None) -> str:
    """The text; "", which fits no hash, where what is kept is damaged or its code is not there."""
    try:
        place, rest = int(kept[_HASH : _HASH + _NUMBER]), zlib.decompress(kept[_HEAD:]).decode()
        return rest[:place] + _plain(b"" if code is None else code) + rest[place:]
    except (ValueError, zlib.error):
        return ""


@functools.lru_cache(maxsize=4)  # the next run has the same, mostly: of a proposal, packing it took the most
def _packed(code: str) -> bytes:
    return zlib.compress(code.encode())


@functools.lru_cache(maxsize=4)
def _plain(code: bytes) -> str:
    return zlib.decompress(code).decode()
