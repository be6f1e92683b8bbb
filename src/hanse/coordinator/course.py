"""What the records of a run say: curves, importance, contribution of each site, convergence.

Pure functions over the step records (:class:`hanse.rounds.Step` as JSON); nothing here is stored, and
nothing is invented: what was not measured is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hanse.learning import contributing
from hanse.learning.measuring import MEASURED
from hanse.messages import Json

Steps = Sequence[Mapping[str, Json]]
CURVES = ("loss", "accuracy", "auc")


@dataclass(slots=True)
class RoundView:
    """One training round: what it cost, who took part, and how good the model is that it left.

    ``clients`` are the nodes that trained in it, ``evaluated`` the metrics of the model that it left, by node.
    """

    round: int
    metrics: dict[str, Json] = field(default_factory=dict)
    spread: dict[str, dict[str, float]] = field(default_factory=dict)
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluated: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    ended: str | None = None
    importance: dict[str, float] = field(default_factory=dict)  # of the model that the round left
    sites: Mapping[str, Json] | None = None  # which sites ``metrics`` rest on; None: all of the run

    def public(self) -> dict[str, Json]:
        """As ``GET /api/analytics/session/{id}`` gives it; numbers that are unknown or not finite are null."""
        plain = {k: v for k, v in self.metrics.items() if not isinstance(v, (Mapping, list))}
        return {
            "round": self.round,
            **{name: number(self.metrics.get(name)) for name in CURVES},
            "metrics": plain,
            "spread": self.spread,
            "measured_on": self.sites and {"answered": self.sites.get("answered"), "of": self.sites.get("of")},
            "n_clients": len(self.clients),
            "failures": self.failures,
            "duration_s": self.seconds,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "clients": {n: {k: c[k] for k in ("weight", "seconds", "metrics")} for n, c in self.clients.items()},
            "sites": self.evaluated,
        }


def number(value: Json) -> float | None:
    """``value`` if it is a finite number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def views(steps: Steps) -> list[RoundView]:
    """The training rounds in order. A step that evaluated an earlier round's model (``evaluated_round``
    in its metrics) gives its numbers to that round; round 0 is the model before any training, and is
    left out unless it was evaluated. Where a step tells no loss, accuracy or AUC of all sites, it is the mean of
    theirs; one that it tells as null is not defined, and no mean of the sites that have one."""
    found: dict[int, RoundView] = {}
    for step in steps:
        if step.get("status", "ok") != "ok":
            continue
        trained, metrics = step.get("round"), step.get("metrics") or {}
        participants: Mapping[str, Any] = step.get("participants") or {}
        if isinstance(trained, int):
            view = found.setdefault(trained, RoundView(trained))
            for node, part in participants.items():
                view.clients[node] = {
                    "weight": part.get("weight"),
                    "seconds": part.get("seconds"),
                    "metrics": dict(part.get("metrics") or {}),
                }
            view.failures.update(step.get("failures") or {})
            view.seconds += float(step.get("seconds") or 0.0)
            view.bytes_up += int(step.get("bytes_up") or 0)
            view.bytes_down += int(step.get("bytes_down") or 0)
            view.ended = step.get("ended")
            if isinstance(step.get("feature_importance"), Mapping):
                view.importance = dict(step["feature_importance"])
        measured = metrics.get("evaluated_round", trained)
        if isinstance(measured, int) and (metrics or isinstance(trained, int)):
            view = found.setdefault(measured, RoundView(measured))
            view.metrics.update({k: v for k, v in metrics.items() if k not in ("spread", "evaluated_round", "sites")})
            view.sites = metrics.get("sites") if isinstance(metrics.get("sites"), Mapping) else None
            view.evaluated.update({n: dict(p.get("metrics") or {}) for n, p in participants.items()})
            for name in CURVES:
                if name not in view.metrics and not view.metrics.get("implausible"):  # an algorithm that tells no whole
                    view.metrics[name] = weighted_mean(participants, name)
            view.spread.update(spread(participants))
    return [view for _, view in sorted(found.items())]


def comparable(rounds: Sequence[RoundView]) -> list[RoundView]:
    """The rounds whose model was measured on the same sites as the latest that was: only these compare."""
    measured = [view for view in rounds if number(view.metrics.get("loss")) is not None]
    return [view for view in measured if view.sites == measured[-1].sites]


def weighted_mean(participants: Mapping[str, Any], name: str) -> float | None:
    """Σ n_c m_c / Σ n_c over the sites that have the metric; n_c is the site's ``n_test``, else ``n``,
    else its weight."""
    total = weight = 0.0
    for part in participants.values():
        metrics = part.get("metrics") or {}
        value = number(metrics.get(name))
        counts = number(metrics.get("n_test", metrics.get("n", part.get("weight"))))
        if value is not None and counts is not None and counts > 0:
            total, weight = total + counts * value, weight + counts
    return total / weight if weight else None


def spread(participants: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Metric to its least and greatest value over the sites."""
    values: dict[str, list[float]] = {}
    for part in participants.values():
        for name, value in (part.get("metrics") or {}).items():
            known = number(value)
            if known is not None:
                values.setdefault(name, []).append(known)
    return {name: {"min": min(found), "max": max(found)} for name, found in sorted(values.items())}


# ---------------------------------------------------------------- convergence


def convergence(
    losses: Sequence[float | None], rounds: Sequence[int], window: int = 3, tolerance: float = 0.01
) -> dict[str, Json]:
    """Whether the global model has stabilised.

    Args:
        losses: one per round, None where not measured (left out).
        rounds: their numbers.
        window: so many changes are looked at.
        tolerance: relative change of the loss below which it is flat.

    >>> convergence([1.0, 0.5, 0.3, 0.299, 0.298, 0.2975], [1, 2, 3, 4, 5, 6])["status"]
    'converged'
    """
    bad = [i for i, loss in enumerate(losses) if loss is not None and not math.isfinite(loss)]
    kept = [(r, x) for r, x in zip(rounds, losses, strict=True) if x is not None and math.isfinite(x)]
    series = [x for _, x in kept]
    status = "diverging" if bad and bad[-1] == len(losses) - 1 else _status(series, window, tolerance)
    since: int | None = None
    if kept and status != "insufficient_data" and not bad:
        first = len(series)
        while first > window + 1 and _status(series[: first - 1], window, tolerance) == status:
            first -= 1
        since = kept[first - 1][0]
    delta = None
    if len(series) > window:
        before = series[-1 - window]
        delta = (before - series[-1]) / _scale(before)
    return {"status": status, "window": window, "tolerance": tolerance, "delta": delta, "since_round": since}


def _scale(value: float) -> float:
    return max(abs(value), 1e-12)


def _status(series: Sequence[float], window: int, tolerance: float) -> str:
    if len(series) < window + 1:
        return "insufficient_data"
    recent = series[-1 - window :]
    scale = _scale(recent[0])
    changes = [b - a for a, b in zip(recent, recent[1:], strict=False)]
    width = (max(recent) - min(recent)) / scale
    if width <= tolerance:
        best, first = min(series), series[0]
        at_best = recent[-1] - best <= tolerance * _scale(best)
        better = first - recent[-1] > tolerance * _scale(first)
        return "converged" if at_best and better else "plateaued"
    rising = "diverging" if recent[-1] > series[0] else "past_best"
    if all(c > 0 for c in changes):
        return rising
    turns = sum(a * b < 0 for a, b in zip(changes, changes[1:], strict=False))
    if len(changes) > 1 and turns == len(changes) - 1 and min(abs(c) for c in changes) / scale > tolerance:
        return "oscillating"
    if recent[-1] - recent[0] > tolerance * scale:
        return rising
    return "improving" if recent[0] - recent[-1] > tolerance * scale else "plateaued"


# ---------------------------------------------------------------- contribution and importance


def contribution(rounds: Sequence[RoundView], failures: Mapping[str, int], nodes: Sequence[str]) -> dict[str, Json]:
    """Per site: rounds taken part in, failures, samples, share of all weight (where these are sums over rows, of which
    each weighs 1: of the rows), time, the latest metrics, and by how much its own loss fell from the first to the
    latest round; where the run tells it, the means of ``cosine`` and ``left_out``
    (:mod:`hanse.learning.contributing`)."""
    trained = [r for r in rounds if r.clients]
    alike = {number(client["weight"]) for r in trained for client in r.clients.values()} <= {0.0, 1.0, None}
    counts = _rows if alike else _weight
    weights = {n: sum(counts(r.clients[n]) or 0.0 for r in trained if n in r.clients) for n in nodes}
    total = sum(weights.values())
    found: dict[str, Json] = {}
    for node in nodes:
        parts = [r.clients[node] for r in trained if node in r.clients]
        own = [x for x in (number(r.evaluated.get(node, {}).get("loss")) for r in rounds) if x is not None]
        found[node] = {
            "rounds": len(parts),
            "failures": failures.get(node, 0),
            "samples": counts(parts[-1]) if parts else None,
            "share": weights[node] / total if total else None,
            "seconds": sum(number(p["seconds"]) or 0.0 for p in parts) if parts else None,
            "metrics": parts[-1]["metrics"] if parts else {},
            "loss_improvement": own[0] - own[-1] if len(own) > 1 else None,
            "participation": len(parts) / len(trained) if trained else None,
            **contributing.means([view.metrics for view in rounds], node),
        }
    return found


def _weight(client: Mapping[str, Json]) -> float | None:
    return number(client["weight"])


def _rows(client: Mapping[str, Json]) -> float | None:
    """How many rows a site learned from, as it says; what it weighs, where it does not say."""
    said = client["metrics"]
    rows = number(said.get("n")) if isinstance(said, Mapping) else None
    return _weight(client) if rows is None else rows


def importance(rounds: Sequence[RoundView]) -> tuple[list[dict[str, Json]], float | None]:
    """Feature importance over the rounds, and how stable its order is.

    Per round importance_f = Σ_c n_c imp_cf / Σ_c n_c, each scaled to sum to one; where the algorithm
    gives the global model's importance (``feature_importance`` of the round), that is taken. Stability is
    the mean Spearman correlation of successive rounds.
    """
    series = [s for s in (_of_round(view) for view in rounds) if s]
    if not series:
        return [], None
    names = sorted({name for one in series for name in one})
    rows = []
    for name in names:
        values = [one.get(name, 0.0) for one in series]
        mean = sum(values) / len(values)
        std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        rows.append({"feature": name, "latest": values[-1], "mean": mean, "std": std})
    rows.sort(key=lambda row: (-float(row["mean"]), str(row["feature"])))  # type: ignore[arg-type]
    ranked: list[dict[str, Json]] = [{**row, "rank": i} for i, row in enumerate(rows, 1)]
    pairs = [
        _spearman([a.get(n, 0.0) for n in names], [b.get(n, 0.0) for n in names])
        for a, b in zip(series, series[1:], strict=False)
    ]
    known = [p for p in pairs if p is not None]
    return ranked, sum(known) / len(known) if known else None


def _shap(steps: Steps) -> list[Json]:
    """What features add to predictions, where a step told it: ``{feature, output?, mean_abs, error, mean, rank}``."""
    for step in reversed(steps):
        told = (step.get("metrics") or {}).get("shap")
        if isinstance(told, Mapping):
            return list(told.get("features") or [])
    return []


def _measured(steps: Steps) -> dict[str, Json]:
    """What was measured of the model when it had been learned, by measure (:mod:`hanse.measures`)."""
    found: dict[str, Json] = {}
    for step in steps:
        told = (step.get("metrics") or {}).get(MEASURED)
        if isinstance(told, Mapping):
            found |= told
    return found


def _of_round(view: RoundView) -> dict[str, float]:
    whole = view.importance or view.metrics.get("feature_importance")
    if isinstance(whole, Mapping):
        return _normal(whole)
    total: dict[str, float] = {}
    weight = 0.0
    for client in view.clients.values():
        own = client["metrics"].get("feature_importance")
        counts = number(client["weight"])
        if isinstance(own, Mapping) and counts:
            weight += counts
            for name, value in _normal(own).items():
                total[name] = total.get(name, 0.0) + counts * value
    return {name: value / weight for name, value in total.items()} if weight else {}


def _normal(values: Mapping[str, Json]) -> dict[str, float]:
    known = {str(k): abs(v) for k, v in ((k, number(v)) for k, v in values.items()) if v is not None}
    total = sum(known.values())
    return {k: v / total for k, v in known.items()} if total else {}


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) + 1) / 2
    above = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    below = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return above / below if below else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties share their mean."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start : end + 1]:
            ranks[i] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def failures_of(steps: Steps) -> dict[str, int]:
    """Node to how often it gave nothing usable, over all steps and attempts that are recorded."""
    counts: dict[str, int] = {}
    for step in steps:
        for node in step.get("failures") or {}:
            counts[node] = counts.get(node, 0) + 1
    return counts


def session(
    run: Mapping[str, Json], steps: Steps, nodes: Sequence[str], window: int = 3, tolerance: float = 0.01
) -> dict[str, Json]:
    """The body of ``GET /api/analytics/session/{id}``."""
    rounds = views(steps)
    ranked, stability = importance(rounds)
    alike = comparable(rounds) if any(r.sites for r in rounds) else rounds
    losses = [number(r.metrics.get("loss")) for r in alike]
    return {
        **run,
        "rounds": [r.public() for r in rounds],
        "feature_importance": ranked,
        "rank_stability": stability,
        "shap": _shap(steps),
        "measured": _measured(steps),
        "client_performance": contribution(rounds, failures_of(steps), nodes),
        "convergence": convergence(losses, [r.round for r in alike], window, tolerance),
    }
