"""Institutions that learn together, as a data scientist sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hanse import algorithms
from hanse.experiment.analytics import FederatedAnalytics
from hanse.experiment.configuring import configure
from hanse.experiment.flower_app import FlowerExperiment
from hanse.experiment.listing import Listing
from hanse.experiment.proposal import Experiment
from hanse.experiment.results import Result, load_result
from hanse.experiment.seam import Backend


class Federation:
    """Institutions that learn together: :func:`hanse.simulate` or :func:`hanse.connect` gives one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def simulated(self) -> bool:
        """Whether all sites are in this process."""
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
                ``initial_model`` a result, or the file of one, whose model is trained further.

        Raises:
            ConfigError: a setting is unknown or wrong; says which, and what was expected.
        """
        named = {"model": model, "target": target, "rounds": rounds, "features": features}
        given = {**{k: v for k, v in named.items() if v is not None}, **settings}
        before = given.get("initial_model")
        if isinstance(before, os.PathLike):
            before = load_result(before)
        if isinstance(before, Result):
            given["initial_model"] = self._backend.stored(before.record)
        config = configure(given, self._backend.defaults)
        if isinstance(before, Result):
            config = algorithms.continuing(config, before.record)  # what does not fit is said now
        return Experiment(self._backend, config)

    def flower_app(
        self, folder: str | os.PathLike[str], run_config: Mapping[str, Any] | None = None, **settings: Any
    ) -> FlowerExperiment:
        """A Flower app as a proposal, not yet sent: owners agree to its very files, its ClientApp runs in their cages,
        its ServerApp here (docs/engines.md).

        Args:
            folder: of the app, as ``flwr new`` makes it.
            run_config: what to set of its ``[tool.flwr.app.config]``.
            settings: ``most_messages``, ``tags``, ``purpose`` and any other setting of a run.

        Raises:
            ConfigError: it is no app, or cannot be run so; in a simulation, which Flower has of its own (``flwr run``).
        """
        return FlowerExperiment.of(self._backend, Path(folder), run_config or {}, settings)

    def run(self, run_id: str) -> Experiment:
        """The experiment of a run that exists already: to watch it, to take its result."""
        return Experiment(self._backend, self._backend.configuration(run_id), run_id)

    def analytics(
        self,
        tags: Sequence[str] = (),
        nodes: Sequence[str] | None = None,
        by: str | Sequence[str] = (),
        where: Sequence[Sequence[Any]] = (),
        require: str = "any",
        per_node: bool = False,
        purpose: str = "",
        gathering: str = "auto",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> FederatedAnalytics:
        """Federated statistics of the datasets that carry all ``tags``; see
        :class:`hanse.experiment.analytics.FederatedAnalytics`."""
        asked = (tags, nodes, by, where, require, per_node, purpose, gathering)
        return FederatedAnalytics(self._backend, *asked, ranges=ranges or {})

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
