"""Combinations of parameters, of which every second is for every day."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def every_other(*lists: Iterable[Any]) -> list[Any]:
    """All combinations, as on a chessboard: the white squares are tested every day, the black ones by ``make long``. So
    each value meets half of those of any other list every day, and the value beside it meets the other half."""
    found = []
    for square in itertools.product(*(list(enumerate(values)) for values in lists)):
        black = sum(place for place, _ in square) % 2
        found.append(pytest.param(*(value for _, value in square), marks=[pytest.mark.long] * black))
    return found
