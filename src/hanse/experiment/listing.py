"""Rows that show themselves: a short, frame-like listing of nodes, datasets, runs or rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, overload

from hanse.rough import Partial, Rough, RoughDate, digits
from hanse.terminal import visible

_WIDEST = 48


class Listing(Sequence[Mapping[str, Any]]):
    """Rows of one shape, in a fixed order of columns.

    >>> Listing([{"node": "berlin", "rows": 303}, {"node": "ulm", "rows": 12}])
    node    rows
    berlin   303
    ulm       12
    >>> Listing([{"node": "berlin", "rows": 303}]).column("rows")
    [303]
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[str] = (),
        empty: str = "nothing",
        notes: Sequence[str] = (),
    ) -> None:
        self._rows, self.notes = [dict(row) for row in rows], list(notes)
        self.columns = list(columns) or list(dict.fromkeys(name for row in self._rows for name in row))
        self._empty = empty

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Listing: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Listing:
        if isinstance(index, slice):
            return Listing(self._rows[index], self.columns, self._empty, self.notes)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column, None where a row has none."""
        return [row.get(name) for row in self._rows]

    def to_frame(self) -> Any:
        """A pandas or Polars frame, whichever is installed (pandas first)."""
        return frame(self._rows, self.columns)

    def __repr__(self) -> str:
        if not self._rows:
            return "\n".join([self._empty, *self._said()])
        below = self._below()
        cells = [[self._cell(row.get(name), name, below) for name in self.columns] for row in self._rows]
        right = [all(_is_number(row.get(name)) for row in self._rows) for name in self.columns]
        widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(self.columns)]
        lines = []
        for line in [self.columns, *cells]:
            padded = [
                text.rjust(width) if end else text.ljust(width)
                for text, width, end in zip(line, widths, right, strict=True)
            ]
            lines.append("  ".join(padded).rstrip())
        return "\n".join(
            [*lines, *(f"[{place}] {visible(text)}" for place, text in enumerate(below, 1)), *self._said()]
        )

    @staticmethod
    def _cell(value: Any, name: str, below: list[str]) -> str:
        return f"[{below.index(value) + 1}]" if name == "note" and value in below else plain(value)

    def _below(self) -> list[str]:
        """Notes that are too long for a cell: each stands below the table, once, and cells have its number."""
        notes = dict.fromkeys(row.get("note") for row in self._rows if "note" in self.columns)
        return [note for note in notes if isinstance(note, str) and len(note) > _WIDEST]

    def _said(self) -> list[str]:
        return [f"! {note}" for note in self.notes]

    def _repr_html_(self) -> str:
        said = "".join(f"<p>! {escape(note)}</p>" for note in self.notes)
        if not self._rows:
            return f"<p>{escape(self._empty)}</p>{said}"
        head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in self.columns)
        body = "".join("<tr>" + "".join(_cell(row.get(name)) for name in self.columns) + "</tr>" for row in self._rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{said}"


def _cell(value: Any) -> str:
    align = "right" if _is_number(value) else "left"
    return f"<td style='text-align:{align}'>{escape(plain(value))}</td>"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def plain(value: Any) -> str:
    """A value as short text for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        told = digits(value, 4)
        return f"{told} {value.of}" if isinstance(value, Partial) else f"≈{told}" if isinstance(value, Rough) else told
    if isinstance(value, RoughDate):
        value = value.short
    if isinstance(value, Mapping):
        value = ", ".join(f"{k}={plain(v)}" for k, v in value.items())
    elif isinstance(value, (list, tuple)):
        value = ", ".join(plain(v) for v in value)
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """``rows`` as a pandas or Polars frame. A column with a number that is not sure is one of objects: as float64 it
    would stand there as if it were. Raises ``ImportError`` where neither is installed."""
    data = {name: [row.get(name) for row in rows] for name in columns}
    try:
        import pandas

        return pandas.DataFrame(
            {n: pandas.Series(v, dtype=object) if _unsure(v) else v for n, v in data.items()}, columns=list(columns)
        )
    except ImportError:
        pass
    try:
        import polars

        return polars.DataFrame(
            {n: polars.Series(n, v, dtype=polars.Object) if _unsure(v) else v for n, v in data.items()}, strict=False
        )
    except ImportError:
        raise ImportError("to_frame needs pandas or Polars: pip install polars") from None


def _unsure(values: Sequence[Any]) -> bool:
    return any(isinstance(value, Rough) for value in values)
