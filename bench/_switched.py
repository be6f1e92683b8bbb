"""``hanse ARGUMENTS`` that decides without its policies once a signal says so (SIGUSR1), and with them again at
another one (SIGUSR2). So a federation of one set of processes is measured both ways: two that are started anew for each
differ by some per cent where they are of one kind.

Off is what a node or a coordinator does to which no policies were given. It says on its output when it has turned.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.tied import follow_starter  # noqa: E402
from hanse.facts import Facts  # noqa: E402
from hanse.messages import Json  # noqa: E402
from hanse.policy import policy_file  # noqa: E402
from hanse.rule import Decision  # noqa: E402

OFF, ON = signal.SIGUSR1, signal.SIGUSR2


def said(on: bool) -> str:
    """The line that says that it has turned."""
    return f"policies are {'on' if on else 'off'}"


class SwitchedRule(policy_file.PolicyFile):
    """A node's rule."""

    on = True
    _without = policy_file.PolicyFile({"policy_file": ""})

    def __init__(self, policy: Mapping[str, Json]) -> None:
        super().__init__(policy)
        version = self.decides_by  # is there where policies are
        self.decides_by = lambda: version() if SwitchedRule.on else ""

    def decide(self, facts: Facts) -> Decision:
        return super().decide(facts) if SwitchedRule.on else self._without.decide(facts)

    @property
    def reads(self) -> frozenset[str]:
        return super().reads if SwitchedRule.on else self._without.reads


def follow_signals() -> None:
    """Of a node and a coordinator."""
    policy_file.RULE = SwitchedRule  # type: ignore[misc]
    turned = [lambda on: setattr(SwitchedRule, "on", on)]
    if "coordinator" in sys.argv:
        from hanse.coordinator import service

        class Switched(service.Governance):
            def __init__(self, engine: object, note: object) -> None:
                super().__init__(engine, note)  # type: ignore[arg-type]
                turned.append(lambda on: setattr(self, "_engine", engine if on else None))

        service.Governance = Switched  # type: ignore[misc]

    def turn(signum: int, frame: object) -> None:
        for each in turned:
            each(signum == ON)
        os.write(1, f"{said(signum == ON)}\n".encode())

    for one in (OFF, ON):
        signal.signal(one, turn)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as for ``-m``, not this folder
    threading.Thread(target=follow_starter, name="follow-starter", daemon=True).start()
    follow_signals()
    from hanse.cli import main

    main()
