"""Two checkouts side by side: measured in turn (A B A B ...), compared pair by pair, so that another load of the
machine falls on both. What counts is the median of the ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]


def columns(names: Sequence[str]) -> list[str]:
    """Those of :func:`ratios` in a table."""
    return [column for name in names for column in (name, f"{name}_range")]


def ratios(
    measure: Callable[[Path], Mapping[str, Any]], checkout: Path, names: Sequence[str], pairs: int
) -> dict[str, Any]:
    """Median, lowest and highest ratio of this checkout over the other, of each named figure.

    Args:
        measure: gives the figures of a checkout, in a process of its own.
        checkout: the other one, with its ``.venv``.
        names: of figures; one that either side has not, or that is 0, is left out of its pair.
        pairs: so many measurements of each.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(pairs):
        ours, theirs = measure(HERE), measure(checkout)
        for name in names:
            if ours.get(name) and theirs.get(name):
                found[name].append(ours[name] / theirs[name])
    row: dict[str, Any] = {"pairs": pairs}
    for name, each in found.items():
        row[name] = float(np.median(each)) if each else None
        row[f"{name}_range"] = f"{min(each):.2f} to {max(each):.2f}" if each else None
    return row
