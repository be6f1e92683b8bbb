"""Probe: every node returns an array of the size that it was sent; the mean comes back.

It touches no data, so it measures what a federation costs by itself (``hanse probe``, ``bench/``),
and it is the smallest complete algorithm to read. Run options (``model_options``): ``bytes`` of
float32 state, from 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.errors import ConfigError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.large_arrays import empty
from hanse.messages import Json, Record

NEEDS_DATA = False


class Probe:
    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        nbytes = config["model_options"].get("bytes", 1024)
        if not isinstance(nbytes, int) or not 4 <= nbytes <= 4 << 30:
            raise ConfigError(f"bytes is {nbytes!r}; expected a whole number from 4 to 4294967296")
        data = {"round": 0, "rounds": config["num_rounds"]}
        return Record(data, {"x": np.zeros(nbytes // 4, np.float32)})

    def ask(self, state: State) -> Ask | Done:
        if state.data["round"] >= state.data["rounds"]:
            return Done(f"{state.data['rounds']} rounds")
        record = Record({"round": state.data["round"] + 1}, state.arrays)
        return Ask(record, Combine.SUM, "probe", state.data["round"] + 1)

    def answer(self, site: Site, ask: Record) -> Contribution:
        # a keyed number makes each node's and each round's answer different, and reproducible
        value = np.float32(site.rng("probe", ask.data["round"]).random())
        # Zeroing fresh pages of a large array would cost more than all else a node does. Memory of an answer
        # that somebody still has is not used again: it may have to be sent once more.
        x = empty(ask.arrays["x"].size, ask.arrays["x"].dtype).reshape(ask.arrays["x"].shape)
        x.fill(value)
        return Contribution(Record({}, {"x": x}))

    def tell(self, state: State, gathered: Gathered) -> State:
        mean = gathered.mean()["x"]
        mean += state.arrays["x"]
        return Record({**state.data, "round": state.data["round"] + 1}, {"x": mean})

    def result(self, state: State) -> Record:
        return state

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {}


ALGORITHM = Probe()
