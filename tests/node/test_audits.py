"""What an auditor found of a proposal, as a node keeps it: an audit, or an error in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanse.errors import DataError
from hanse.node.audits import keep, sentences

ROW = {"attack": "membership", "proposed": 0.5, "without": None, "chance": 0.5, "epsilon_at_least": 0, "measure": "AUC"}


def test_what_was_found_is_kept_and_told(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps({"attacks": [ROW]}))
    keep(tmp_path, "ab", tmp_path / "audit.json")
    assert list(sentences(tmp_path, "ab")) == ["attack membership: gets 0.50, a guess 0.50 (AUC)"]
    assert sentences(tmp_path, "cd") == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b'{"attacks": "\xe9"}',
        b"[]",
        b'{"attacks": [{}]}',
        b'{"attacks": [{"attack": 1}]}',
        b"[" * 100_000,
        b'{"attacks": []}' + b" " * (2 << 20),
    ],
    ids=lambda raw: str(raw[:12]),
)
def test_what_is_no_audit_is_refused_in_words_and_not_kept(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "audit.json").write_bytes(raw)
    with pytest.raises(DataError, match="this is no audit"):
        keep(tmp_path, "ab", tmp_path / "audit.json")
    assert not (tmp_path / "audits").exists()
    (tmp_path / "audits").mkdir()
    if len(raw) <= 1 << 20:
        (tmp_path / "audits" / "ab.json").write_bytes(raw)
        with pytest.raises(DataError):
            sentences(tmp_path, "ab")
