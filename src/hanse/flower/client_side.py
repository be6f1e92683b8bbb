"""A ClientApp, run where the data is: one message, one reply.

It is code of the data scientist, so a node runs it in a cage (:mod:`hanse.node.cage`). Its files are written into the
only folder that the cage lets it write, and it finds the approved data set by ``context.node_config["data-path"]``, as
an app does that Flower deploys.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hanse.errors import HanseError, NodeFailed
from hanse.flower.folder import FlowerApp
from hanse.flower.installed import RUN, flower, introduce
from hanse.flower.modules import forget, load
from hanse.flower.parcels import numbers, packed, unpacked
from hanse.messages import Array, Json
from hanse.researcher_code import kind as kind_of

SERVER = 1  # the number of the ServerApp; nodes follow in the order of their names
DATA = "data-path"
_ALIVE_S = 2.0
_loaded: dict[str, Any] = {}  # of the ClientApp in this process: folder, files, app, plan


def number(nodes: list[str], node: str) -> int:
    """The number by which Flower knows a node."""
    return SERVER + 1 + sorted(nodes).index(node)


def answered(
    plan: Mapping[str, Json],
    kind: str,
    group: str,
    parcel: Array,
    node: int,
    data: Path,
    state: Array | None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Array, dict[str, float], Array]:
    """What the ClientApp of ``plan`` answers.

    Args:
        kind, group, parcel: type, group and content (:mod:`hanse.flower.parcels`) of the message.
        node: the number of this node.
        data: where the data set is.
        state: what the app kept in ``context.state`` the last time; None at first.
        progress: is called while it runs.

    Returns the content of the reply, its numbers for people, and what the app keeps.

    Raises ``NodeFailed`` where the app fails, without the text of its error, which may hold values of the data.
    """
    app, told = flower(), FlowerApp.of(plan)
    introduce(node)
    kept = app.RecordDict() if state is None else unpacked(state)
    context = app.Context(RUN, node, {DATA: str(data)}, kept, dict(told.config))
    asked = app.Metadata(
        run_id=RUN,
        message_id="1",
        src_node_id=SERVER,
        dst_node_id=node,
        reply_to_message_id="",
        group_id=group,
        created_at=0.0,
        ttl=app.DEFAULT_TTL,
        message_type=kind,
    )
    message = app.Message(content=unpacked(parcel), metadata=asked)
    try:
        with _alive(progress):
            reply = _client(plan, told)(message, context)
        if not isinstance(reply, app.Message):
            raise NodeFailed(f"the ClientApp answered with {kind_of(type(reply))}; expected a Message")
        if reply.has_error():
            raise NodeFailed(f"the ClientApp answered with error {reply.error.code}")
        return packed(reply.content), numbers(reply.content), packed(context.state)
    except HanseError:
        raise
    except Exception as error:
        import traceback

        traceback.print_exc()  # into the owner's plan.log
        raise NodeFailed(
            f"the ClientApp failed with {kind_of(type(error))}; the node's owner finds more in plan.log"
        ) from None


@contextlib.contextmanager
def _alive(progress: Callable[[], None]) -> Iterator[None]:
    """An app does not say that it works, so it is said for it: between its steps of Python, not during one. What bounds
    it is the owner's ``task_seconds``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: progress())
    signal.setitimer(signal.ITIMER_REAL, _ALIVE_S, _ALIVE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _client(plan: Mapping[str, Json], told: FlowerApp) -> Any:
    """The ClientApp, which is loaded once for all messages of a run."""
    if _loaded.get("plan") != plan:
        _unload()
        folder = Path(tempfile.mkdtemp(prefix="flower-"))
        for path, text in told.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
        _loaded.update(folder=folder, files=told.files)
        _loaded.update(app=load(folder, told.client), plan=plan)
    return _loaded["app"]


def _unload() -> None:
    if _loaded:
        forget(_loaded["folder"], _loaded["files"])
        shutil.rmtree(_loaded["folder"], ignore_errors=True)
    _loaded.clear()
