"""When a run that learns trains, and when its model is measured on everybody.

A training round asks those that the selection draws; each of them first measures the model that it gets. Where a
round asks everyone (``fraction`` 1), that is a measurement on everybody and costs no exchange of its own. Where
it asks a sample, the model goes to everybody every ``evaluate_every`` rounds besides; after the last round it always
does. A round whose model was measured on everybody is not measured on the next sample again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hanse.kinds import EVERYONE, SAMPLE, Who
from hanse.messages import Json

TRAIN, EVALUATE, DONE = "train", "evaluate", "done"


def begin(config: Mapping[str, Json]) -> dict[str, Json]:
    """What the state of a training stage keeps of its schedule, before the first round."""
    return {
        "phase": TRAIN,
        "round": 0,
        "rounds": config["num_rounds"],
        "history": [],
        "held_out": config["test_fraction"] > 0,
        "every": config["evaluate_every"] if config["fraction"] < 1 else 0,
        "measured": False,
    }


def whom(phase: str) -> Who:
    """A sample for what is learned, everyone for what is measured."""
    return EVERYONE if phase == EVALUATE else SAMPLE


def measures(data: Mapping[str, Json]) -> bool:
    """Whether the next step measures the model, or this was done already."""
    history = data["history"]
    return not (history and history[-1]["round"] == data["round"])


def trained(data: Mapping[str, Json], entry: Mapping[str, Json] | None) -> dict[str, Json]:
    """After a training round; ``entry`` is what was measured of the model before it."""
    done = data["round"] + 1
    if done >= data["rounds"]:
        phase = EVALUATE if data["held_out"] else DONE
    else:
        phase = EVALUATE if data["held_out"] and data["every"] and done % data["every"] == 0 else TRAIN
    return {**_noted(data, entry), "phase": phase, "round": done}


def evaluated(data: Mapping[str, Json], entry: Mapping[str, Json] | None) -> dict[str, Json]:
    """After a step that measured the model and trained nothing."""
    return {**_noted(data, entry), "phase": DONE if data["round"] >= data["rounds"] else TRAIN}


def shown(data: Mapping[str, Json]) -> dict[str, Json]:
    """The latest entry of the history as metrics of the step that measured it; {} of one that measured nothing."""
    if not data["measured"]:
        return {}
    last = data["history"][-1]
    return {"evaluated_round": last["round"], **{k: v for k, v in last.items() if k != "round"}}


def best(history: Sequence[Mapping[str, Json]]) -> int | None:
    """The round of the least loss, of those that were measured on the same sites as the latest one.

    >>> every, other = {"answered": 3, "of": 4, "which": "a"}, {"answered": 3, "of": 4, "which": "b"}
    >>> best([{"round": 1, "loss": 0.1, "sites": other}, {"round": 2, "loss": 0.5, "sites": every},
    ...       {"round": 3, "loss": 0.7, "sites": every}])
    2
    """
    rated = [entry for entry in history if entry.get("loss") is not None]
    if not rated:
        return None
    alike = [entry for entry in rated if entry.get("sites") == rated[-1].get("sites")]
    return int(min(alike, key=lambda entry: entry["loss"])["round"])


def _noted(data: Mapping[str, Json], entry: Mapping[str, Json] | None) -> dict[str, Json]:
    history = [*data["history"], *([entry] if entry is not None else [])]
    return {**data, "history": history, "measured": entry is not None}
