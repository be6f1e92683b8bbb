"""FLOPY-NET's numbers, as its document defines them, from rounds that really took place.

Where the document invents (accuracy 0, loss infinity, a rate of 0 with too few rounds), None stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hanse.coordinator.course import RoundView, Steps, number, views
from hanse.messages import Json


def trend(values: Sequence[float | None]) -> float | None:
    """Mean change from round to round times ten, limited to [-1, 1]; None below two values. ``values`` has one for each
    round, None where it was not measured.

    >>> round(trend([0.5, 0.55, 0.6, 0.65, 0.7, 0.72, 0.75]), 4), round(trend([0.5, None, 0.6, None, 0.7]), 4)
    (0.4167, 0.5)
    """
    known = [(place, v) for place, v in enumerate(values) if v is not None]
    if len(known) < 2:
        return None
    (first, before), (last, now) = known[0], known[-1]
    return max(-1.0, min(1.0, 10 * (now - before) / (last - first)))


def convergence_rate(accuracies: Sequence[float | None]) -> float | None:
    """(a_n - a_(n-2)) / (1 - a_(n-2)): the share of what was missing two rounds ago that was gained
    since. None below three values, or when nothing was missing.

    >>> round(convergence_rate([0.5, 0.55, 0.6, 0.65, 0.7, 0.72, 0.75]), 4)
    0.1667
    """
    known = [a for a in accuracies if a is not None]
    if len(known) < 3 or known[-3] >= 1:
        return None
    return (known[-1] - known[-3]) / (1 - known[-3])


def stability(accuracies: Sequence[float | None]) -> float | None:
    """1 - std / mean of the last five; None below five."""
    last = [a for a in accuracies if a is not None][-5:]
    mean = sum(last) / len(last) if last else 0.0
    if len(last) < 5 or not mean:
        return None
    return 1 - math.sqrt(sum((a - mean) ** 2 for a in last) / len(last)) / mean


def trends(rounds: Sequence[RoundView]) -> dict[str, Json]:
    """FLOPY-NET's ``convergence_metrics`` of the rounds that trained, as far as they were measured on the same sites as
    the latest that was; {} below two."""
    trained = [view for view in rounds if view.round > 0 and view.clients]
    if len(trained) < 2:
        return {}
    accuracy, loss = alike(trained, "accuracy"), alike(trained, "loss")
    return {
        "accuracy_trend": trend(accuracy),
        "loss_trend": trend(loss),
        "convergence_rate": convergence_rate(accuracy),
        "stability": stability(accuracy),
    }


def alike(rounds: Sequence[RoundView], name: str) -> list[float | None]:
    """A metric of each round; None where it was not measured, or on other sites than the latest that was."""
    told = [number(view.metrics.get(name)) for view in rounds]
    sites = next(
        (view.sites for view, value in zip(reversed(rounds), reversed(told), strict=True) if value is not None), None
    )
    return [value if view.sites == sites else None for view, value in zip(rounds, told, strict=True)]


def metrics(steps: Steps) -> dict[str, Json]:
    """The body of FLOPY-NET's ``GET /metrics``."""
    rounds = [r for r in views(steps) if r.round > 0 and r.clients]
    accuracy = [number(r.metrics.get("accuracy")) for r in rounds]
    loss = [number(r.metrics.get("loss")) for r in rounds]
    moved = sum(int(s.get("bytes_up") or 0) + int(s.get("bytes_down") or 0) for s in steps)
    used = sum(int(s.get("bytes_up") or 0) for s in steps if s.get("status", "ok") == "ok")
    return {
        "accuracy": accuracy,
        "loss": loss,
        "rounds": len(rounds),
        "participants_per_round": [len(r.clients) for r in rounds],
        "convergence_rate": convergence_rate(alike(rounds, "accuracy")),
        "convergence_metrics": trends(rounds),
        "total_rounds": len(rounds),
        "latest_accuracy": accuracy[-1] if accuracy else None,
        "latest_loss": loss[-1] if loss else None,
        "total_participants": len({n for r in rounds for n in r.clients}),
        "average_round_time": sum(r.seconds for r in rounds) / len(rounds) if rounds else None,
        "communication_efficiency": used / moved if moved else None,
        "round_metrics": [_round(r) for r in rounds],
        "client_metrics": _clients(rounds),
    }


def _round(view: RoundView) -> dict[str, Json]:
    waits = [s for s in (number(c["seconds"]) for c in view.clients.values()) if s is not None]
    slowest = max(waits) if waits else None
    return {
        "round": view.round,
        "timestamp": view.ended,
        "participants": sorted(view.clients),
        "global_accuracy": number(view.metrics.get("accuracy")),
        "global_loss": number(view.metrics.get("loss")),
        "communication_time": slowest,  # from asking the slowest node to its answer, its training included
        "aggregation_time": max(0.0, view.seconds - slowest) if slowest is not None else None,
    }


def _clients(rounds: Sequence[RoundView]) -> dict[str, Json]:
    found: dict[str, dict[str, Json]] = {}
    for view in rounds:
        for node, client in view.clients.items():
            measured = view.evaluated.get(node, {})
            found.setdefault(node, {})[str(view.round)] = {
                "local_accuracy": number(measured.get("accuracy")),
                "local_loss": number(measured.get("loss")),
                "training_time": number(client["seconds"]),
                "data_samples": number(client["metrics"].get("n", client["weight"])),
                "model_size": view.bytes_up // len(view.clients) if view.clients else None,
            }
    return dict(found)
