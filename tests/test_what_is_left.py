"""A test that fails is the only one that fails for it (``tests/conftest.py``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

FILE = """
import subprocess, sys

def test_that_fails_while_its_process_lives():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.itself = process  # the collector alone can find it
    assert process is None

def test_after_it():
    import gc
    gc.collect()
"""


@pytest.mark.long
def test_what_a_failed_test_leaves_is_not_blamed_on_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(FILE)
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", tmp_path, tmp_path / "test_two.py"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout[-3000:]
