"""The folder is the registry, and folders of other packages count like those of Hanse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hanse
from hanse import registry
from hanse.errors import ConfigError

LAST = '''"""The last nodes by name: asked first."""
from hanse.settings import Setting, whole

SETTINGS = {"skip": Setting(0, "so many are passed over", whole(0))}


def choose(eligible, count, rng, facts):
    return sorted(eligible)[-count:]
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "last.py").write_text(LAST)
    return tmp_path


def python(code: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(hanse.__file__).parents[1]), **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_what_stands_in_a_folder_is_found() -> None:
    assert "uniform" in registry.names("selection")
    with pytest.raises(ConfigError, match="there is no '../errors' in selection; known are .*uniform"):
        registry.find("selection", "../errors")
    with pytest.raises(ConfigError, match="no kind 'store'; known are algorithms"):
        registry.names("store")


def test_the_environment_names_a_directory_of_ones_own(mine: Path) -> None:
    said = python(
        "import json\nfrom hanse import registry\n"
        "print(json.dumps([registry.names('selection'), registry.settings('selection', 'last')['skip'].help]))",
        HANSE_INGREDIENTS=str(mine),
    )
    found, help = json.loads(said)
    assert "last" in found
    assert help == "so many are passed over"


def test_a_script_can_add_a_directory(mine: Path) -> None:
    code = f"from hanse import registry as r\nr.extend({str(mine)!r})\nprint(r.find('selection', 'last').__name__)"
    assert python(code).strip() == "hanse.selection.last"


def test_a_file_may_not_take_a_name_that_is_taken(mine: Path) -> None:
    (mine / "selection" / "uniform.py").write_text(LAST)
    code = (
        "from hanse import registry\nfrom hanse.errors import ConfigError\n"
        "try: registry.find('selection', 'last')\nexcept ConfigError as error: print(error.message)"
    )
    assert "'uniform' of selection stands in" in python(code, HANSE_INGREDIENTS=str(mine))


def test_a_directory_without_any_folder_of_ours_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has none of the folders algorithms"):
        registry.extend(tmp_path)


def test_an_installed_package_names_itself(tmp_path: Path) -> None:
    """As pip leaves it: the package, and beside it a ``.dist-info`` with the entry point."""
    (tmp_path / "hospital" / "selection").mkdir(parents=True)
    (tmp_path / "hospital" / "__init__.py").write_text("raise RuntimeError('finding it must not run it')")
    (tmp_path / "hospital" / "selection" / "last.py").write_text(LAST)
    info = tmp_path / "hospital-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hospital\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hanse.ingredients]\nhospital = hospital\n")
    path = os.pathsep.join([str(Path(hanse.__file__).parents[1]), str(tmp_path)])
    code = "from hanse import registry\nprint(registry.find('selection', 'last').__file__)"
    assert python(code, PYTHONPATH=path).strip() == str(tmp_path / "hospital" / "selection" / "last.py")
