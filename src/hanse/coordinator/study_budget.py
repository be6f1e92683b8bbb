"""What the runs of a study may tell all together: so much epsilon and delta, and no more.

By sequential composition (Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", theorem 3.16)
runs that promise (ε₁, δ₁), (ε₂, δ₂), ... promise (Σε, Σδ) together. A promise for whole sites is one for rows too, so
all are added. A run counts from when it is proposed; one that ended before it had started told nothing, and counts no
more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hanse import algorithms
from hanse.config import RunConfig
from hanse.errors import ConfigError, NotAllowed
from hanse.messages import Json
from hanse.store import Store
from hanse.store.states import ACTIVE
from hanse.store.studies import Study

_ROUNDING = 1 + 1e-9  # of sums


@dataclass(frozen=True, slots=True)
class StudySpent:
    """By the runs of a study that told something, or still may.

    Args:
        runs: how many there are.
        epsilon, delta: the sums of what they promised.
        exact: how many of them use data and promised nothing, so that no number bounds what they tell.
    """

    runs: int
    epsilon: float
    delta: float
    exact: int


def spent(store: Store, study: Study) -> StudySpent:
    """As it is now. Blocks."""
    found = [run for run in store.runs.of_study(study.name) if run.started is not None or run.state in ACTIVE]
    said = [promise for run in found if (promise := run.config.get("privacy"))]
    return StudySpent(
        runs=len(found),
        epsilon=math.fsum(float(one["epsilon"]) for one in said),
        delta=math.fsum(float(one["delta"]) for one in said),
        exact=sum(not run.config.get("privacy") and _needs_data(run.config) for run in found),
    )


def check(store: Store, study: Study | None, config: RunConfig) -> None:
    """Raises ``NotAllowed`` where a run of ``config`` is more than is left. Blocks; nobody else proposes
    meanwhile."""
    if study is None or study.most_epsilon is None or study.most_delta is None or not algorithms.needs_data(config):
        return
    if config.privacy is None:
        raise NotAllowed(
            f"the study {study.name} tells at most epsilon {study.most_epsilon:g} in all, so each of its runs promises "
            "differential privacy (privacy)"
        )
    sofar = spent(store, study)
    for name, most, gone in (
        ("epsilon", study.most_epsilon, sofar.epsilon),
        ("delta", study.most_delta, sofar.delta),
    ):
        asked = float(config.privacy[name])
        if gone + asked > most * _ROUNDING:
            raise NotAllowed(
                f"the study {study.name} may spend {name} {most:g} in all; its {sofar.runs} runs have {gone:g}, so "
                f"this one may have {max(0.0, most - gone):g} and asks for {asked:g}"
            )


def shown(store: Store, study: Study) -> dict[str, Json]:
    """A study as REST and the command show it, with what its runs have spent. Blocks."""
    sofar = spent(store, study)
    return {
        **study.public(),
        "state": study.state,
        "runs": sofar.runs,
        "spent": {"epsilon": sofar.epsilon, "delta": sofar.delta, "exact_runs": sofar.exact},
    }


def _needs_data(config: Json) -> bool:
    try:
        return algorithms.needs_data(RunConfig.parse(config))
    except ConfigError:  # of another release
        return True
