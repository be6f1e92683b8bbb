"""How a node is enrolled through a shared folder: a join token's secret against a certificate, both sealed.

The node reads the coordinator's announcement, which the authority that the token pins has signed, and seals what it
asks with a fresh key and the one that is announced; the answer is sealed with the same two. ``joining`` holds what is
asked (``SESSION.request.json``), ``joined`` the answers. Who asks removes what it asked; the answers go at the next
start.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError, NodeLost, WireError, from_code
from hanse.identity import check_authority
from hanse.messages import dumps, loads
from hanse.transports import _folder_files as files
from hanse.transports import _folder_papers as papers
from hanse.transports._folder_keys import FreshKey, SessionKeys
from hanse.transports._folder_seal import FileKind, HalfThere

ASKED, ANSWERED = "joining", "joined"
LOOK_S = 0.5
_PATIENCE_S = 7 * 86_400.0
_PURPOSE = b"joining"


def request(paper: bytes, asked: Mapping[str, str], ca_sha256: str) -> tuple[str, bytes, SessionKeys]:
    """What a node that wants to join puts into the folder: its name, its content, and the keys of the answer. Raises
    ``NotAuthenticated`` where the announcement is not of the authority that the join token pins."""
    said = papers.read_announcement(paper, check_authority(papers.shown_authority(paper), ca_sha256))
    session, key = papers.new_number(), FreshKey()
    keys = key.shared(said.key, _salt(said.number, session), _PURPOSE)
    sealed = keys.of_node.close(FileKind.WRITES, 0, dumps(dict(asked)).encode())
    return session, _written({"key": key.text, "sealed": sealed}), keys


def opened(own: FreshKey, number: str, session: str, paper: bytes) -> tuple[dict[str, str], SessionKeys]:
    """What a node asks in this session the coordinator that announced this key and number, and the keys of the answer.
    Raises ``WireError`` for what nobody sealed for them, :class:`HalfThere`."""
    sealed, key = _read(paper)
    keys = own.shared(key, _salt(number, session), _PURPOSE)
    asked = loads(keys.of_node.open(FileKind.WRITES, 0, sealed))
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
        raise WireError("what was asked to join is not an object of texts")
    return asked, keys


def answer(keys: SessionKeys, said: Mapping[str, str]) -> bytes:
    """The coordinator's answer: a certificate, or an error's ``code`` and ``message``."""
    return _written({"key": "", "sealed": keys.of_coordinator.close(FileKind.WRITES, 0, dumps(dict(said)).encode())})


def join(root: Path, asked: Mapping[str, str], ca_sha256: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Asks, and waits for the answer, however long it is on its way (a week at most). Blocks.

    Raises:
        NotAuthenticated: the coordinator is not the one of the token, or does not know the token.
        NodeLost: it did not answer in a week.
    """
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}; is it synchronised to this machine?")
    ends, announced, path = time.monotonic() + _PATIENCE_S, b"", None
    session, keys = "", None
    try:
        while time.monotonic() < ends:
            paper = files.read(root / "coordinator" / files.ANNOUNCEMENT, papers.MOST_BYTES)
            said: Any = None
            try:
                if paper is not None and paper != announced:  # or the coordinator was started anew
                    session, content, keys = request(paper, asked, ca_sha256)
                    announced = paper
                    (root / ASKED).mkdir(exist_ok=True)
                    if path is not None:
                        files.remove(path)
                    path = root / ASKED / f"{session}.request.json"
                    files.place(path, content)
                    say(f"waits for the coordinator's answer in {root}")
                there = files.read(root / ANSWERED / f"{session}.answer.json", papers.MOST_BYTES)
                if there is not None and keys is not None:
                    said = loads(keys.of_coordinator.open(FileKind.WRITES, 0, _read(there)[0]))
            except (HalfThere, WireError):
                pass  # half a file, or one that somebody else put there
            if isinstance(said, dict) and "code" in said:
                raise from_code(str(said["code"]), str(said.get("message"))[:500])
            if isinstance(said, dict):
                return said
            time.sleep(LOOK_S)
    finally:
        if path is not None:
            files.remove(path)
    raise NodeLost(f"no coordinator answered in {root}; is it running, and the folder synchronised?")


def _salt(number: str, session: str) -> bytes:
    """A copy under another session's name opens with no key: it would be answered a second time, with the keys of the
    first, and one key and nonce would seal two texts."""
    return f"{number} {session}".encode()


def _written(paper: Mapping[str, str | bytes]) -> bytes:
    texts = {k: v if isinstance(v, str) else base64.b64encode(v).decode() for k, v in paper.items()}
    return dumps(texts).encode() + b"\n"


def _read(paper: bytes) -> tuple[bytes, str]:
    """What is sealed, and the key it came with. Raises :class:`HalfThere`, ``WireError``."""
    if len(paper) > papers.MOST_BYTES:
        raise WireError(f"more than {papers.MOST_BYTES} bytes to join")
    if not paper.endswith(b"\n"):
        raise HalfThere
    found = loads(paper)
    try:
        return base64.b64decode(str(found["sealed"]), validate=True), str(found["key"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise WireError("this is nothing that a node asks to join") from None
