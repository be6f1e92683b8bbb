"""Which releases of Hanse speak to each other (docs/releases.md).

Releases of one *line* (0.2.0, 0.2.1) take part in each other's runs: what runs at a node is the code that its owner was
shown, and a line does not change what that code stands on. Nodes of another line connect, beat and are shown, and are
asked nothing. Clients read the runs of any coordinator, and propose what it knows.
"""

from __future__ import annotations

import re

import hanse


def line(release: str) -> str:
    """The line that a release belongs to; "" for what names no release.

    >>> line("0.2.13"), line("1.0.0.dev3"), line("unknown")
    ('0.2', '1.0', '')
    """
    found = re.match(r"(\d{1,6}\.\d{1,6})(?![0-9])", release)
    return found[1] if found else ""


def together(one: str, other: str) -> bool:
    """Whether both can take part in one run. Who did not say its release is given the benefit of the doubt: the node's
    own comparison of the code has the last word.

    >>> together("0.2.0", "0.2.7"), together("0.2.0", "0.3.0"), together("", "0.3.0")
    (True, False, True)
    """
    lines = {line(one), line(other)} - {""}
    return len(lines) < 2


def differing(other: str, what: str) -> str:
    """A sentence with both releases, where ``other``, that of ``what``, is not this one; else "".

    >>> differing(hanse.__version__, "the coordinator")
    ''
    """
    if not line(other) or other == hanse.__version__:
        return ""
    return f"this is hanse {hanse.__version__}, and {what} is hanse {other}"
