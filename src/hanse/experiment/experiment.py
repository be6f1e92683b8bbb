"""The experiment: one face for a simulation and for a federation of institutions.

A :class:`Federation` knows who is there. An :class:`Experiment` is one proposal: look at what the
sites have in common, read the code that will run, propose, watch, take the result. What lies
behind, sites in this process or a coordinator, is a :class:`Backend`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from hanse import algorithms
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, Refused, RunFailed
from hanse.experiment.listing import Listing
from hanse.experiment.progress import Progress
from hanse.experiment.results import Result
from hanse.messages import Json, Record
from hanse.rounds import Step

if TYPE_CHECKING:
    from hanse.experiment.analytics import FederatedAnalytics

GlobalEvaluate = Callable[[int, Result], Mapping[str, float] | None]
ALIASES = {"model": "model_name", "target": "target_column", "rounds": "num_rounds"}
ENDED = ("completed", "failed", "rejected", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Update:
    """Something that happened in a run. ``waiting_for`` are nodes whose consent is missing."""

    state: str
    step: Step | None = None
    waiting_for: Sequence[str] = ()
    reason: str = ""


class Backend(Protocol):
    """What an experiment needs of a federation."""

    simulated: bool
    defaults: Mapping[str, Json]

    def nodes(self) -> Sequence[Mapping[str, Json]]: ...

    def datasets(self) -> Sequence[Mapping[str, Json]]: ...

    def analyze(self, config: RunConfig) -> Mapping[str, Json]: ...

    def fitting(self, config: RunConfig) -> Mapping[str, Mapping[str, Json]]:
        """Node to the dataset that a run would use: name, version, columns and their kinds."""
        ...

    def preview(self, config: RunConfig, run_id: str) -> str: ...

    def propose(self, config: RunConfig) -> str: ...

    def status(self, run_id: str) -> Mapping[str, Json]: ...

    def watch(self, run_id: str) -> Iterator[Update]:
        """Past and coming updates; ends when the run has ended. Waiting costs nothing."""
        ...

    def cancel(self, run_id: str) -> None: ...

    def result(self, run_id: str) -> Result: ...

    def models(self, run_id: str, after: int) -> Iterator[tuple[int, Result]]:
        """The kept models of rounds above ``after``, in order, each with its round (0: before training)."""
        ...

    def stored(self, record: Record) -> str:
        """The SHA-256 by which a run can go on from this model."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the sites have in common, before anything is proposed.

    Args:
        features: what the run would use, in order.
        union, intersection: columns that any site has, and that all have.
        filled: node to the share of the features that it lacks, in [0, 1].
        warnings: for people.
        sites: one row per node: dataset, rows, columns.
    """

    features: Sequence[str]
    union: Sequence[str] = ()
    intersection: Sequence[str] = ()
    filled: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    sites: Sequence[Mapping[str, Json]] = ()

    def __repr__(self) -> str:
        lines = [
            f"{len(self.features)} features; {len(self.intersection)} columns at all sites, {len(self.union)} at any"
        ]
        lines += [repr(self._listing())] if self.sites else []
        return "\n".join([*lines, *(f"! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        names = ", ".join(f"<code>{escape(f)}</code>" for f in list(self.features)[:60])
        more = f" and {len(self.features) - 60} more" if len(self.features) > 60 else ""
        warnings = "".join(f"<p>⚠ {escape(w)}</p>" for w in self.warnings)
        return (
            f"<p><b>{len(self.features)} features</b>: {names}{more}</p>"
            f"<p>{len(self.intersection)} columns at all sites, {len(self.union)} at any</p>"
            f"{self._listing()._repr_html_()}{warnings}"
        )

    def _listing(self) -> Listing:
        return Listing([{**s, "filled": f"{self.filled.get(str(s.get('node')), 0.0):.0%}"} for s in self.sites])


class Federation:
    """Institutions that learn together: :func:`hanse.simulate` or :func:`hanse.connect` gives one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def simulated(self) -> bool:
        return self._backend.simulated

    def nodes(self) -> Listing:
        """Who is there, and whether it is on line."""
        return Listing(self._backend.nodes(), empty="no node has enrolled yet")

    def datasets(self) -> Listing:
        """What the nodes offer: names, rows, columns, tags; never values."""
        return Listing(self._backend.datasets(), empty="no dataset is offered yet")

    def experiment(
        self,
        model: str | None = None,
        target: str | None = None,
        features: Sequence[str] | None = None,
        rounds: int | None = None,
        **settings: Any,
    ) -> Experiment:
        """A proposal, not yet sent.

        Args:
            model: a name of ``hanse.models`` (``logistic_regression``, ``xgboost``, ...).
            target: the column to predict.
            features: use these columns; None: all that the feature strategy gives.
            rounds: training rounds.
            settings: any other setting of :class:`hanse.config.RunConfig`, by its name. ``plan`` may
                be a training plan's text, its file, its module, or its ``build`` function;
                ``initial_model`` a result, whose model is trained further.

        Raises:
            ConfigError: a setting is unknown or wrong; says which, and what was expected.
        """
        named = {"model": model, "target": target, "rounds": rounds, "features": features}
        given = {**{k: v for k, v in named.items() if v is not None}, **settings}
        before = given.get("initial_model")
        if isinstance(before, Result):
            given["initial_model"] = self._backend.stored(before.record)
        config = configure(given, self._backend.defaults)
        if isinstance(before, Result):
            config = algorithms.continuing(config, before.record)  # what does not fit is said now
        return Experiment(self._backend, config)

    def analytics(
        self,
        tags: Sequence[str] = (),
        nodes: Sequence[str] | None = None,
        by: str | Sequence[str] = (),
        where: Sequence[Sequence[Any]] = (),
        require: str = "any",
        per_node: bool = False,
        purpose: str = "",
    ) -> FederatedAnalytics:
        """Federated statistics of the datasets that carry all ``tags``; see
        :class:`hanse.experiment.analytics.FederatedAnalytics`."""
        from hanse.experiment.analytics import FederatedAnalytics

        return FederatedAnalytics(self._backend, tags, nodes, by, where, require, per_node, purpose)

    def close(self) -> None:
        """Ends what runs in this process, and open connections. Runs at a coordinator go on."""
        self._backend.close()

    def __enter__(self) -> Federation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        what = "Simulated federation" if self.simulated else "Federation"
        return f"{what}\n{self.nodes()!r}"

    def _repr_html_(self) -> str:
        what = "Simulated federation" if self.simulated else "Federation"
        return f"<p><b>{what}</b></p>{self.nodes()._repr_html_()}"


def configure(settings: Mapping[str, Any], defaults: Mapping[str, Json] | None = None) -> RunConfig:
    """A checked configuration, short names included.

    >>> configure({"model": "xgboost", "rounds": 3}).num_rounds
    3
    >>> configure({"round": 3})
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: there is no setting 'round'; did you mean 'rounds'?
    """
    known = [*(f.name for f in dataclasses.fields(RunConfig)), *ALIASES]
    found: dict[str, Json] = dict(defaults or {})
    for name, value in settings.items():
        full = ALIASES.get(name, name)
        if name != full and full in settings:
            raise ConfigError(f"{name!r} and {full!r} are the same setting; give one of them")
        if full not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigError(f"there is no setting {name!r}; {hint}")
        found[full] = list(value) if isinstance(value, (tuple, set, frozenset)) else value
    if found.get("plan") is not None:
        found["plan"] = plan_of(found["plan"])
    return RunConfig.parse(found)


def plan_of(given: Any) -> Any:
    """A training plan as the setting ``plan`` has it: from its text, the path of its ``.py`` file, its
    module, or its ``build`` function (which then must import what it uses itself)."""
    if isinstance(given, str) and "\n" in given:
        return {"name": "plan", "source": given}
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        try:
            return {"name": path.stem, "source": path.read_text(encoding="utf-8")}
        except OSError as error:
            raise ConfigError(f"the training plan {path} cannot be read: {error.strerror}") from None
    if inspect.ismodule(given) or inspect.isfunction(given):
        try:
            return {"name": given.__name__, "source": textwrap.dedent(inspect.getsource(given))}
        except OSError:
            raise ConfigError("the source of the training plan is not known; give its text") from None
    return given


class Experiment:
    """One proposal, from the first look to the result.

    Nothing happens at the sites before :meth:`propose` (or :meth:`run`, which proposes and waits).
    """

    def __init__(self, backend: Backend, config: RunConfig, run_id: str = "") -> None:
        self._backend, self.config, self.run_id = backend, config, run_id
        # of a run that exists already the plan came from elsewhere; only one's own code runs unasked
        self._analytics: FederatedAnalytics | None = None
        self._own_plan = str((config.plan or {}).get("source", "")) if not run_id else ""

    @property
    def analytics(self) -> FederatedAnalytics:
        """Federated statistics of the datasets that this experiment would learn from."""
        if self._analytics is None:
            from hanse.experiment.analytics import FederatedAnalytics

            config = self.config
            self._analytics = FederatedAnalytics(
                self._backend, config.tags, config.expected_client_ids, target=config.target_column
            )
        return self._analytics

    def analyze(self) -> Analysis:
        """Which columns the sites share, and what would be filled in where. Only names and kinds of
        columns are looked at."""
        raw = self._backend.analyze(self.config)
        known = {f.name for f in dataclasses.fields(Analysis)}
        return Analysis(**{k: v for k, v in raw.items() if k in known})

    def preview(self) -> str:
        """The settings and the code that will run at the sites, as their owners will read it."""
        return self._backend.preview(self.config, self.run_id)

    def propose(self) -> Experiment:
        """Sends the proposal; the owners decide. Raises ``Conflict`` when it was sent already."""
        if self.run_id:
            raise Conflict(f"this is run {self.run_id} already; make another with federation.experiment(...)")
        self.run_id = self._backend.propose(self.config)
        return self

    @overload
    def run(
        self, wait: Literal[True] = True, progress: bool = True, global_evaluate: GlobalEvaluate | None = None
    ) -> Result: ...
    @overload
    def run(
        self, wait: bool, progress: bool = True, global_evaluate: GlobalEvaluate | None = None
    ) -> Result | None: ...
    def run(
        self, wait: bool = True, progress: bool = True, global_evaluate: GlobalEvaluate | None = None
    ) -> Result | None:
        """Proposes, waits for the owners and the training, and gives the result.

        Args:
            wait: False only proposes; :meth:`wait` then gives the result.
            progress: show what happens.
            global_evaluate: called with each round's number and model, 0 (before training) included, as
                a :class:`Result`; the metrics that it returns, say of ``result.evaluate(validation)``, are
                in ``central`` of the result. The run keeps its models for it (``keep_models``).

        Raises:
            Refused: an owner said no.
            RunFailed: the run ended without a result.
        """
        if global_evaluate is not None and not self.run_id:
            self.config = dataclasses.replace(self.config, keep_models=True)
        self.propose()
        return self.wait(progress, global_evaluate=global_evaluate) if wait else None

    def wait(
        self,
        progress: bool = True,
        on_update: Callable[[Update], None] | None = None,
        global_evaluate: GlobalEvaluate | None = None,
    ) -> Result:
        """The result, when the run has ended. Interrupting it, or an error in ``on_update`` or
        ``global_evaluate`` (see :meth:`run`), leaves a run at a coordinator going."""
        if global_evaluate is not None and not self.config.keep_models:
            raise ConfigError("this run does not keep its models; propose it with keep_models=True to evaluate each")
        last, central = Update("pending"), list[dict[str, Json]]()
        with Progress(self.config.num_rounds, show=progress, simulated=self._backend.simulated) as bar:
            for last in self.watch():
                bar.show(last.state, last.step, last.waiting_for, last.reason)
                if on_update:
                    on_update(last)
                if global_evaluate and (last.step is not None or last.state == "completed"):
                    self._evaluate(global_evaluate, central)
        if last.state == "rejected":
            raise Refused(f"run {self.run_id} was rejected. {last.reason}".strip())
        if last.state != "completed":
            raise RunFailed(f"run {self.run_id} ended as {last.state or 'unknown'}. {last.reason}".strip())
        result = self.result()
        result.central = central
        return result

    def _evaluate(self, global_evaluate: GlobalEvaluate, central: list[dict[str, Json]]) -> None:
        """Tells the models that are new, and writes down what is said of them."""
        for number, result in self._backend.models(self.run_id, int(central[-1]["round"]) if central else -1):
            result.trusted_plan = self._own_plan
            said = {name: float(value) for name, value in (global_evaluate(number, result) or {}).items()}
            known = {name: value if math.isfinite(value) else None for name, value in said.items()}
            central.append({"round": number, **known})

    def watch(self) -> Iterator[Update]:
        """Everything that happens in the run, until it ends."""
        return self._backend.watch(self._sent())

    def status(self) -> Mapping[str, Json]:
        """State, round and consents now."""
        return self._backend.status(self._sent())

    def cancel(self) -> None:
        """Ends the run; what was learned so far is not kept as a result."""
        self._backend.cancel(self._sent())

    def result(self) -> Result:
        """The result of a completed run."""
        result = self._backend.result(self._sent())
        result.trusted_plan = self._own_plan
        return result

    def _sent(self) -> str:
        if not self.run_id:
            raise Conflict("this experiment was not proposed yet; call propose() or run()")
        return self.run_id

    def __repr__(self) -> str:
        config, where = self.config, f"run {self.run_id}" if self.run_id else "not proposed"
        return (
            f"<Experiment {config.model_name} for {config.target_column!r}, {config.num_rounds} rounds"
            f"{', simulation' if self._backend.simulated else ''}: {where}>"
        )
