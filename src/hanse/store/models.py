"""Model versions: numbered from 1 within a run, stored by content hash."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from hanse.errors import NotFound
from hanse.messages import Json
from hanse.store.blobs import Blobs
from hanse.store.database import Database, iso, now, words
from hanse.store.events import Events
from hanse.store.schema import checkpoints, model_versions, runs


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """``nbytes`` is the size of the stored record."""

    run: str
    version: int
    round: int | None
    sha: str
    nbytes: int
    metrics: Mapping[str, Json]
    created: float

    def public(self) -> dict[str, Json]:
        """As REST shows it."""
        return {
            "run": self.run,
            "version": self.version,
            "round": self.round,
            "sha": self.sha,
            "nbytes": self.nbytes,
            "metrics": dict(self.metrics),
            "created": iso(self.created),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """The second version against the first. ``loss_diff`` is positive where the loss went down; None where a metric is
    absent, or where two versions of one run were measured on different sites."""

    accuracy_diff: float | None
    loss_diff: float | None
    size_diff: int
    round_diff: int | None


class Models:
    """The model versions of runs, numbered from 1; the bytes are blobs, named by their SHA-256."""

    def __init__(self, database: Database, events: Events, blobs: Blobs) -> None:
        self._database, self._events, self._blobs = database, events, blobs

    def add(
        self, run_id: str, sha: str, *, round: int | None = None, metrics: Mapping[str, Json] | None = None
    ) -> ModelVersion:
        """The next version of a run's model; the blob must have been put. The same model of the same
        round again gives the version that there is."""
        if not self._blobs.has(sha):
            raise NotFound(f"there is no stored record {str(sha)[:12]!r}; put it before it is a version")
        nbytes = self._blobs.path(sha).stat().st_size
        same = (model_versions.c.round == round) if round is not None else model_versions.c.round.is_(None)
        with self._database.write() as tx:
            if not tx.execute(select(runs.c.id).where(runs.c.id == words(run_id))).first():
                raise NotFound(f"there is no run {run_id!r}")
            of_run = model_versions.c.run == run_id
            known = tx.execute(select(model_versions).where(of_run, model_versions.c.sha == sha, same))
            row = known.mappings().first()
            if row is not None:
                return ModelVersion(**row)
            last = tx.execute(select(func.max(model_versions.c.version)).where(of_run)).scalar() or 0
            values: dict[str, Any] = {
                "run": run_id,
                "version": last + 1,
                "round": round,
                "sha": sha,
                "nbytes": nbytes,
                "metrics": dict(metrics or {}),
                "created": now(),
            }
            tx.execute(insert(model_versions).values(values))
            self._events.record(tx, "model", run=run_id, detail={"version": last + 1, "round": round, "sha": sha})
        return ModelVersion(**values)

    def measured(self, run_id: str, round: int, metrics: Mapping[str, Json]) -> None:
        """What was found of the models of a round: a model is measured in a step after the one that made it."""
        of_round = (model_versions.c.run == words(run_id)) & (model_versions.c.round == round)
        with self._database.write() as tx:
            tx.execute(update(model_versions).where(of_round).values(metrics=dict(metrics)))

    def best(self, run_id: str) -> ModelVersion | None:
        """The version of the least loss, of those that were measured on the same sites as the latest that was."""
        return best_of(self.list(run_id))

    def thin(self, run_id: str) -> tuple[str, ...]:
        """Keeps the best and the last version of a run, and those that were not measured yet; the blobs of the others
        that nothing refers to any more, for the caller to delete."""
        found = self.list(run_id)
        best = best_of(found)
        gone = [v for v in found[:-1] if v is not best and _loss(v) is not None]
        if not gone:
            return ()
        shas = {v.sha for v in gone}
        of_run = model_versions.c.run == words(run_id)
        with self._database.write() as tx:
            tx.execute(delete(model_versions).where(of_run, model_versions.c.version.in_([v.version for v in gone])))
            for column in (checkpoints.c.sha, model_versions.c.sha, runs.c.result):
                shas -= set(tx.execute(select(column).where(column.in_(sorted(shas)))).scalars())
        return tuple(sorted(shas))

    def ended_before(self, time: float) -> Sequence[str]:
        """Runs that ended before that time and have more than two versions."""
        many = select(model_versions.c.run).group_by(model_versions.c.run).having(func.count() > 2)
        query = select(runs.c.id).where(runs.c.id.in_(many), runs.c.ended < time)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def get(self, run_id: str, version: int) -> ModelVersion:
        """Raises ``NotFound``."""
        query = select(model_versions).where(model_versions.c.run == words(run_id), model_versions.c.version == version)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"run {run_id!r} has no model version {version}")
        return ModelVersion(**row)

    def named(self, sha: str) -> Sequence[ModelVersion]:
        """The versions, of whatever runs, that are this very model."""
        with self._database.read() as connection:
            rows = connection.execute(select(model_versions).where(model_versions.c.sha == words(sha))).mappings()
            return [ModelVersion(**row) for row in rows]

    def latest(self, run_id: str) -> ModelVersion | None:
        """None before the first."""
        found = self.list(run_id)
        return found[-1] if found else None

    def list(self, run_id: str) -> Sequence[ModelVersion]:
        """Of a run, the first version first."""
        query = select(model_versions).where(model_versions.c.run == words(run_id))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(model_versions.c.version)).mappings()
            return [ModelVersion(**row) for row in rows]


def best_of(versions: Sequence[ModelVersion]) -> ModelVersion | None:
    """The one of the least loss, the earliest of equal ones, of those measured on the same sites as the latest."""
    rated = [v for v in versions if _loss(v) is not None]
    alike = [v for v in rated if v.metrics.get("sites") == rated[-1].metrics.get("sites")]
    return min(alike, key=lambda v: _loss(v) or 0.0, default=None)


def _loss(version: ModelVersion) -> float | None:
    loss = version.metrics.get("loss")
    known = isinstance(loss, (int, float)) and not isinstance(loss, bool) and math.isfinite(loss)
    return float(loss) if known else None  # type: ignore[arg-type]


def difference(first: ModelVersion, second: ModelVersion) -> Difference:
    """What changed from ``first`` to ``second``, of the same run or of two."""
    rounds = None if first.round is None or second.round is None else second.round - first.round
    return Difference(
        _minus(second, first, "accuracy"), _minus(first, second, "loss"), second.nbytes - first.nbytes, rounds
    )


def _minus(a: ModelVersion, b: ModelVersion, metric: str) -> float | None:
    x, y = a.metrics.get(metric), b.metrics.get(metric)
    if a.run == b.run and a.metrics.get("sites") != b.metrics.get("sites"):
        return None
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (x, y)):
        return None
    return float(x) - float(y)  # type: ignore[arg-type]
