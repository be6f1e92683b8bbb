"""A ServerApp, run where the data scientist is, with a ``Grid`` that reaches the nodes of one approved run.

It stays with its author and not at the coordinator, which so runs nobody's code; as in syft-flwr, whoever proposes a
project runs its server. ``Grid`` is Flower's own interface, so strategies, their callbacks and legacy ``server_fn``
apps run as they are.
"""

from __future__ import annotations

import functools
import importlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hanse.flower.client_side import SERVER, number
from hanse.flower.folder import FlowerApp
from hanse.flower.installed import RUN, flower, introduce
from hanse.flower.modules import forget, load
from hanse.flower.parcels import packed, unpacked
from hanse.flower.sending import FlowerMessage, FlowerReplies, Sending

_FAILED = 2  # Flower's code for a ClientApp that raised an error


class Way(Protocol):
    """The way to the nodes of a run."""

    def online(self) -> Sequence[str]:
        """The nodes of the run that are there now."""
        ...

    def exchange(self, sending: Sending) -> FlowerReplies:
        """What comes back of it. Raises ``RunFailed`` where the run has ended."""
        ...


def lead(app: FlowerApp, folder: Path, nodes: Sequence[str], line: Way) -> None:
    """Runs the ServerApp in ``folder`` to its end. What it raises is raised here.

    Args:
        app: as the owners agreed to it.
        nodes: all of the run.
        line: how they are reached.
    """
    api = flower()
    introduce(SERVER)
    place = folder.resolve()
    try:
        found = load(place, app.server)
        context = api.Context(RUN, SERVER, {}, api.RecordDict(), dict(app.config))
        found(_grid()(nodes, line), context)
    finally:
        forget(place, app.files)


@functools.cache
def _grid() -> type[Any]:
    """The class, of a library that is loaded when it is needed."""
    api = flower()
    base: Any = importlib.import_module("flwr.serverapp").Grid

    class HanseGrid(base):  # type: ignore[misc]
        """Flower's ``Grid`` over a run of Hanse. Messages that are pushed go out together when a reply is asked for."""

        def __init__(self, nodes: Sequence[str], line: Way) -> None:
            self._names = {number(list(nodes), node): node for node in nodes}
            self._line = line
            self._waiting: list[Any] = []
            self._back: dict[str, Any] = {}

        def set_run(self, run: Any) -> None:
            """There is one run, which is known."""

        @property
        def run(self) -> Any:
            """Flower's description of the run."""
            return importlib.import_module("flwr.supercore.run").Run.create_empty(run_id=RUN)

        def create_message(
            self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
        ) -> Any:
            return api.Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

        def get_node_ids(self) -> Iterable[int]:
            """The nodes that are on line, and not those that could be."""
            there = set(self._line.online())
            return [id for id, name in self._names.items() if name in there]

        def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
            named = [_named(api, message) for message in messages]
            self._waiting += named
            return [message.metadata.message_id for message in named]

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
            wanted = set(message_ids)
            if wanted & {message.metadata.message_id for message in self._waiting}:
                self._send()
            return [self._back.pop(id) for id in wanted & set(self._back)]

        def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterable[Any]:
            """What came back. How long a node may be silent is the run's ``round_timeout_s``; ``timeout`` is for
            Flower's own waiting, of which there is none here."""
            return self.pull_messages(self.push_messages(messages))

        def _send(self) -> None:
            """All that waits: one message for each node at a time."""
            while self._waiting:
                now: dict[int, Any] = {}
                for message in self._waiting:
                    now.setdefault(message.metadata.dst_node_id, message)
                ids = {message.metadata.message_id for message in now.values()}
                self._waiting = [m for m in self._waiting if m.metadata.message_id not in ids]
                self._exchange(now)

        def _exchange(self, messages: Mapping[int, Any]) -> None:
            sent = list[FlowerMessage]()
            packs = dict[int, bytes]()  # of each content: a strategy gives many nodes the same one
            places = dict[tuple[str, str, bytes], int]()
            to = dict[str, int]()
            for to_whom, message in messages.items():
                if to_whom not in self._names:
                    why = api.Error(_FAILED, f"there is no node {to_whom} in this run")
                    self._back[message.metadata.message_id] = api.Message(error=why, reply_to=message)
                    continue
                content, about = message.content, message.metadata
                if id(content) not in packs:
                    packs[id(content)] = packed(content).tobytes()
                raw = packs[id(content)]
                key = (about.message_type, about.group_id, raw)
                if key not in places:  # what goes to many goes up once
                    places[key] = len(sent)
                    sent.append(FlowerMessage(about.message_type, about.group_id, np.frombuffer(raw, np.uint8)))
                to[self._names[to_whom]] = places[key]
            if not to:
                return
            came = self._line.exchange(Sending(False, _round(messages.values()), to, tuple(sent)))
            for to_whom, message in messages.items():
                node = self._names.get(to_whom, "")
                if node in came.replies:
                    reply = api.Message(unpacked(came.replies[node]), reply_to=message)
                elif node in to:
                    why = api.Error(_FAILED, came.failures.get(node, "it gave no answer"))
                    reply = api.Message(error=why, reply_to=message)
                else:
                    continue
                self._back[message.metadata.message_id] = reply

    return HanseGrid


def _named(api: Any, message: Any) -> Any:
    """The message with an id of its own, which Flower's SuperLink would give it."""
    about = message.metadata
    return api.Message(
        content=message.content,
        metadata=api.Metadata(
            run_id=RUN,
            message_id=uuid.uuid4().hex,
            src_node_id=SERVER,
            dst_node_id=about.dst_node_id,
            reply_to_message_id="",
            group_id=about.group_id,
            created_at=time.time(),
            ttl=about.ttl,
            message_type=about.message_type,
        ),
    )


def _round(messages: Iterable[Any]) -> int | None:
    """The training round, as Flower's strategies say it to their clients."""
    for message in messages:
        if message.metadata.message_type.partition(".")[0] != "train":
            return None
        for record in message.content.values():
            said = record.get("server-round")
            if isinstance(said, int) and said > 0:
                return said
    return None
