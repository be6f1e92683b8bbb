"""What known attacks got of a proposal, as its owner has tried them (``hanse privacy audit``), kept beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanse.errors import DataError
from hanse.whole_files import write_whole

_FOLDER = "audits"
_MOST_BYTES = 1 << 20


def keep(home: Path, sha256: str, audit: Path) -> None:
    """Keeps what the auditor wrote of the proposal of this hash. Raises ``DataError`` where it is no audit."""
    with audit.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    _read(text if len(text) <= _MOST_BYTES else b"")
    (home / _FOLDER).mkdir(exist_ok=True)
    write_whole(home / _FOLDER / f"{sha256}.json", text)


def sentences(home: Path, sha256: str) -> Sequence[str]:
    """One for each attack; none where nobody has tried any."""
    try:
        text = (home / _FOLDER / f"{sha256}.json").read_bytes()
    except FileNotFoundError:
        return ()
    return [_sentence(row) for row in _read(text)]


def _read(text: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        rows = json.loads(text)["attacks"]
        for row in rows:
            _sentence(row)
    except (ValueError, TypeError, KeyError, RecursionError):  # also what is no UTF-8
        raise DataError("this is no audit; expected what hanse privacy audit --json writes") from None
    return list(rows)


def _sentence(row: Mapping[str, Any]) -> str:
    proposed = row["proposed"]
    if proposed is None:
        return f"attack {row['attack']}: was not tried ({row['note']})"
    bare = "" if row["without"] is None else f", {row['without']:.2f} without its protections"
    proves = f", proves epsilon {row['epsilon_at_least']:.2f}" if row["epsilon_at_least"] else ""
    return f"attack {row['attack']}: gets {proposed:.2f}{bare}, a guess {row['chance']:.2f}{proves} ({row['measure']})"
