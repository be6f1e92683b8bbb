"""How every benchmark prints: a table for people, or one JSON object a line with ``--json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence


def size(text: str) -> int:
    """``10M`` as bytes."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    return int(float(number) * unit)


def sizes(text: str) -> list[int]:
    """``1K,10M,100M`` as bytes."""
    return [size(part) for part in text.split(",")]


def numbers(text: str) -> list[int]:
    """``2,10,50``."""
    return [int(part) for part in text.split(",")]


def human(nbytes: float) -> str:
    """1536 -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"


class Report:
    """Rows as they come; the table's head is printed with the first row."""

    def __init__(self, columns: Sequence[str], as_json: bool, notes: Iterable[str] = ()) -> None:
        self._columns, self._json, self._begun, self._notes = columns, as_json, False, list(notes)

    def add(self, row: Mapping[str, object]) -> None:
        if self._json:
            print(json.dumps(row), flush=True)
            return
        if not self._begun:
            self._begun = True
            for note in self._notes:
                print(note)
            print("  ".join(f"{c:>20}" for c in self._columns))
        print("  ".join(f"{_show(c, row[c]):>20}" for c in self._columns), flush=True)


def _show(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name in ("bytes", "contribution_bytes"):
        return human(float(value))  # type: ignore[arg-type]
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
