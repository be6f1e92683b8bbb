"""Probe: every node returns an array of the size that it was sent; the mean comes back.

It touches no data, so it measures what a federation costs by itself (``hanse probe``, ``bench/``),
and it is the smallest complete algorithm to read. Run options (``model_options``): ``bytes`` of
state, from 4, and ``dtype`` of its numbers, float32 or float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse import spans
from hanse.codec import encode
from hanse.errors import ConfigError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.large_arrays import in_place_of
from hanse.messages import Array, Json, Record
from hanse.typed import Typed

NEEDS_DATA = False


@dataclass(frozen=True, slots=True)
class State:
    """So many rounds are done, of so many; ``x`` is the sum of their means."""

    round: int
    rounds: int
    x: Array


@dataclass(frozen=True, slots=True)
class Question:
    """An array to answer with one of its size."""

    round: int
    x: Array


class Probe:
    """Sends so many bytes (``model_options``: ``bytes``, 4 to 64 GiB) to every node and adds up what comes back."""

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        nbytes = config["model_options"].get("bytes", 1024)
        if not isinstance(nbytes, int) or not 4 <= nbytes <= 64 << 30:
            raise ConfigError(f"bytes is {nbytes!r}; expected a whole number from 4 to 68719476736")
        dtype = config["model_options"].get("dtype", "float32")
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype is {dtype!r}; expected float32 or float64")
        return State(0, config["num_rounds"], np.zeros(nbytes // np.dtype(dtype).itemsize, dtype))

    def ask(self, state: State) -> Ask | Done:
        if state.round >= state.rounds:
            return Done(f"{state.rounds} rounds")
        return Ask(encode(Question(state.round + 1, state.x)), Combine.SUM, "probe", state.round + 1)

    def answer(self, site: Site, ask: Question) -> Contribution:
        # a keyed number makes each node's and each round's answer different, and reproducible
        value = np.float32(site.rng("probe", ask.round).random())
        # Zeroing fresh pages of a large array would cost more than all else a node does. Memory of an answer
        # that somebody still has is not used again: it may have to be sent once more.
        x = in_place_of(ask.x)
        x.fill(value)
        return Contribution(Record({}, {"x": x}))

    def tell(self, state: State, gathered: Gathered) -> State:
        mean = gathered.mean()["x"]
        spans.add(mean, state.x)
        return State(state.round + 1, state.rounds, mean)

    def result(self, state: State) -> Record:
        return encode(state)

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {}


ALGORITHM = Typed(Probe(), State, Question)
