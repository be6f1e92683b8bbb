"""Logs that programs can read, that rotate, and that no flood fills the disk with."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse import logs
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_one_object_a_line(tmp_path: Path) -> None:
    logs.begin(logging.INFO, "json", tmp_path / "it.log")
    log = logging.getLogger("hanse.somewhere")
    log.info("run %s\nwaits", "run-1")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("it failed")
    log.debug("not written")
    first, second = (json.loads(line) for line in (tmp_path / "it.log").read_text().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "hanse.somewhere", "run run-1\nwaits")
    assert first["time"].endswith("+00:00")
    assert "ValueError: no" in second["error"]
    assert (tmp_path / "it.log").stat().st_mode & 0o777 == 0o600


def test_files_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    monkeypatch.setattr(logs.Floods, "filter", lambda self, record: True)
    logs.begin(logging.INFO, "text", tmp_path / "it.log")
    for number in range(500):
        logging.getLogger("x").info("line %d of many, which fill the file that they are written to", number)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["it.log", *(f"it.log.{n}" for n in range(1, 6))]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert "line 499" in (tmp_path / "it.log").read_text()


def test_a_flood_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    logs.begin(logging.INFO, "text", tmp_path / "it.log")
    log = logging.getLogger("x")

    def accept(number: int) -> None:
        log.warning("refused %d", number)

    for number in range(10_000):
        accept(number)
    log.warning("something else")
    clock[0] = 61.0
    accept(10_000)
    accept(10_001)
    lines = (tmp_path / "it.log").read_text().splitlines()
    assert len(lines) == 33
    assert lines[-3].endswith("something else")
    assert lines[-2].endswith("refused 10000 (and 9970 more of the kind, which were not written)")
    assert lines[-1].endswith("refused 10001")


def test_what_a_detached_process_writes_goes_to_the_file_that_counts(tmp_path: Path) -> None:
    """Also after it was rotated: what is written to a file that was removed would fill the disk unseen."""
    program = (
        "import logging, os, sys; from pathlib import Path; from hanse import logs; logs.FILE_BYTES = 500;"
        "logs.begin(logging.INFO, 'text', Path(sys.argv[1]), streams=True);"
        "[logging.getLogger('x').info('line %d of a few that are long enough', n) for n in range(25)];"
        "os.write(2, b'the library cries\\n')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "it.log")], check=True, timeout=PATIENCE)
    assert "the library cries" in (tmp_path / "it.log").read_text()
    assert (tmp_path / "it.log.2").exists()
