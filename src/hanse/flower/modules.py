"""The modules of an app, in a process that goes on after it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def load(folder: Path, place: tuple[str, str]) -> Any:
    """What stands at ``place``, as (module, attribute), of the app whose files are in ``folder``. :func:`forget` undoes
    it, also where it failed."""
    module, name = place
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return getattr(importlib.import_module(module), name)


def forget(folder: Path, files: Iterable[str]) -> None:
    """The modules of this app are not those of the next, whatever their names. What else lies in the folder, such as an
    environment with all that this process runs on, stays loaded.

    Args:
        files: of the app, by their paths below ``folder``.
    """
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    own = {str(folder / path) for path in files}
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "") in own:
            del sys.modules[name]
