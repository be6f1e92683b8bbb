"""What the records of a run's steps say: curves over the rounds, what each site gave, who took part."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hanse.experiment import drawing
from hanse.experiment.metric_names import FIRST
from hanse.learning import contributing
from hanse.learning.local_training import APART, ELSEWHERE, TOGETHER
from hanse.messages import Json
from hanse.rounds import Step

_COUNTERS = ("round", "evaluated_round")
_SIZES = {"n", "n_test", "invalid"}  # a federation's is not one of a site, so they have no spread
ABOUT = ("round", "spread", "nodes", "of", "failures", "seconds")


def steps(raw: Sequence[Mapping[str, Json]]) -> list[Step]:
    """Step records from JSON; fields that this release does not know are left out."""
    known = {f.name for f in dataclasses.fields(Step)}
    return [Step(**{k: v for k, v in row.items() if k in known}) for row in raw]


def left_out(steps: Sequence[Step]) -> list[tuple[str, str, int]]:
    """Who was not sent a step by policy, why, and in how many steps.

    >>> left_out([Step(0, "train", 1, "", chosen={"left_out": {"a": "at night"}})] * 2)
    [('a', 'at night', 2)]
    """
    told = Counter(pair for step in steps for pair in (step.chosen.get("left_out") or {}).items())
    return [(node, reason, count) for (node, reason), count in sorted(told.items())]


def gathered(steps: Sequence[Step]) -> str:
    """How the sites' contributions came together, in a line, as the records of the steps say; "" where none has ended.

    >>> step = Step(0, "train", 1, "", gathered={"by": "secure", "of": 4, "error": 0.0, "unchecked": ["counts"]})
    >>> gathered([step])
    'secure sums of 4 sites, which nobody saw in parts (unchecked of single sites: counts)'
    """
    ended = [step for step in steps if step.status == "ok"]
    hidden = [step.gathered for step in ended if step.gathered]
    if not hidden:
        return "plain: the coordinator saw what each site contributed" if ended else ""
    of = sorted({int(told["of"]) for told in hidden})
    span = f"{of[0]}" if len(of) == 1 else f"{of[0]} to {of[-1]}"
    unchecked = sorted({str(check) for told in hidden for check in told.get("unchecked", ())})
    off = max(float(told.get("error") or 0.0) for told in hidden)
    also = [f"unchecked of single sites: {', '.join(unchecked)}", f"each off by at most {off:.1g}" if off else ""]
    by = " and ".join(sorted({str(told["by"]) for told in hidden}))
    return f"{by} sums of {span} sites, which nobody saw in parts ({'; '.join(filter(None, also))})"


def together(steps: Sequence[Step]) -> str:
    """What it means that sites trained together (:mod:`hanse.learning.local_training`); "" where each trained alone."""
    told = [p.get("metrics") or {} for s in steps if s.round is not None for p in s.participants.values()]
    if not any(TOGETHER in metrics for metrics in told):
        return ""
    off = [float(m[APART]) for m in told if m.get(APART) is not None]
    measured = f"in the first round, by {max(off):.1g} of the length of what a site learned" if off else "by rounding"
    return (
        "sites trained together (batched), which adds numbers in another order than each alone: their parameters "
        f"differ {measured}; later rounds may amplify it"
    )


def elsewhere(steps: Sequence[Step]) -> str:
    """Which sites had no device of the kind that the training plan asks for; "" where all had it.

    >>> told = {"a": {"metrics": {"device_missing": 1.0}}, "b": {"metrics": {}}}
    >>> elsewhere([Step(0, "train", 1, "", participants=told)])
    'a had no device such as the training plan asks for, and trained on the processor'
    """
    nodes = sorted({n for s in steps for n, p in s.participants.items() if (p.get("metrics") or {}).get(ELSEWHERE)})
    named = ", ".join(nodes[:5]) + (f" and {len(nodes) - 5} others" if len(nodes) > 5 else "")
    return f"{named} had no device such as the training plan asks for, and trained on the processor" if nodes else ""


def evaluated(step: Step) -> int | None:
    """How many rounds had gone into the model that this step evaluated; None: it evaluated none. An
    algorithm may evaluate the model that it is about to train, so this is not the step's own round."""
    if step.status != "ok":
        return None
    said = step.metrics.get("evaluated_round", step.round)
    return said if isinstance(said, int) else None


def _numbers(values: Mapping[str, Json]) -> dict[str, float]:
    return {
        k: v
        for k, v in sorted(values.items(), key=lambda pair: _place(pair[0]))
        if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and k not in _COUNTERS
    }


def _place(name: str) -> tuple[int, str]:
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def history(rounds: Sequence[Step]) -> dict[int, dict[str, Any]]:
    """Round to its row, ascending: the global metrics of the model that it left, their ``spread`` (least, most) over
    sites, how many ``nodes`` of how many were measured, how many failed, and seconds. Rounds without metrics have none.
    """
    found: dict[int, dict[str, Any]] = {}
    for step in rounds:
        number = evaluated(step)
        values = _numbers(step.metrics)
        if number is None or not values:
            continue
        row = found.setdefault(number, {"round": number})
        row.update(values)
        spread = row.setdefault("spread", {})
        for name in sorted(values.keys() - _SIZES):
            at = [_numbers(p.get("metrics") or {}).get(name) for p in step.participants.values()]
            seen = [v for v in at if v is not None]
            if seen:
                spread[name] = (min(seen), max(seen))
        row["nodes"] = len(step.participants)
        rests = step.metrics.get("sites")
        row["of"] = rests["of"] if isinstance(rests, Mapping) else len(step.participants)
    by_round: dict[int | None, list[Step]] = {}
    for step in rounds:
        by_round.setdefault(step.round, []).append(step)
    for number, row in found.items():
        of = by_round.get(number, [])
        row["failures"] = len({n for s in of for n in s.failures})
        row["seconds"] = sum(s.seconds for s in of)
    return dict(sorted(found.items()))


def rests_on(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where metrics do not rest on all sites, sentences that say so; the last row's first."""
    said = []
    if rows and rows[-1]["nodes"] < rows[-1]["of"]:
        said.append(f"the last measurement rests on {rows[-1]['nodes']} of {rows[-1]['of']} sites")
    fewer = [str(row["round"]) for row in rows[:-1] if row["nodes"] < row["of"]]
    if fewer:
        shown = ", ".join(fewer[:10]) + (", ..." if len(fewer) > 10 else "")
        said.append(
            f"other sites than those of the last were measured after round {shown}; do not compare their metrics"
        )
    return said


def _rows(trained: Sequence[Step], node: str) -> float:
    """The rows that a node last told that it trains on."""
    told = [_numbers(s.participants[node].get("metrics") or {}) for s in trained if node in s.participants]
    return next((float(said["n"]) for said in reversed(told) if "n" in said), 0.0)


def contributions(rounds: Sequence[Step], nodes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each node: its ``share`` of the weights, each node's of the last round that it trained in, or of the
    rows that it trained on, where sums of rows add up (None: nobody knows, as in secure sums); the last value of each
    of its metrics; and the means over the rounds of its ``update_norm`` and, where they were told, of ``cosine`` and
    ``left_out`` (:mod:`hanse.learning.contributing`)."""
    trained = [s for s in rounds if s.round is not None and s.status == "ok" and s.label != "evaluate"]
    weights = {n: 0.0 for n in nodes}
    for node in nodes:
        own = [float(s.participants[node].get("weight") or 0.0) for s in trained if node in s.participants]
        weights[node] = own[-1] if own else 0.0
    if set(weights.values()) <= {0.0, 1.0}:  # sums over rows, to which each row counts as much
        weights = {n: _rows(trained, n) if weights[n] else 0.0 for n in nodes}
    total = math.fsum(weights.values())
    rows = []
    for node in nodes:
        last: dict[str, float] = {}
        norms = []
        for step in rounds:
            if evaluated(step) is None or node not in step.participants:
                continue
            values = _numbers(step.participants[node].get("metrics") or {})
            if "update_norm" in values:
                norms.append(values.pop("update_norm"))
            last |= {k: v for k, v in values.items() if not k.startswith("train_loss")}
        row = {"node": node, "share": weights[node] / total if total else None, **last}
        if norms:
            row["update_norm"] = math.fsum(norms) / len(norms)
        rows.append({**row, **contributing.means([step.metrics for step in rounds], node)})
    return rows


def cells(rounds: Sequence[Step]) -> dict[tuple[str, int], drawing.Cell]:
    """What every node did in every round; a failure in any step of the round counts."""
    found: dict[tuple[str, int], drawing.Cell] = {}
    for step in rounds:
        if step.round is None:
            continue
        for node in step.participants:
            key = (node, step.round)
            if key not in found:
                seconds = step.participants[node].get("seconds") or 0.0
                found[key] = drawing.Cell("ok", f"took part, {float(seconds):.2f} s")
        for node, reason in step.failures.items():
            found[node, step.round] = drawing.Cell("failed", reason)
    return found


def curves(history: Sequence[Mapping[str, Any]]) -> list[drawing.Curve]:
    """The two curves worth a picture: the loss, and the best known measure of quality."""
    names = [n for n in ("auc", "accuracy", "c_index", "r2", "d2") if any(n in row for row in history)][:1]
    if any("loss" in row for row in history):
        names.insert(0, "loss")
    found = []
    for name in names:
        rows = [row for row in history if name in row]
        if len(rows) > 4 and rows[0]["round"] == 0:  # untrained: far off, it would hide all that comes after
            rows = rows[1:]
        band = [row["spread"].get(name, (None, None)) for row in rows]
        found.append(
            drawing.Curve(
                name, [r["round"] for r in rows], [r[name] for r in rows], [b[0] for b in band], [b[1] for b in band]
            )
        )
    return found
