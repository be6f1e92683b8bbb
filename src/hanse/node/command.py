"""What the commands of ``hanse node`` share: the node's folder, who asks, and a word with the running agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hanse.node.settings import NodeSettings

Command = TypeVar("Command", bound=Callable[..., Any])


def home_option(command: Command) -> Command:
    """Gives a command the node's folder as ``home``."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HANSE_NODE_HOME",
        default="~/.hanse/node",
        show_default=True,
        callback=lambda c, p, v: _checked(v.expanduser().absolute()),
        help="The node's folder.",
    )(command)


def _checked(home: Path) -> Path:
    from hanse.home import check

    check(home, "node")
    return home


def ask_agent(home: Path, do: str, **more: Any) -> Any:
    """What the running agent says. Raises ``ConnectionError`` where none runs."""
    from hanse.node.control import ask

    if not home.is_dir():
        raise ConnectionError
    return ask(home, do, **more)


def joined(home: Path) -> Path:
    """``home``, of a node that has joined. Raises ``NotFound`` where there is none."""
    from hanse.node.settings import NodeSettings

    NodeSettings.load(home)
    return home


def changed_settings(home: Path, after: NodeSettings) -> None:
    """Writes the settings; a running node follows at once, and the audit log has a line of it either way."""
    from hanse.store.audit import AuditLog

    after.save(home)
    try:
        ask_agent(home, "reload", actor=owner())
    except ConnectionError:
        AuditLog(home / "audit.jsonl").append(owner(), "settings.changed", after.node_id, after.to_json()["policy"])


def owner() -> str:
    """Who sits at the keyboard, for the audit log."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "owner"
