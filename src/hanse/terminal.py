"""Text from elsewhere on a terminal: what would steer the terminal is shown instead of done.

A purpose, a reason or a training plan is written by somebody else. An escape sequence in it could
wipe a line from the screen, and a bidirectional mark could show code in another order than it runs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_FORMATTING = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str) -> str:
    r"""``text`` with escapes and bidirectional marks written out. Lines and tabs stay.

    >>> print(visible("a\x1b[2Kb"))
    a\x1b[2Kb
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _FORMATTING else c.encode("unicode_escape").decode()
        for c in text
    )


def line(text: str) -> str:
    r"""The same on one line: line breaks are written out too.

    >>> print(line("no reason\n# rule privacy: allows it"))
    no reason\n# rule privacy: allows it
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their heads, as lines of aligned columns; each cell as :func:`line` shows it.

    >>> print(table(("node", "rows"), [("berlin", 303), ("ulm", 12)]))
    node    rows
    berlin  303
    ulm     12
    """
    cells = [tuple(head), *(tuple(line(str(cell)) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
