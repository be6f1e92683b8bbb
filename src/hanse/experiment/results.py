"""What a run gives: the model, and the record of how it came about.

A result is made of the same two things for a simulation and for a federation: the model's record
(arrays and JSON) and the records of the steps (:class:`hanse.rounds.Step`). Everything else here is
read from these two.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hanse import algorithms, protection
from hanse.config import RunConfig
from hanse.errors import DataError, NotFound, Refused, WireError
from hanse.experiment import drawing, figure, measured, records
from hanse.experiment.importance import importance
from hanse.experiment.listing import Listing
from hanse.experiment.metric_names import FIRST, LOWER_IS_BETTER, title
from hanse.learning.contributing import COSINE, LEFT_OUT
from hanse.learning.measuring import MEASURED
from hanse.messages import Json, Record, load, pieces
from hanse.privacy.guarantee import Guarantee
from hanse.rounds import Step
from hanse.thresholds import Thresholds

if TYPE_CHECKING:
    from hanse.prediction import Predictor

FORMAT = 1


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
        own_models: node to the model of its own that a simulation left there, as ``record``; those of a federation stay
            at its nodes.
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
    own_models: Mapping[str, Record] = field(default_factory=dict, repr=False)

    # ------------------------------------------------------------ numbers

    @property
    def history(self) -> Listing:
        """One row per evaluated round (0: before training): the federation's metrics, their
        ``spread`` as ``{metric: (lowest, highest)}`` over the sites, ``nodes`` that evaluated it ``of`` how
        many in the run, and of the round itself failures and seconds."""
        return Listing(list(records.history(self.rounds).values()), empty="no round was evaluated")

    @property
    def metrics(self) -> dict[str, float]:
        """The federation's metrics of this model, or of the last that was measured before it."""
        return {k: v for k, v in self._row.items() if k not in records.ABOUT and isinstance(v, (int, float))}

    @property
    def _row(self) -> dict[str, Any]:
        history = records.history(self.rounds)
        last = [*history.values()][-1] if history else {}
        return history.get(self.record.data.get("round", -1), last)  # a run may end with an earlier model

    @property
    def nearness(self) -> str:
        """How the model relates to the one of the pooled rows, in a line: exact, averaged or joined."""
        data = self.record.data
        return algorithms.nearness(str(data.get("algorithm", "")), str(data.get("model_name", "")))

    @property
    def gathering(self) -> str:
        """How the sites' contributions came together, in a line: plainly, or in sums that nobody saw in parts."""
        return records.gathered(self.rounds)

    @property
    def privacy(self) -> Guarantee | None:
        """What differential privacy the run promised: ``epsilon``, ``delta``, ``unit``, ``words()``; None: none."""
        return protection.of(self.config, len(self._everyone())) if self.config.privacy is not None else None

    @property
    def warnings(self) -> list[str]:
        """What is odd about the sites and may spoil the model, a sentence each: kinds, labels, units, codes."""
        said = [str(w) for w in self.alignment.get("warnings", ())]
        said += [str(w) for step in self.rounds for w in list(step.metrics.get("warnings") or ())]
        return list(
            dict.fromkeys([*said, *filter(None, [records.together(self.rounds), records.elsewhere(self.rounds)])])
        )

    @property
    def thresholds(self) -> list[Thresholds]:
        """Of the last model, for each class: ``roc()``, ``precision_recall()``, ``calibration()`` and ``decision()``
        on the held-out rows of all sites. Empty where no class is predicted."""
        said = (step.metrics.get("thresholds") for step in reversed(self.rounds))
        return Thresholds.of(next((found for found in said if found), []))

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
        its training moved the model, in the mean over rounds) and the last model's metrics there; with
        ``tell_contributions`` also ``cosine`` and ``left_out``, how its changes lay to those of all."""
        return Listing(records.contributions(self.rounds, self._everyone()))

    @property
    def feature_importance(self) -> dict[str, float]:
        """Feature to its share of the model's importance, largest first; empty where the model has
        none. Trees: total gain. Linear models: mean absolute coefficient of the standardised
        feature. One-hot columns count for the feature that they came from."""
        return importance(self.record)

    @property
    def shap(self) -> Listing:
        """What each feature adds to the predictions of boosted trees, in margins, where the run asked for it
        (``shap_rows``): the mean of its |SHAP| values over rows of all sites with its standard error, and their mean;
        the largest first. Empty where it did not."""
        told = self.record.data.get("shap") or {}
        return Listing(list(told.get("features", [])), empty="no SHAP values; set shap_rows of a run of boosted trees")

    @property
    def groups(self) -> Listing:
        """Metrics of the last model by group of held-out rows, over all sites (``measures=["groups"]``)."""
        return measured.groups(self._measured)

    def cross_site(self, metric: str = "") -> Listing:
        """The ``metric`` of each site's own model, and of the one of all, at every site
        (``measures=["cross_site"]``). Raises ``ConfigError`` where it has no such metric."""
        return measured.matrix(self._measured, metric)

    @property
    def _measured(self) -> Mapping[str, Json]:
        found: Mapping[str, Json] = self.record.data.get(MEASURED) or {}
        return found

    def coefficients(self, level: float = 0.95, ratios: bool = False) -> Listing:
        """The regression table of a model that was fitted exactly, in the units of the data: one row a term
        (:class:`hanse.coefficients.Term`), as on pooled rows.

        Args:
            level: of the confidence intervals, in (0, 1).
            ratios: odds ratios (classes) or rate ratios (counts) with their intervals in place of their logarithms.

        Raises:
            NotFound: the model was not fitted exactly.
            DataError: ``level`` is no such number, or ratios are asked of a model of numbers.
        """
        from hanse import coefficients

        terms, said = coefficients.of(self.record, level), [coefficients.basis(self.record)]
        if not ratios:
            return Listing([dataclasses.asdict(term) for term in terms], notes=said)
        return Listing(coefficients.ratios(terms, coefficients.effect(self.record)), notes=said)

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

    def personal(self, node: str, trust_plan: bool = False) -> Predictor:
        """The predictor of a site's own model, of strategies that leave each site one (ditto, fedper, fedrep).

        Raises:
            NotFound: there is none here. In a federation it is at the node: ``hanse node predict RUN`` uses it there.
        """
        from hanse import prediction

        if node not in self.own_models:
            known = ", ".join(sorted(self.own_models)) or "none"
            raise NotFound(
                f"there is no model of {node}'s own in this result; there are {known}. Those of a federation stay at "
                "its nodes (hanse node predict), those of a simulation in processes end with them"
            )
        self._may_run(trust_plan)
        return prediction.Predictor(self.own_models[node])

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

    def export(self, path: str | os.PathLike[str], trust_plan: bool = False) -> Path:
        """Writes the model alone as ``.skops``, ``.onnx``, ``.ubj`` or ``.json`` (:mod:`hanse.experiment.export`), for
        use without Hanse. Raises ``ConfigError`` where this model is not written so."""
        from hanse.experiment.export import export

        return export(self.record, self.model(trust_plan), path)

    # ------------------------------------------------------------ pictures

    def __repr__(self) -> str:
        said = [f"<Result of {self._headline()}>", self.nearness, self._hidden(), self._private()]
        return "\n".join([*filter(None, said), *(f"! {warning}" for warning in self.warnings)])

    def _hidden(self) -> str:
        return self.gathering if any(step.gathered for step in self.rounds) else ""

    def _private(self) -> str:
        return protection.words(self.config, len(self._everyone()))

    def _headline(self) -> str:
        figures = ", ".join(f"{title(k)} {drawing.short(v)}" for k, v in self.metrics.items() if k in FIRST)
        rounds = f"{len({s.round for s in self.rounds if s.round is not None})} rounds "
        learned = rounds if algorithms.learns(self.config.federated_strategy) else ""
        failed = len(self.failures)
        return (
            f"{self._title()}{' (simulation)' if self.simulated else ''}: {learned}over "
            f"{len(self._everyone())} sites{', ' + figures if figures else ''}{self._basis()}"
            f"{f', {failed} failures' if failed else ''}"
            f"{f', {_many(self.warnings)}' if self.warnings else ''}"
        )

    def _basis(self) -> str:
        """Where the figures do not rest on all sites: on how many."""
        row = self._row
        return f" (of {row['nodes']} of {row['of']} sites)" if row and row["nodes"] < row["of"] else ""

    def _title(self) -> str:
        if self.config.name:
            return self.config.name
        return algorithms.title(self.config)

    def _repr_html_(self) -> str:
        history = list(records.history(self.rounds).values())
        seconds = sum(s.seconds for s in self.rounds)
        moved = sum(s.bytes_up + s.bytes_down for s in self.rounds)
        tiles = {title(k): drawing.short(v) for k, v in self.metrics.items() if k in FIRST}
        tiles |= {
            "sites": str(len(self._everyone())),
            "time": drawing.duration(seconds),
            "transferred": drawing.size(moved),
        }
        rounds = sorted({s.round for s in self.rounds if s.round is not None})
        subtitle = f"{len(rounds)} round{'s' * (len(rounds) != 1)}, seed {self.config.seed}"
        if features := self.alignment.get("features"):
            subtitle += f", {len(features)} features ({self.config.feature_strategy})"
        if self.nearness:
            subtitle += f"; {self.nearness}"
        for said in (self._hidden(), self._private()):
            subtitle += f"; {said}" if said else ""
        if self.run_id:
            subtitle += f", run {self.run_id}"
        panels = [
            drawing.panel(f"{title(c.name)[0].upper()}{title(c.name)[1:]}", _reading(c), drawing.curve(c, colour))
            for c, colour in zip(records.curves(history), (drawing.BLUE, drawing.TEAL), strict=False)
        ]
        weights = self.feature_importance
        if weights and len(panels) % 2:  # two in a row look best
            panels.append(drawing.panel("Feature importance", "Share of the model's total.", drawing.bars(weights)))
            weights = {}
        panels.append(
            drawing.panel(
                "Participation",
                "Every site in every round; a cross says why on hovering.",
                drawing.participation(self._everyone(), rounds, records.cells(self.rounds)),
            )
        )
        rows = list(self.contributions)
        shown = {
            k: title(k)
            for k in dict.fromkeys(k for r in rows for k in r)
            if k in (*FIRST, "n_test", "update_norm", COSINE, LEFT_OUT) and any(r.get(k) is not None for r in rows)
        }
        shown = {
            k: {"n_test": "test rows", "update_norm": "update", LEFT_OUT: "left out"}.get(k, v)
            for k, v in shown.items()
        }
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
        if sizes := {
            row["feature"] + (f", {row['output']}" if "output" in row else ""): row["mean_abs"] for row in self.shap
        }:
            rows_of = self.record.data["shap"]["rows"]
            panels.append(
                drawing.panel("What features add", f"Mean |SHAP| over {rows_of} training rows.", drawing.bars(sizes))
            )
        for name, rows_told in (("Metrics by group", self.groups), ("Own and common models", self.cross_site())):
            if len(rows_told):
                panels.append(drawing.panel(name, "On held-out rows.", rows_told._repr_html_(), wide=True))
        notes = self.warnings + records.rests_on(history)
        if failed := list(self.failures):
            first = "; ".join(f"{f['node']} in round {f['round']}: {f['reason']}" for f in failed[:3])
            notes.append(f"{len(failed)} failed answers. {first}{' …' if len(failed) > 3 else ''}")
        tag = "simulation" if self.simulated else ""
        return drawing.page(self._title(), subtitle, tag, tiles, panels, notes)

    def plot(self) -> Any:
        """The same pictures as a matplotlib ``Figure``; ``.savefig(path)`` writes it."""
        weights = dict(sorted(self.feature_importance.items(), key=lambda pair: -pair[1])[:12])
        return figure.draw(
            self._headline(),
            records.curves(list(self.history)),
            self._everyone(),
            sorted({s.round for s in self.rounds if s.round is not None}),
            records.cells(self.rounds),
            list(self.contributions),
            weights,
        )


def _many(warnings: Sequence[str]) -> str:
    return f"{len(warnings)} warning{'s' * (len(warnings) != 1)}"


def load_result(path: str | os.PathLike[str]) -> Result:
    """The result that :meth:`Result.save` wrote.

    Raises:
        DataError: there is no such file, or it is something else.
        WireError: the file is damaged.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    if raw[8:9] != b"{":  # a header of JSON stands there in every safetensors file
        raise DataError(
            f"{os.fspath(path)} is no safetensors file; expected what result.save(path) or hanse run model wrote"
        )
    record = load(raw)
    data = record.data
    if "model_name" in data and "hanse_result" not in data:
        raise DataError(
            f"{os.fspath(path)} holds a model alone; hanse run model RUN --result -o FILE writes what load_result "
            "reads, and hanse.connect().run(RUN).wait() gives the same"
        )
    if data.get("hanse_result") != FORMAT:
        raise DataError(
            f"{os.fspath(path)} is not a result of hanse (format {data.get('hanse_result')!r}; expected {FORMAT})"
        )
    try:
        return Result(
            Record(data["model"], record.arrays),
            RunConfig.read(data["config"]),
            records.steps(data["rounds"]),
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


def _reading(curve: drawing.Curve) -> str:
    better = "lower" if curve.name in LOWER_IS_BETTER else "higher"
    return f"On held-out rows, {better} is better; the band spans the sites."
