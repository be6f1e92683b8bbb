"""The experiment: one proposal, and one face for a simulation and for a federation of institutions.

Look at what the sites have in common, read the code that will run, propose, watch, take the result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, overload

from hanse import algorithms
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, Refused, RunFailed
from hanse.experiment.analysis import Analysis
from hanse.experiment.analytics import FederatedAnalytics
from hanse.experiment.callbacks import Begun, Callback, Relay
from hanse.experiment.configuring import try_plan
from hanse.experiment.results import Result
from hanse.experiment.seam import Backend, Happening
from hanse.experiment.waiting import wait
from hanse.messages import Json

GlobalEvaluate = Callable[[int, Result], Mapping[str, float] | None]


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
            config = self.config
            which = config.targets[0] if config.targets else ""
            self._analytics = FederatedAnalytics(self._backend, config.tags, config.expected_client_ids, target=which)
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
        """Sends the proposal; the owners decide. Raises ``Conflict`` when it was sent already, ``ConfigError`` where
        its own training plan cannot learn."""
        if self.run_id:
            raise Conflict(f"this is run {self.run_id} already; make another with federation.experiment(...)")
        if self._own_plan:
            try_plan(self.config)
        self.run_id = self._backend.propose(self.config)
        return self

    @overload
    def run(
        self,
        wait: Literal[True] = True,
        progress: bool = True,
        global_evaluate: GlobalEvaluate | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Result: ...
    @overload
    def run(
        self,
        wait: bool,
        progress: bool = True,
        global_evaluate: GlobalEvaluate | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Result | None: ...
    def run(
        self,
        wait: bool = True,
        progress: bool = True,
        global_evaluate: GlobalEvaluate | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Result | None:
        """Proposes, waits for the owners and the training, and gives the result.

        Args:
            wait: False only proposes; :meth:`wait` then gives the result.
            progress: show what happens.
            global_evaluate: called with each round's number and model, 0 (before training) included, as
                a :class:`Result`; the metrics that it returns, say of ``result.evaluate(validation)``, are
                in ``central`` of the result. The run keeps its models for it (``keep_models``).
            callbacks: who is told how it goes (:mod:`hanse.experiment.callbacks`), while it is waited for.

        Raises:
            Refused: an owner said no.
            RunFailed: the run ended without a result.
        """
        if global_evaluate is not None and not self.run_id:
            self.config = dataclasses.replace(self.config, keep_models=True)
        self.propose()
        return self.wait(progress, global_evaluate=global_evaluate, callbacks=callbacks) if wait else None

    def wait(
        self,
        progress: bool = True,
        on_update: Callable[[Happening], None] | None = None,
        global_evaluate: GlobalEvaluate | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Result:
        """The result, when the run has ended. Interrupting it, or an error in ``on_update`` or ``global_evaluate`` (see
        :meth:`run`), leaves a run at a coordinator going; one in ``callbacks`` is a warning."""
        if global_evaluate is not None and self.config.keep_models is not True:
            raise ConfigError("this run does not keep its models; propose it with keep_models=True to evaluate each")
        central = list[dict[str, Json]]()
        relay = Relay(callbacks, Begun(self._sent(), algorithms.title(self.config), self.config.to_json()))

        def heard(update: Happening) -> None:
            if on_update:
                on_update(update)
            if update.step is not None:
                relay.step(update.step)
            if global_evaluate and (update.step is not None or update.state == "completed"):
                self._evaluate(global_evaluate, central)
                relay.central(central)

        try:
            listens = on_update is not None or global_evaluate is not None or bool(callbacks)
            told = heard if listens else None
            result = wait(self._backend, self._sent(), self.config.num_rounds, progress, told)
        except BaseException as error:
            state = "rejected" if isinstance(error, Refused) else "failed" if isinstance(error, RunFailed) else "left"
            relay.ended(state, str(error), None)
            raise
        result.trusted_plan = self._own_plan
        result.central = central
        relay.ended("completed", result.reason, result)
        return result

    def _evaluate(self, global_evaluate: GlobalEvaluate, central: list[dict[str, Json]]) -> None:
        """Tells the models that are new, and writes down what is said of them."""
        for number, result in self._backend.models(self.run_id, int(central[-1]["round"]) if central else -1):
            result.trusted_plan = self._own_plan
            said = {name: float(value) for name, value in (global_evaluate(number, result) or {}).items()}
            known = {name: value if math.isfinite(value) else None for name, value in said.items()}
            central.append({"round": number, **known})

    def watch(self) -> Iterator[Happening]:
        """Everything that happens in the run, until it ends."""
        return self._backend.watch(self._sent())

    def status(self) -> Mapping[str, Json]:
        """State, round and consents now."""
        return self._backend.status(self._sent())

    def cancel(self) -> None:
        """Ends the run; what was learned so far is not kept as a result."""
        self._backend.cancel(self._sent())

    def resume(self) -> Experiment:
        """Goes on with a paused run at once; with one that failed from its last state, once all owners have agreed
        again (their approval ended with it); in a simulation that keeps states (``folder``), with one that failed or
        was cancelled. Raises ``Conflict`` in any other state."""
        self._backend.resume(self._sent())
        return self

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
        rounds = f", {config.num_rounds} rounds" if algorithms.learns(config.federated_strategy) else ""
        simulated = ", simulation" if self._backend.simulated else ""
        return f"<Experiment {algorithms.title(config)}{rounds}{simulated}: {where}>"
