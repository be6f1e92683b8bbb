"""What a ServerApp sends, as it goes up (``make flower``)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.flower import server_side
from hanse.flower.folder import read
from hanse.flower.installed import flower
from hanse.flower.parcels import packed
from hanse.flower.sending import FlowerReplies, Sending

pytestmark = [pytest.mark.flower, pytest.mark.filterwarnings("ignore")]
APP = Path(__file__).parents[1] / "flower_apps" / "hospitals"
NODES = ("a", "b", "c")
SERVER_APP = """
from flwr.app import ArrayRecord, Message, RecordDict


def made(value):
    return RecordDict({"arrays": ArrayRecord([value])})


def app(grid, context):
    import numpy as np

    one = made(np.ones(3))
    contents = [one, one, made(np.ones(3))]
    both = [Message(content, id, "train") for content, id in zip(contents, grid.get_node_ids(), strict=True)]
    assert len(list(grid.send_and_receive(both))) == 3
"""


class Back:
    """Every node answers with what it was asked."""

    def __init__(self) -> None:
        self.sent: list[Sending] = []

    def online(self) -> Sequence[str]:
        return NODES

    def exchange(self, sending: Sending) -> FlowerReplies:
        self.sent.append(sending)
        return FlowerReplies({node: sending.messages[place].content for node, place in sending.to.items()}, {})


def test_what_goes_to_many_is_packed_once_and_goes_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__")))
    (folder / "hospitals" / "server_app.py").write_text(SERVER_APP)
    contents: list[Any] = []

    def counted(content: Any) -> Any:
        contents.append(content)
        return packed(content)

    monkeypatch.setattr(server_side, "packed", counted)
    line = Back()
    server_side.lead(read(folder), folder, NODES, line)
    (sending,) = line.sent
    assert dict(sending.to) == dict.fromkeys(NODES, 0)
    (message,) = sending.messages
    app = flower()
    expected = packed(app.RecordDict({"arrays": app.ArrayRecord([np.ones(3)])}))
    assert message.content.tobytes() == expected.tobytes()
    assert len(contents) == 2  # which are equal, and two
