"""Drives an algorithm without a network: ask, answer at each node, gather plainly, tell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.algorithms import build, settled
from hanse.config import RunConfig
from hanse.errors import HanseError, Unusable
from hanse.gather import Party
from hanse.gathering.plain import Contributions, Plain, came
from hanse.kinds import SAMPLE, Algorithm, Ask, Done, Site, Who
from hanse.messages import Record, digest, dump, load
from hanse.table import Table


class Drive:
    """All steps of a run over tables; ``order`` is the order of arrival, ``spoil`` may change what a
    node sends, ``there(node, step)`` says whether it answers, ``draw(step)`` who is the sample."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        spoil: Any = None,
        forgetful: bool = False,
        there: Any = None,
        draw: Any = None,
        **settings: Any,
    ) -> None:
        settings = {"target_column": "y", "sample_id_column": None, **settings}
        self.owners = settings.pop("owners", {})
        self.config = settled(RunConfig.parse(settings))
        self.tables, self.spoil, self.forgetful = tables, spoil, forgetful
        self.there, self.draw = there, draw
        self.algorithm: Algorithm = build(self.config)
        self.sites = {n: self._site(n) for n in tables}
        self.records: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        self.contributions: list[dict[str, Any]] = []
        self.labels: list[str] = []
        self.states: list[Record] = []

    def _site(self, node: str) -> Site:
        return Site(node, self.tables[node], self.config.to_json(), owner=self.owners.get(node, {}))

    def _asked(self, ask: Ask) -> Sequence[str]:
        if not isinstance(ask.to, Who):
            return ask.to
        return self.draw(len(self.records)) if ask.to is SAMPLE and self.draw else list(self.tables)

    def run(self, reverse: bool = False) -> Record:
        state = load(dump(self.algorithm.init(self.config.to_json())))
        gather = Plain()
        while True:
            ask = self.algorithm.ask(state)
            if isinstance(ask, Done):
                break
            found, failures, sent = [], {}, {}
            common = load(dump(ask.record))
            for node in sorted(self._asked(ask), reverse=reverse):
                if self.there and not self.there(node, len(self.records)):
                    failures[node] = "lost its connection"
                    continue
                site = self._site(node) if self.forgetful else self.sites[node]
                site.step = len(self.records)
                record = load(dump(ask.each[node])) if node in ask.each else common
                try:
                    body = gather.reply(
                        "answer", record, lambda a, s=site: self.algorithm.answer(s, a), Party(site.node)
                    )
                except HanseError as error:
                    failures[node] = error.message
                    continue
                sent[node] = body
                if self.spoil:
                    body = self.spoil(node, ask.label, body)
                body = load(dump(body))
                found.append(came(node, len(self.records), body))
            found.sort(key=lambda pair: pair[0].node)
            made = Contributions(
                tuple(found), failures, ask.combine, {"a.": ask.arrays, "s.": ask.sums}, fault=ask.fault
            )
            gathered: Any = made.among(sorted(self.tables), len(self.records))
            while True:
                if not gathered.answers:
                    raise AssertionError(f"nobody left in {ask.label}: {dict(gathered.failures)}")
                try:
                    state = self.algorithm.tell(state, gathered)
                    break
                except Unusable as error:
                    gathered = gathered.without(error.nodes)
            kept = load(dump(state))
            if len(self.records) % 3 == 0:  # from a checkpoint; a run goes on from the state that it made
                state = kept
            self.labels.append(ask.label)
            self.contributions.append(sent)
            self.failures.append(dict(gathered.failures))
            self.records.append(dict(self.algorithm.metrics(state)))
            self.states.append(kept)
        self.state = state
        return self.algorithm.result(state)


def prepare(tables: Mapping[str, Table], **settings: Any) -> Record:
    """The result of the preparation alone."""
    drive = Drive(tables, **{"model_name": "sgd_classifier", "num_rounds": 1, **settings})
    drive.algorithm.stages = drive.algorithm.stages[:1]  # type: ignore[attr-defined]
    return drive.run()


def same(a: Record, b: Record) -> bool:
    return digest(a) == digest(b)


def toy(n: int, kind: str = "binary", seed: int = 0) -> Table:
    """Rows with signal: two numbers (one with gaps), a text, a truth value."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(50, 10, n), rng.normal(0, 1, n)
    colour = rng.choice(["red", "green", "blue"], n)
    smokes = rng.random(n) < 0.4
    signal = (a - 50) / 10 + 1.5 * (colour == "red") - 1.0 * smokes + 0.3 * b
    if kind == "binary":
        y: Any = np.where(signal + rng.normal(0, 0.5, n) > 0, "ill", "well").tolist()
    elif kind == "multiclass":
        y = np.select([signal < -0.7, signal < 0.7], ["low", "mid"], "top").tolist()
    else:
        y = 300 + 40 * signal + rng.normal(0, 5, n)
    b[rng.random(n) < 0.1] = np.nan
    return Table.of({"a": a, "b": b, "colour": colour.tolist(), "smokes": smokes, "y": y})


def shares(table: Table, *sizes: int) -> dict[str, Table]:
    """Cuts a table into sites of these sizes."""
    edges = np.cumsum([0, *sizes])
    return {
        f"site-{i}": table.take(np.arange(low, high))
        for i, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    }
