"""By resources: of the nodes whose machines have what a run needs, some at random.

What a machine has is what the node measured of it (processors, memory, a graphics card); what somebody only said of it
does not count, and what is not known is not there. Among those that have enough all are as likely, so no site counts
for more because its machine is larger. Where fewer have enough than are to be asked, these are asked and no others.
"""

from __future__ import annotations

from collections.abc import Mapping

from hanse.choice import Choice, Situation
from hanse.messages import Json
from hanse.settings import Setting, whole

SETTINGS = {
    "minimum_cpus": Setting(1, "processors that a node must have to be asked", whole(1, 1_000_000)),
    "minimum_memory_mb": Setting(0, "megabytes of memory that its machine must have", whole(0)),
    "needs_gpu": Setting(False, "whether it must have a graphics card"),
}


def choose(situation: Situation) -> Choice:
    """``count`` of those that have enough, without replacement.

    >>> import numpy as np
    >>> facts = {"a": {"cpus": 8, "memory_mb": 4096}, "b": {"cpus": 1}}
    >>> told = {"minimum_cpus": 4, "minimum_memory_mb": 2048, "needs_gpu": False}
    >>> choose(Situation(["a", "b", "c"], 2, np.random.default_rng(0), facts, (), told))
    Choice(nodes=['a'], reason='1 at random of the 1 of 3 whose machines have enough', \
reasons={'a': '8 processors, 4096 MB'}, left_out={})
    """
    able = [n for n in situation.eligible if _enough(situation.facts.get(n, {}), situation.settings)]
    count = min(situation.count, len(able))
    drawn = sorted(able[i] for i in situation.rng.choice(len(able), count, replace=False)) if able else []
    reasons = {node: _machine(situation.facts[node]) for node in drawn}
    reason = f"{count} at random of the {len(able)} of {len(situation.eligible)} whose machines have enough"
    return Choice(drawn, reason, reasons)


def _enough(facts: Mapping[str, Json], wanted: Mapping[str, Json]) -> bool:
    return (
        _number(facts.get("cpus")) >= wanted["minimum_cpus"]
        and _number(facts.get("memory_mb")) >= wanted["minimum_memory_mb"]
        and (facts.get("gpu") is True or not wanted["needs_gpu"])
    )


def _number(value: Json) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _machine(facts: Mapping[str, Json]) -> str:
    graphics = ", a graphics card" if facts.get("gpu") is True else ""
    return f"{_number(facts.get('cpus')):g} processors, {_number(facts.get('memory_mb')):g} MB{graphics}"
