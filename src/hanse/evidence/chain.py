"""An excerpt of an audit log: the lines about one run, and of the lines between them their hashes alone.

Each line of the log holds the hash of the one before (:mod:`hanse.store.audit`). So the excerpt shows that the lines
about the run are what was written, in the order in which it was written, and the last hash says which log it is of:
whoever noted the head of the log at that time, or has the log, compares it. What others do stays with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hanse.errors import Tampered, WireError
from hanse.messages import dumps, loads
from hanse.store.audit import GENESIS, Entry, line_of, parse


def excerpt(entries: Iterable[Entry], run: str) -> bytes:
    """The lines from the first to the last that is about ``run``; empty where none is."""
    lines: list[bytes] = []
    last = 0
    for entry in entries:
        if entry.subject == run:
            lines.append(line_of(entry))
            last = len(lines)
        elif lines:
            lines.append(dumps({"seq": entry.seq, "hash": entry.hash}).encode())
    return b"".join(line + b"\n" for line in lines[:last])


@dataclass(frozen=True, slots=True)
class Checked:
    """The entries about the run, and the hash that the last line has."""

    entries: tuple[Entry, ...]
    head: tuple[int, str]


def checked(raw: bytes, run: str) -> Checked:
    """Reads an excerpt. Raises ``Tampered`` at the first line that does not follow from the one before."""
    found: list[Entry] = []
    seq, last = 0, ""
    for number, line in enumerate(_lines(raw), 1):
        entry = parse(line)
        if entry is None:
            at, own = _link(line, number)
        else:
            if line_of(entry) != line:
                raise Tampered(f"line {number} of the audit log does not fit its hash")
            if entry.subject != run:
                raise Tampered(f"line {number} of the audit log is about another run")
            if (last and entry.previous != last) or (entry.seq == 1 and entry.previous != GENESIS):
                raise Tampered(f"line {number} of the audit log does not follow from the one before it")
            at, own = entry.seq, entry.hash
            found.append(entry)
        if last and at != seq + 1:
            raise Tampered(f"after line {seq} of the audit log comes {at}")
        seq, last = at, own
    return Checked(tuple(found), (seq, last))


def _lines(raw: bytes) -> Iterator[bytes]:
    if raw and not raw.endswith(b"\n"):
        raise Tampered("the excerpt of the audit log is cut off")
    yield from raw.splitlines()


def _link(line: bytes, number: int) -> tuple[int, str]:
    try:
        said = loads(line.decode())
    except (WireError, UnicodeDecodeError):
        said = None
    if not isinstance(said, dict) or set(said) != {"seq", "hash"}:
        raise Tampered(f"line {number} of the audit log is neither an entry nor a hash")
    at, own = said["seq"], said["hash"]
    if not isinstance(at, int) or not isinstance(own, str) or dumps(said).encode() != line:
        raise Tampered(f"line {number} of the audit log is neither an entry nor a hash")
    return at, own
