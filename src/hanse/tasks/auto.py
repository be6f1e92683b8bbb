"""Settled by the labels of all sites: two classes are binary, more multiclass, many numbers a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanse.messages import Json
from hanse.table import Column
from hanse.task import Settled
from hanse.tasks import _labels


class Auto:
    """Only how a task is settled; what is settled is another of the folder."""

    def columns(self, target: str) -> tuple[str, ...]:
        return (target,)

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        return _labels.tell(columns[0], atleast)

    def check(self, said: Mapping[str, Json]) -> None:
        _labels.check(said)

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        return _labels.settle("auto", target, said)


TASK = Auto()
