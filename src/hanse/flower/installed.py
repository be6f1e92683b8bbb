"""Flower, for those who run an app: beside Hanse, or in an environment of its own.

Flower pins what it needs so narrowly that it is better kept apart: ``HANSE_FLOWER`` names the directory of its
programs, and its packages are looked for after all others, so that Hanse finds those that it was installed with.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from hanse.errors import ConfigError

VERSION = "1.42.0"  # nearly every release changes what it offers
VARIABLE = "HANSE_FLOWER"


def packages() -> Path | None:
    """Where Flower's packages are, if it has an environment of its own; None: beside Hanse, or not there."""
    place = os.environ.get(VARIABLE)
    if not place:
        return None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = Path(place).parent / "lib" / version / "site-packages"
    return found if (found / "flwr").is_dir() else None


def flower() -> ModuleType:
    """``flwr.app``. Raises ``ConfigError`` where there is none, or not the one that this release was tried with."""
    os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1")
    place = packages()
    if importlib.util.find_spec("flwr") is None and place is not None:
        sys.path.append(str(place))
    if importlib.util.find_spec("flwr") is None:
        raise ConfigError(
            f"a Flower app needs Flower {VERSION}: pip install flwr=={VERSION} in an environment of its own, of the "
            f"same version of Python, and {VARIABLE}=DIRECTORY/bin; or pip install 'hanse[flower]'"
        )
    from importlib.metadata import version  # 2 MB, in every node

    if (there := version("flwr")) != VERSION:
        raise ConfigError(f"Flower {there} is installed here; expected version {VERSION}")
    return importlib.import_module("flwr.app")


RUN = 1  # by this number an app knows its run: there is one in its process


def introduce(node: int) -> None:
    """Says whose the messages are that are made in this process, as Flower's own programs do before they run an app.

    Without it no ``Message`` can be made since Flower 1.38 (``findings/flower-message-outside-a-run.sh``). It is no
    public part of Flower, one of two that Hanse uses; the other is what ``Grid.run`` gives."""
    who = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    who.task_id, who.run_id, who.node_id = RUN, RUN, node
