"""Sites in actors of a Ray cluster, as a simulation has them there, behind the transport that it asks them by."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hanse.algorithms
from hanse import registry
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.experiment.cluster import Actor, Cluster
from hanse.experiment.crew import Job
from hanse.experiment.places import Place, Places
from hanse.kinds import Combine
from hanse.messages import Message, Record
from hanse.table import Table
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport

NODES = ("a", "b", "c", "slow")


@contextmanager
def started(ingredients: str) -> Iterator[Actors]:
    """Of a cluster of this machine, whose actors know the ingredients of a folder."""
    before, places = dict(os.environ), list(hanse.algorithms.__path__)
    known, cluster = list(registry._EXTENSIONS), Cluster("local")
    registry.extend(ingredients)
    try:
        yield Actors(cluster)
    finally:
        cluster.close()
        os.environ.clear()
        os.environ.update(before)
        hanse.algorithms.__path__[:] = places
        registry._EXTENSIONS[:] = known


class Lent:
    """A place that the next test uses again: an actor takes seconds to start."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def told(self, request: Record) -> Record:
        return self._place.told(request)

    def close(self) -> None:
        pass


class Actors:
    """Those of a cluster, which tests use one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._there: list[Actor] = []

    def lent(self, count: int = 2) -> list[Place]:
        """As many; new ones for those that have ended."""
        self._there = [actor for actor in self._there if _is_there(actor)]
        self._there += self._cluster.actors(count - len(self._there))
        return [Lent(actor) for actor in self._there]


def _is_there(actor: Actor) -> bool:
    try:
        actor.check()
    except ConfigError:
        return False
    return True


class OnRay:
    """What a simulated run makes of its places, and handlers that ask them."""

    def __init__(self, places: Sequence[Place]) -> None:
        config = RunConfig.parse({"federated_strategy": "answering", "num_rounds": 1})
        bound = {node: {"name": node, "version": "1", "most_rows": 1, "country": ""} for node in NODES}
        self._bundle = freeze(config, {"features": [], "kinds": {}}, bound)
        self._run, self._steps = uuid.uuid4().hex, itertools.count()
        self.transport = LocalTransport({})
        tables = dict.fromkeys(NODES, Table())
        self._places = Places(places, self._run, self._bundle.content, {}, tables)

    def handler(self, node: str, does: str) -> Handler:
        """Has a site do what is so called in the ``answering`` algorithm."""

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            about = {"run": self._run, "bundle": self._bundle.sha256, "step": next(self._steps), "exchange": 0}
            ask = {"stage": 0, "of": {"do": does, "body": message.body.data}}
            task = Record({**about, "op": "answer", "combine": str(Combine.EACH), "ask": ask}, message.body.arrays)
            reply = await self._places.answer(Job(node, task, self._bundle.content, progress))
            arrays = {name.removeprefix("a."): array for name, array in reply.arrays.items()}
            return Message("reply", message.id, node, Record(reply.data["data"]["body"], arrays))

        return handle

    def close(self) -> None:
        self._places.close()
