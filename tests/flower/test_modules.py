"""An app's modules are loaded and forgotten; those of an environment in its folder stay."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from hanse.flower.modules import forget, load


def app(folder: Path, value: int) -> list[str]:
    files = {"odd_app/__init__.py": "", "odd_app/server.py": "from odd_app.task import app\n"}
    files["odd_app/task.py"] = f"app = {value}\n"
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [*files]


def test_the_next_app_has_modules_of_its_own_whatever_their_names(tmp_path: Path) -> None:
    for value in (1, 2):
        folder = tmp_path / str(value)
        files = app(folder, value)
        assert load(folder, ("odd_app.server", "app")) == value
        assert str(folder) in sys.path
        forget(folder, files)
        assert str(folder) not in sys.path
        assert not [name for name in sys.modules if name.startswith("odd_app")]


def test_an_environment_in_the_folder_of_an_app_stays_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``python -m venv .venv`` makes one there: NumPy and Hanse itself may come from it."""
    files = app(tmp_path, 1)
    monkeypatch.syspath_prepend(tmp_path)  # where a program of the data scientist lies beside the app
    packages = tmp_path / ".venv" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "odd_library.py").write_text("")
    monkeypatch.syspath_prepend(packages)
    library = importlib.import_module("odd_library")
    load(tmp_path, ("odd_app.server", "app"))
    forget(tmp_path, files)
    assert str(tmp_path) in sys.path
    assert sys.modules.pop("odd_library", None) is library
