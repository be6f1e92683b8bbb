"""How the arrays of one form are written as words, found once: contributions have the same few forms in all steps."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.messages import Array, Json, dumps
from hanse.privacy.fixed_point import Code, code, forms, widths

Named = tuple[tuple[str, str, tuple[int, ...]], ...]  # name, dtype and shape of arrays, by name


@dataclass(frozen=True, slots=True)
class Wording:
    """How arrays are written.

    Args:
        names: of the arrays.
        codes: of each of them and of the weight, which is among them as ``w``; in the order of the words.
        sizes: how many words of each width.
        sent: type and shape of the words as they travel (:func:`hanse.privacy.fixed_point.forms`).
        shapes: dtype and shape by name, of those of each prefix, as an ask has them.
        text: JSON of the names.
    """

    names: Named
    codes: Mapping[str, Code]
    sizes: Mapping[int, int]
    sent: Mapping[str, tuple[str, tuple[int, ...]]]
    shapes: Mapping[str, Mapping[str, Json]]
    text: str


def named(arrays: Mapping[str, Array]) -> Named:
    """Of these arrays."""
    return tuple([(name, dtype_name(arrays[name].dtype), arrays[name].shape) for name in sorted(arrays)])


def wording(
    names: Named, nodes: int, rows: float, everything: float, most: Mapping[str, int], how: Mapping[str, Any]
) -> Wording:
    """How these are written by one of so many nodes.

    Args:
        names: of arrays.
        nodes, rows, everything, how: as :func:`hanse.privacy.fixed_point.code` takes them.
        most: how large a number of an array can be.
    """
    return _wording(names, nodes, rows, everything, tuple(most.items()), tuple(how.items()))


@functools.lru_cache(64)
def _wording(
    names: Named,
    nodes: int,
    rows: float,
    everything: float,
    most: Sequence[tuple[str, int]],
    how: Sequence[tuple[str, Any]],
) -> Wording:
    largest, given = dict(most), dict(how)
    shown: dict[str, tuple[str, tuple[int, ...]]] = {name: (dtype, shape) for name, dtype, shape in names}
    codes = {
        name: code(np.dtype(dtype), shape, nodes, rows, everything, most=largest.get(name), **given)
        for name, (dtype, shape) in sorted({**shown, "w": ("float64", ())}.items())
    }
    sizes = widths(list(codes.values()))
    shapes: dict[str, dict[str, Json]] = {
        prefix: {name[2:]: [dtype, list(shape)] for name, dtype, shape in names if name.startswith(prefix)}
        for prefix in ("a.", "s.")
    }
    return Wording(names, codes, sizes, forms(sizes), shapes, dumps(names))


dtype_name = functools.cache(lambda dtype: str(dtype.name))  # numpy puts it together anew each time
