"""The pages say what is true: their examples run, their commands exist, their links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
import tempfile
from pathlib import Path

import click
import pytest

from hanse.cli import group

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^hanse .*", re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    blocks = [b for b in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if ">>>" in b]
    if not blocks and page.name == "README.md":
        raise AssertionError("the README opens with code that runs")
    found = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    said: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(found, out=said.append)
    assert outcome.failed == 0, "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_files_that_code_and_pages_name_are_there() -> None:
    """A docstring that sends its reader to a page or a test that nobody wrote, or that has moved."""
    named = re.compile(r"\b(?:docs/\w+\.(?:md|py)|(?:tests|bench|demo)/[\w/]+\.py)\b")
    files = [p for folder in ("src", "tests", "bench", "demo") for p in (ROOT / folder).rglob("*.py")]
    found = {(name, page.name) for page in (*PAGES, *files) for name in named.findall(page.read_text())}
    assert len(found) > 40
    assert not {(name, page) for name, page in found if not (ROOT / name).exists()}


@pytest.mark.parametrize("line", sorted({c for p in PAGES for c in COMMAND.findall(p.read_text())}))
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("patients.csv", "authority.crt", "own.csv", "held-out.csv", "run.json", "model.hanse", "audit.json"):
        (tmp_path / name).write_text("")
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    command: click.Command = group
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    command.make_context("hanse", words).close()  # reads the words; runs nothing


def test_the_readme_says_what_make_says() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
