"""What can be checked of single contributions, and only where they are seen (:data:`hanse.kinds.CHECKS`).

Each check names the nodes whose contribution cannot be used, with the reason. A gather that hides single
contributions cannot make these checks, and says so in ``Gathered.unchecked``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import Unusable
from hanse.gathering._found import Pair
from hanse.kinds import Shapes
from hanse.messages import Array, ArrayPlace, Layout, Record, Under, block
from hanse.spans import BLOCK

_FEW = 64  # numbers that are looked at one by one in less time than numpy is asked in
Forms = Mapping[str, tuple[np.dtype[Any], tuple[int | None, ...]]]  # array name to dtype and shape; None: any length


def beyond(found: Sequence[Pair], counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
    """Counts: the nodes with a number in ``counts`` (:attr:`hanse.kinds.Ask.counts`) that is not from 0 to
    the ``rows`` that the node declared."""
    wrong, names = {}, [f"{prefix}{name}" for name in counts for prefix in ("a.", "s.")]
    for answer, record in found:
        most = rows.get(answer.node, math.inf)
        for name in names:
            if name in record.arrays:
                said = np.asarray(record.arrays[name]).reshape(-1)[: counts[name[2:]]]
                if not _between(said, most):
                    wrong[answer.node] = (
                        f"{name[2:]!r} counts rows, and holds a number that is not from 0 to "
                        f"the {most:g} that it declared for this run"
                    )
    return wrong


def _between(said: Array, most: float) -> bool:
    """Whether all are from 0 to ``most``; NaN is not."""
    if said.size <= _FEW:
        return all([0 <= number <= most for number in said.tolist()])
    return bool(said.min() >= 0 and said.max() <= most)


def not_finite(found: Sequence[Pair], name: str, place: ArrayPlace) -> dict[str, str]:
    """Finite: the nodes whose array ``name`` holds NaN, infinity, or numbers too large to be added."""
    guilty, most = {}, np.finfo(np.float64).max / (4 * len(found))
    for answer, record in found:
        for values in _blocks(record, name, place.size):
            if not np.all(np.isfinite(values)):
                guilty[answer.node] = f"array {name[2:]!r} holds NaN or infinite numbers"
                break
            if np.abs(values.astype(np.float64)).max(initial=0) > most / max(1.0, answer.weight):
                guilty[answer.node] = f"array {name[2:]!r} holds numbers too large to be added"
                break
    return guilty


def unsound(found: Sequence[Pair], places: Mapping[str, ArrayPlace]) -> dict[str, str]:
    """Finite: the nodes of which one of these arrays holds NaN or infinity, for contributions that do not add."""
    guilty = {}
    for answer, record in found:
        sizes = Layout.of(record.arrays).places  # a length may be each node's own
        for name in (name for name, place in places.items() if place.dtype.kind == "f"):
            if not all(bool(np.all(np.isfinite(values))) for values in _blocks(record, name, sizes[name].size)):
                guilty[answer.node] = f"array {name[2:]!r} holds NaN or infinite numbers"
    return guilty


def sound(found: Sequence[Pair], prefix: str, fault: Callable[[Mapping[str, Array]], str]) -> None:
    """Sound: raises ``Unusable`` for those whose arrays cannot be true (:attr:`hanse.kinds.Ask.fault`)."""
    said = {answer.node: fault(Under(record.arrays, prefix)) for answer, record in found}
    if any(said.values()):
        raise Unusable({node: reason for node, reason in said.items() if reason})


def layout(found: Sequence[Pair], prefix: str, wanted: Shapes | None) -> Mapping[str, ArrayPlace]:
    """Layout: that of the arrays with this ``prefix``, as it was asked for, or else as most contributions
    have it; the others are unusable. Where no layout is that of most, nobody can say who is right, and none
    of them is used. Raises ``Unusable``."""
    if not found:
        return {}
    common: Forms = {}
    if wanted is not None:
        common = {f"{prefix}{n}": (np.dtype(dtype), tuple(shape)) for n, (dtype, shape) in wanted.items()}
    known: dict[int, tuple[Layout, Forms]] = {}  # nearly all have the very same layout; kept, so that no id comes twice
    own = [Layout.of(record.arrays) for _, record in found]
    for one in {id(one): one for one in own}.values():
        forms = {n: (p.dtype, p.shape) for n, p in one.places.items() if n.startswith(prefix)}
        known[id(one)] = one, forms if wanted is None else _like(forms, common)
    layouts = [known[id(one)][1] for one in own]
    if wanted is not None:
        reason = "its arrays have other names, types or shapes than those that were asked for"
    else:
        words = {id(forms): frozenset(forms.items()) for _, forms in known.values()}
        counts = Counter(words[id(layout)] for layout in layouts)
        most = max(counts.values())
        common = next(layout for layout in layouts if counts[words[id(layout)]] == most)
        reason = "its arrays have other names, types or shapes than those of the other nodes"
        if sum(count == most for count in counts.values()) > 1:
            raise Unusable({answer.node: f"{reason}, and no layout is that of most" for answer, _ in found})
    odd = {}
    if any(forms != common for _, forms in known.values()):
        odd = {
            a.node: f"{reason}: {_difference(layout, common)}"
            for (a, _), layout in zip(found, layouts, strict=True)
            if layout is not common and layout != common
        }
    if odd:
        raise Unusable(odd)
    places = Layout.of(found[0][1].arrays).places
    return {n: p for n, p in places.items() if n.startswith(prefix)}


def _blocks(record: Record, name: str, size: int) -> Iterator[Array]:
    for low in range(0, size, BLOCK):
        yield block(record.arrays, name, low, min(low + BLOCK, size))


def _like(layout: Forms, wanted: Forms) -> Forms:
    """``layout`` with None for each length that ``wanted`` leaves open."""
    found = {}
    for name, (dtype, shape) in layout.items():
        open_to = wanted[name][1] if name in wanted and len(wanted[name][1]) == len(shape) else shape
        found[name] = (dtype, tuple(None if w is None else n for n, w in zip(shape, open_to, strict=True)))
    return found


def _difference(found: Forms, expected: Forms) -> str:
    """The first array that is not as expected, in words."""

    def form(forms: Forms, name: str) -> str:
        if name not in forms:
            return "missing"
        dtype, shape = forms[name]
        return f"{dtype} ({', '.join('any' if n is None else str(n) for n in shape)})"

    name = next(n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n))
    return f"{name[2:][:100]!r} is {form(found, name)}, expected {form(expected, name)}"
