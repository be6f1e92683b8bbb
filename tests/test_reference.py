"""docs/reference says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hanse import policy
from hanse.cli import group
from hanse.config import RunConfig
from hanse.coordinator.cli import start
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError
from hanse.node.settings import known
from hanse.settings import settings_of

DOCS = Path(__file__).parents[1] / "docs"
_SPEC = importlib.util.spec_from_file_location("references", DOCS / "references.py")
assert _SPEC is not None
assert _SPEC.loader is not None
references = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(references)
PAGES = references.pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name], "run: make reference"


def test_every_setting_has_its_line() -> None:
    for page, names in (
        ("run.md", settings_of(RunConfig)),
        ("node.md", known()),
        ("node.md", [f"policy.{name}" for name in policy.settings()]),
        ("coordinator.md", settings_of(CoordinatorSettings)),
        ("coordinator.md", [p.opts[0] for p in start.params if isinstance(p, click.Option)]),
    ):
        for name in names:
            line = next(line for line in PAGES[page].splitlines() if line.startswith(f"| `{name}` |"))
            assert line.rstrip(" |").count(" | ") >= 3, line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("smal_cell=3", "no setting 'smal_cell' of a coordinator; did you mean 'small_cell'?"),
        ("small_cell=none", "small_cell of a coordinator is 'none'; expected a whole number of at least 1"),
        ("engine=steam", "engine is 'steam'; expected one of "),
        ("engine", "--set 'engine' has no ="),
    ],
)
def test_a_coordinator_does_not_start_with_a_wrong_setting(given: str, said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["coordinator", "start", "--home", str(tmp_path / "home"), "--set", given])
    assert isinstance(done.exception, ConfigError)
    assert said in done.exception.message
    assert not (tmp_path / "home").exists()


def test_an_operator_sets_what_has_no_option_of_its_own() -> None:
    found = CoordinatorSettings.read(
        ["body_bytes=2048", "expected_client_ids=ulm, bonn", "open_registration=true"], url="x"
    )
    assert (found.body_bytes, found.expected_client_ids, found.open_registration) == (2048, ("ulm", "bonn"), True)
    assert found.url == "x"
    assert CoordinatorSettings.read([]) == CoordinatorSettings()
