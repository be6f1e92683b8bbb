"""Whether one person may approve a run, or it takes two: what the owner has set, and what any rule says of it.

A running node asks its rules (:func:`hanse.policy.alone`). One that does not run knows no facts of the run to ask them
about, so nothing is approved there while any rule wants to be asked. Which do, the node also notes when it takes its
settings: a command may be typed where other packages are installed, or named, than where the node runs.
"""

from __future__ import annotations

import json
from pathlib import Path

from hanse import policy
from hanse.errors import Conflict
from hanse.node.settings import NodeSettings
from hanse.rule import Decision, Rule
from hanse.whole_files import write_whole

FILE = "asked_alone.json"
TWO = Decision(False, "two_persons", "its owner wants two persons for each run")


def note(home: Path, rules: tuple[Rule, ...]) -> None:
    """Notes which of the rules that decide here have a word on it, where that is new."""
    asked = policy.asked_alone(rules)
    try:
        known = _noted(home)
    except ValueError:
        known = None
    if asked != known:
        write_whole(home / FILE, json.dumps(asked))


def at_rest(home: Path, settings: NodeSettings) -> Decision:
    """Of a node that does not run. Raises ``Conflict`` where only the running node can say it: a rule has a word on it,
    had one when the node ran, or the rules cannot be made."""
    if settings.policy.two_persons:
        return TWO
    try:
        asked = {*policy.asked_alone(policy.rules(settings.owner(home))), *_noted(home)}
    except Exception as error:  # a rule may be anybody's
        raise Conflict(
            f"the node does not run, and which rules say whether one person may approve cannot be found out here "
            f"({type(error).__name__}): start it, then approve"
        ) from error
    if asked:
        raise Conflict(
            f"the node does not run, and {', '.join(sorted(asked))} among its rules says whether one person may "
            "approve: start it, then approve"
        )
    return Decision(True, "approve_alone")


def _noted(home: Path) -> list[str]:
    try:
        found = json.loads((home / FILE).read_text())
    except FileNotFoundError:
        return []  # it has never run with rules
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{FILE} is damaged")
    return found


__all__ = ["FILE", "TWO", "at_rest", "note"]
