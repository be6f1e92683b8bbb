"""What a run gives: the model, and the record of how it came about.

A result is made of the same two things for a simulation and for a federation: the model's record
(arrays and JSON) and the records of the steps (:class:`hanse.rounds.Step`). Everything else here is
read from these two.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hanse.config import RunConfig
from hanse.errors import DataError, Refused, WireError
from hanse.experiment import drawing
from hanse.experiment.listing import Listing
from hanse.messages import Json, Record, load, pieces
from hanse.rounds import Step

if TYPE_CHECKING:
    from hanse.prediction import Predictor

FORMAT = 1
LOWER_IS_BETTER = ("loss", "mse", "rmse", "mae")
_NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "auc": "AUC",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
}


@dataclass(slots=True)
class Result:
    """A finished run.

    Args:
        record: the model: arrays, and what is needed to rebuild it.
        config: what was proposed.
        rounds: the record of every step, preparation included.
        run_id: names the run at its coordinator.
        nodes: ids of the nodes that gave their consent.
        alignment: the features (:meth:`hanse.features.Alignment.to_json`).
        bundle: SHA-256 of what the data owners agreed to.
        simulated: all sites were in this process.
        reason: why it ended ("10 rounds").
        trusted_plan: source of the training plan that its author runs here anyway.
        central: what ``global_evaluate`` said of the model after each round: ``{round, metric: value}``.
    """

    record: Record
    config: RunConfig
    rounds: list[Step]
    run_id: str = ""
    nodes: Sequence[str] = ()
    alignment: Mapping[str, Json] = field(default_factory=dict)
    bundle: str = ""
    simulated: bool = False
    reason: str = ""
    trusted_plan: str = field(default="", repr=False)
    central: list[dict[str, Json]] = field(default_factory=list, repr=False)

    # ------------------------------------------------------------ numbers

    @property
    def history(self) -> Listing:
        """One row per evaluated round (0: before training): the federation's metrics, their
        ``spread`` as ``{metric: (lowest, highest)}`` over the sites, nodes that evaluated it, and of
        the round itself failures and seconds."""
        return Listing(list(_history(self.rounds).values()), empty="no round was evaluated")

    @property
    def metrics(self) -> dict[str, float]:
        """The federation's metrics in the last evaluated round."""
        history = list(_history(self.rounds).values())
        if not history:
            return {}
        return {k: v for k, v in history[-1].items() if k not in _ABOUT and isinstance(v, (int, float))}

    @property
    def failures(self) -> Listing:
        """Every node that was asked and gave nothing usable, with the reason."""
        rows = [
            {"round": s.round, "step": s.step, "phase": s.label, "node": node, "reason": reason}
            for s in self.rounds
            for node, reason in sorted(s.failures.items())
        ]
        return Listing(rows, ("round", "step", "phase", "node", "reason"), empty="no failures")

    @property
    def participation(self) -> Listing:
        """One row per node: rounds asked, answered and failed, mean seconds of an answer."""
        rows = []
        for node in self._everyone():
            asked = [s for s in self.rounds if s.round is not None and node in s.asked]
            answered = [s for s in asked if node in s.participants]
            seconds = [float(s.participants[node].get("seconds") or 0.0) for s in answered]
            rows.append(
                {
                    "node": node,
                    "asked": len({s.round for s in asked}),
                    "answered": len({s.round for s in answered}),
                    "failed": len({s.round for s in asked if node in s.failures}),
                    "seconds": sum(seconds) / len(seconds) if seconds else None,
                }
            )
        return Listing(rows, ("node", "asked", "answered", "failed", "seconds"))

    @property
    def contributions(self) -> Listing:
        """One row per site: its ``share`` of the training rows in [0, 1], ``update_norm`` (how far
        its training moved the model, in the mean over rounds) and the last model's metrics there."""
        return Listing(_contributions(self.rounds, self._everyone()))

    @property
    def feature_importance(self) -> dict[str, float]:
        """Feature to its share of the model's importance, largest first; empty where the model has
        none. Trees: total gain. Linear models: mean absolute coefficient of the standardised
        feature. One-hot columns count for the feature that they came from."""
        from hanse.experiment.importance import importance

        return importance(self.record)

    def to_frame(self) -> Any:
        """:attr:`history` as a pandas or Polars frame, the spread as ``<metric>_min``, ``_max``."""
        rows = []
        for row in self.history:
            flat = {k: v for k, v in row.items() if k != "spread"}
            for name, (low, high) in row["spread"].items():
                flat[f"{name}_min"], flat[f"{name}_max"] = low, high
            rows.append(flat)
        return Listing(rows).to_frame()

    def _everyone(self) -> list[str]:
        seen = {n for s in self.rounds for n in (*s.asked, *s.participants, *s.failures)}
        return sorted(seen | set(self.nodes))

    # ------------------------------------------------------------ the model

    @property
    def plan(self) -> str:
        """The source of the training plan, where the model has one."""
        return str(((self.record.data.get("options") or {}).get("plan") or {}).get("source", ""))

    def model(self, trust_plan: bool = False) -> Any:
        """A normal, fitted model of scikit-learn, XGBoost or PyTorch. It expects the prepared design
        matrix; :meth:`predictor` takes raw rows.

        Args:
            trust_plan: run a training plan (:attr:`plan`) that came from a file or from a coordinator.
                One that you proposed in this session runs without it.

        Raises:
            Refused: the model has a plan from elsewhere; read it first.
        """
        from hanse import prediction

        self._may_run(trust_plan)
        return prediction.native_model(self.record)

    def predictor(self, trust_plan: bool = False) -> Predictor:
        """Takes raw rows (frame, dict of columns or Table), prepares them as in training, predicts."""
        from hanse import prediction

        self._may_run(trust_plan)
        return prediction.Predictor(self.record)

    def evaluate(self, table: Any, trust_plan: bool = False) -> dict[str, float]:
        """The metrics of the model on raw rows that carry the target column."""
        from hanse import prediction

        self._may_run(trust_plan)
        return prediction.Predictor(self.record).evaluate(table)

    def _may_run(self, trusted: bool) -> None:
        if self.plan and not trusted and self.plan != self.trusted_plan:
            raise Refused(
                "this model's training plan is code from elsewhere; read result.plan, and if you trust it, "
                "give trust_plan=True"
            )

    # ------------------------------------------------------------ on disk

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes model and records as one safetensors file; there is no code in it.
        :func:`load_result` reads it."""
        content: dict[str, Json] = {
            "hanse_result": FORMAT,
            "model": dict(self.record.data),
            "config": self.config.to_json(),
            "rounds": [dataclasses.asdict(step) for step in self.rounds],
            "run_id": self.run_id,
            "nodes": list(self.nodes),
            "alignment": dict(self.alignment),
            "bundle": self.bundle,
            "simulated": self.simulated,
            "reason": self.reason,
            "central": self.central,
        }
        path = Path(path)
        draft = path.with_name(path.name + ".part")
        try:
            with draft.open("wb") as out:
                for piece in pieces(Record(content, self.record.arrays)):
                    out.write(piece)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path

    # ------------------------------------------------------------ pictures

    def __repr__(self) -> str:
        figures = ", ".join(f"{title(k)} {drawing.short(v)}" for k, v in self.metrics.items() if k in _TILES)
        rounds = len({s.round for s in self.rounds if s.round is not None})
        failed = len(self.failures)
        return (
            f"<Result of {self._title()}{' (simulation)' if self.simulated else ''}: {rounds} rounds over "
            f"{len(self._everyone())} sites{', ' + figures if figures else ''}"
            f"{f', {failed} failures' if failed else ''}>"
        )

    def _title(self) -> str:
        if self.config.name:
            return self.config.name
        return f"{self.config.model_name.replace('_', ' ')} for {self.config.target_column!r}"

    def _repr_html_(self) -> str:
        history = list(_history(self.rounds).values())
        seconds = sum(s.seconds for s in self.rounds)
        moved = sum(s.bytes_up + s.bytes_down for s in self.rounds)
        tiles = {title(k): drawing.short(v) for k, v in self.metrics.items() if k in _TILES}
        tiles |= {"sites": str(len(self._everyone())), "time": _duration(seconds), "transferred": _bytes(moved)}
        rounds = sorted({s.round for s in self.rounds if s.round is not None})
        subtitle = f"{len(rounds)} round{'s' * (len(rounds) != 1)}, seed {self.config.seed}"
        if features := self.alignment.get("features"):
            subtitle += f", {len(features)} features ({self.config.feature_strategy})"
        if self.run_id:
            subtitle += f", run {self.run_id}"
        panels = [
            drawing.panel(f"{title(c.name)[0].upper()}{title(c.name)[1:]}", _reading(c), drawing.curve(c, colour))
            for c, colour in zip(curves(history), (drawing.BLUE, drawing.TEAL), strict=False)
        ]
        weights = self.feature_importance
        if weights and len(panels) % 2:  # two in a row look best
            panels.append(drawing.panel("Feature importance", "Share of the model's total.", drawing.bars(weights)))
            weights = {}
        panels.append(
            drawing.panel(
                "Participation",
                "Every site in every round; a cross says why on hovering.",
                drawing.participation(self._everyone(), rounds, cells(self.rounds)),
            )
        )
        rows = list(self.contributions)
        shown = {
            k: title(k)
            for k in dict.fromkeys(k for r in rows for k in r)
            if k in (*_TILES, "n_test", "update_norm") and any(r.get(k) is not None for r in rows)
        }
        shown = {k: {"n_test": "test rows", "update_norm": "update"}.get(k, v) for k, v in shown.items()}
        if weights:
            panels.append(drawing.panel("Feature importance", "Share of the model's total.", drawing.bars(weights)))
        panels.append(
            drawing.panel(
                "Contribution of each site",
                "Share of the training rows; how the last model that was tried there does"
                f"{'; how far training there moved the model' if 'update_norm' in shown else ''}.",
                drawing.sites(rows, shown),
                wide=True,
            )
        )
        notes = [str(w) for w in self.alignment.get("warnings", ())]
        if failed := list(self.failures):
            first = "; ".join(f"{f['node']} in round {f['round']}: {f['reason']}" for f in failed[:3])
            notes.append(f"{len(failed)} failed answers. {first}{' …' if len(failed) > 3 else ''}")
        tag = "simulation" if self.simulated else ""
        return drawing.page(self._title(), subtitle, tag, tiles, panels, notes)

    def plot(self) -> Any:
        """The same pictures as a matplotlib ``Figure``; ``.savefig(path)`` writes it."""
        from hanse.experiment import figure

        return figure.draw(self)


_TILES = ("accuracy", "auc", "r2", "rmse", "mae", "loss")  # in this order, wherever they come from
_COUNTERS = ("round", "evaluated_round")
_SIZES = {"n", "n_test", "invalid"}  # a federation's is not one of a site, so they have no spread
_ABOUT = ("round", "spread", "nodes", "failures", "seconds")


def title(name: str) -> str:
    """How a metric is called on a picture."""
    return _NAMES.get(name, name.replace("_", " "))


def load_result(path: str | os.PathLike[str]) -> Result:
    """The result that :meth:`Result.save` wrote.

    Raises:
        DataError: there is no such file, or it is something else.
        WireError: the file is damaged.
    """
    try:
        record = load(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    data = record.data
    if data.get("hanse_result") != FORMAT:
        raise DataError(
            f"{os.fspath(path)} is not a result of hanse (format {data.get('hanse_result')!r}; "
            f"expected {FORMAT}); a model alone is read with hanse run model"
        )
    try:
        return Result(
            Record(data["model"], record.arrays),
            RunConfig.parse(data["config"]),
            steps(data["rounds"]),
            data["run_id"],
            data["nodes"],
            data["alignment"],
            data["bundle"],
            data["simulated"],
            data["reason"],
            central=list(data.get("central", ())),
        )
    except (KeyError, TypeError) as error:
        raise WireError(f"{os.fspath(path)} is damaged: {error}") from None


def steps(raw: Sequence[Mapping[str, Json]]) -> list[Step]:
    """Step records from JSON; fields that this release does not know are left out."""
    known = {f.name for f in dataclasses.fields(Step)}
    return [Step(**{k: v for k, v in row.items() if k in known}) for row in raw]


# ---------------------------------------------------------------- reading the records


def _evaluated(step: Step) -> int | None:
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
    return (_TILES.index(name) if name in _TILES else len(_TILES), name)


def _history(rounds: Sequence[Step]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for step in rounds:
        number = _evaluated(step)
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
    for number, row in found.items():
        of = [s for s in rounds if s.round == number]
        row["failures"] = len({n for s in of for n in s.failures})
        row["seconds"] = sum(s.seconds for s in of)
    return dict(sorted(found.items()))


def _contributions(rounds: Sequence[Step], nodes: Sequence[str]) -> list[dict[str, Any]]:
    trained = [s for s in rounds if s.round is not None and s.status == "ok" and s.label != "evaluate"]
    weights = {n: 0.0 for n in nodes}
    for node in nodes:
        own = [float(s.participants[node].get("weight") or 0.0) for s in trained if node in s.participants]
        weights[node] = own[-1] if own else 0.0
    total = math.fsum(weights.values()) or 1.0
    rows = []
    for node in nodes:
        last: dict[str, float] = {}
        norms = []
        for step in rounds:
            if _evaluated(step) is None or node not in step.participants:
                continue
            values = _numbers(step.participants[node].get("metrics") or {})
            if "update_norm" in values:
                norms.append(values.pop("update_norm"))
            last |= {k: v for k, v in values.items() if not k.startswith("train_loss")}
        row = {"node": node, "share": weights[node] / total, **last}
        if norms:
            row["update_norm"] = math.fsum(norms) / len(norms)
        rows.append(row)
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
    names = [n for n in ("auc", "accuracy", "r2") if any(n in row for row in history)][:1]
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


def _reading(curve: drawing.Curve) -> str:
    better = "lower" if curve.name in LOWER_IS_BETTER else "higher"
    return f"On held-out rows, {better} is better; the band spans the sites."


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


__all__ = ["Result", "load_result", "steps"]
