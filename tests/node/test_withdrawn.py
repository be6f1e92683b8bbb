"""What an owner is told who takes an approval back."""

from __future__ import annotations

import pytest

from hanse.node.withdrawn import sentences
from hanse.store.audit import Entry


@pytest.mark.parametrize(
    ("answers", "said"),
    [(1, "1 answer (8 bytes of arrays) had left this node"), (2, "2 answers (16 bytes of arrays) had left this node")],
)
def test_answers_are_counted_in_words(answers: int, said: str) -> None:
    entries = [
        Entry(seq, "2026-01-01T00:00:00+00:00", "coordinator", "task.answered", run, {"bytes_out": 8}, "", "")
        for seq, run in enumerate(["r"] * answers + ["another"])
    ]
    assert sentences(entries, "r")[1].startswith(f"{said}, the last at 2026-01-01 00:00 UTC")
