"""An algorithm that only sums, and notices what a node has forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Record


class Summing:
    """Each node's k-th answer is k times its number, so memory that is not as it was shows."""

    combines = frozenset({Combine.SUM})

    def __init__(self, rounds: int, part: float = 0.0) -> None:
        self.rounds, self.part = rounds, part

    def init(self, config: object, previous: Record | None = None) -> State:
        return Record({"round": 0}, {"x": np.zeros(3)})

    def ask(self, state: State) -> Ask | Done:
        if state.data["round"] == self.rounds:
            return Done(f"{self.rounds} rounds")
        return Ask(Record({"r": state.data["round"]}), Combine.SUM, "sum", state.data["round"] + 1)

    def answer(self, site: Site, ask: Record) -> Contribution:
        site.memory["k"] = site.memory.get("k", 0) + 1
        return Contribution(Record({}, {"x": site.memory["k"] * np.array([0.5, -3, int(site.node[1]) + self.part])}))

    def tell(self, state: State, gathered: Gathered) -> State:
        return Record({"round": state.data["round"] + 1}, {"x": state.arrays["x"] * 10 + gathered.sum()["x"]})

    def result(self, state: State) -> Record:
        return state

    def metrics(self, state: State) -> dict[str, object]:
        return {}


class Counting(Summing):
    """The same of whole numbers, of a type and size that are known: a sum that needs all nodes takes one exchange."""

    def ask(self, state: State) -> Ask | Done:
        asked = super().ask(state)
        return replace(asked, arrays={"x": ("int64", (3,))}, sums={}) if isinstance(asked, Ask) else asked

    def answer(self, site: Site, ask: Record) -> Contribution:
        found = super().answer(site, ask)
        return Contribution(Record({}, {"x": np.asarray(2 * found.record.arrays["x"]).astype(np.int64)}))
