"""The ServerApp: sends parcels that come from the coordinator to SuperNodes, and hands back what they answer.

Over the line go items of (ticket, SuperNode, whether it arrived, parcel): a parcel each way for every ticket.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import time

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from hanse_carrier.parcels import parcel_in, receive, records, send

_HEAD = struct.Struct("<QQ?")
_LOOK_S = 0.1  # Flower tells nobody of an answer: one asks
_END_S = 5.0  # asks of a SuperLink that is gone are tried again without end


def main(grid: Grid, context: Context) -> None:
    """Until the coordinator closes the line."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(context.run_config["line"]))
        coming: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(line, coming), daemon=True).start()
        asked: dict[str, tuple[int, int]] = {}
        while True:
            try:
                item = coming.get(timeout=_LOOK_S if asked else None)
                if item is None:
                    return
                _ask(grid, line, item, asked)
            except queue.Empty:
                _collect(grid, line, asked)


def _listen(line: socket.socket, coming: queue.SimpleQueue[bytes | None]) -> None:
    try:
        while True:
            coming.put(receive(line))
    except (OSError, EOFError, ValueError):
        coming.put(None)
    time.sleep(_END_S)
    os._exit(1)


def _ask(grid: Grid, line: socket.socket, item: bytes, asked: dict[str, tuple[int, int]]) -> None:
    ticket, node, _ = _HEAD.unpack_from(item)
    message = Message(records(item[_HEAD.size :]), dst_node_id=node, message_type="query")
    ids = [id for id in grid.push_messages([message]) if id]
    if ids:
        asked[ids[0]] = ticket, node
    else:
        send(line, _HEAD.pack(ticket, node, False) + b"Flower does not take a message for it")


def _collect(grid: Grid, line: socket.socket, asked: dict[str, tuple[int, int]]) -> None:
    for reply in grid.pull_messages(list(asked)):
        ticket, node = asked.pop(reply.metadata.reply_to_message_id)
        if reply.has_error():
            send(line, _HEAD.pack(ticket, node, False) + str(reply.error.reason or "")[:500].encode())
        else:
            send(line, _HEAD.pack(ticket, node, True) + parcel_in(reply.content))


app = ServerApp()
app.main()(main)
