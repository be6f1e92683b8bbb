"""The page for newcomers is true."""

from __future__ import annotations

import doctest
import re
import shlex
import tempfile
from pathlib import Path

import pytest

from hanse.cli import group
from hanse.experiment import cli

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 7
    found = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "quickstart", str(PAGE), 0)
    said: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(found, out=said.append)
    assert outcome.failed == 0, "".join(said)
    assert outcome.attempted > 15


COMMANDS = sorted({line.split("#")[0].strip() for line in PAGE.read_text().splitlines() if line.startswith("hanse ")})


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_exist(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "authority.pem").write_text("")
    words = shlex.split(line)[1:]
    command = group.get_command(None, words[0])  # type: ignore[arg-type]
    assert command is not None
    rest = words[1:]
    if words[0] == "run":
        command = cli.run.commands[rest.pop(0)]
    command.make_context("hanse", rest).close()  # parses; runs nothing
