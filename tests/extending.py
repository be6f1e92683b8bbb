"""The files that docs/extending.md shows: the page is their only source, for its own tests and for others."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hanse import registry

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
_FILE = re.compile(r"```python\n# (\w+/\w+\.py)\n(.*?)```", re.S)
_INSTALLED = tempfile.TemporaryDirectory()  # lives as long as this process


def files() -> dict[str, str]:
    """Path (``statistics/geometric_mean.py``) to source, in the order of the page."""
    return dict(_FILE.findall(PAGE.read_text()))


def write(path: str, directory: Path) -> None:
    """Puts one of them where a registry finds it."""
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).write_text(files()[path])


def install(path: str) -> None:
    """Adds one of them to this process, for good."""
    write(path, Path(_INSTALLED.name))
    registry.extend(_INSTALLED.name)
