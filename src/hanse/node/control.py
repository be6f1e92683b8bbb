"""The owner's way to a running agent: a Unix socket in the node's folder that only its owner can open.

One line of JSON each way: ``{"do": ..., ...}`` and ``{"ok": ...}`` or ``{"error": {code, message}}``.

The worker runs as the same user, so the folder's rights do not keep it out: code of a stranger in it could approve in
the owner's name. The worker, and whatever it started, is known by its network namespace, which is not the agent's and
which it cannot leave; a node whose worker could not be cut off runs no code of strangers
(:mod:`hanse.policy.training_plans`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from hanse.errors import HanseError, NodeFailed, NotAllowed, WireError, from_code
from hanse.messages import Json, loads

log = logging.getLogger(__name__)

FILE = "control.sock"
_LINE_BYTES = 1 << 20
_SECONDS = 60.0

Do = Callable[[Mapping[str, Json]], Awaitable[Json]]


async def listen(home: Path, do: Do) -> asyncio.Server:
    """Serves ``do`` on the socket. The caller holds the agent's lock, so what is there is left over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _SECONDS)
            _check_peer(writer.get_extra_info("socket"))  # once it has spoken, so that it reads why it is refused
            asked = loads(line)
            if not isinstance(asked, dict):
                raise WireError("expected an object")
            answer: dict[str, Json] = {"ok": await do(asked)}
        except HanseError as error:
            answer = {"error": {"code": error.code, "message": error.message}}
        except Exception as error:  # whatever it was, who asked gets an answer
            log.exception("a command of the owner failed")
            answer = {"error": {"code": "error", "message": f"the agent could not do this: {type(error).__name__}"}}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    (home / FILE).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _near(home) as path:
        before = os.umask(0o177)  # never, not even for a moment, open to others
        try:
            sock.bind(path)  # nothing is awaited here: the mask is that of the whole process
        finally:
            os.umask(before)
    return await asyncio.start_unix_server(serve, sock=sock, limit=_LINE_BYTES)


def _check_peer(sock: socket.socket) -> None:
    """Raises ``NotAllowed`` for a process that is cut off from the network as a worker is. Who cannot be looked at
    counts as one, but for the system's administrator where the node is another user's."""
    pid, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if user == 0 and os.geteuid() != 0:
        return
    try:
        ours = os.readlink("/proc/self/ns/net") == os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        ours = False
    if not ours:
        log.warning("process %d, which is not the owner's, was refused at the control socket", pid)
        raise NotAllowed("only the owner decides here, not a process that the node computes with")


def ask(home: Path, do: str, **more: Json) -> Json:
    """What the running agent answers. Raises its error, or ``ConnectionError`` if none is running."""
    with socket.socket(socket.AF_UNIX) as sock, _near(home) as path:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(path)
        except OSError:
            raise ConnectionError("no agent is running in this folder") from None
        try:
            sock.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n") and (part := sock.recv(65536)):
                line += part
            answer = loads(line)
        except (OSError, WireError):
            raise NodeFailed("the agent did not answer; is it busy or being stopped?") from None
    if "error" in answer:
        raise from_code(str(answer["error"].get("code")), str(answer["error"].get("message")))
    return answer.get("ok")


@contextlib.contextmanager
def _near(home: Path) -> Iterator[str]:
    """A short path to the socket: the system allows 107 bytes, folders are often deeper."""
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{FILE}"
    finally:
        os.close(folder)
