"""How a run is shown while it goes: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from hanse.rounds import Step
from hanse.terminal import visible

_SHOWN = ("loss", "accuracy", "auc", "c_index", "r2")
_STATES = {
    "pending": "preparing",
    "awaiting_consent": "waiting for consent",
    "running": "running",
    "paused": "paused",
    "completed": "completed",
    "failed": "failed",
    "rejected": "rejected",
    "expired": "expired",
    "cancelled": "cancelled",
}


_LABELS = {"prepare": "prepared", "evaluate": "evaluated", "initialise": "initialised"}


class Progress:
    """Shows states and steps as they come. Writes to stderr.

    Args:
        rounds: how many are planned.
        show: False is silent.
        simulated: said in the first line, so that nobody takes a simulation for a federation.
        out: where to, for tests.
    """

    def __init__(self, rounds: int, show: bool = True, simulated: bool = False, out: TextIO | None = None) -> None:
        self._rounds, self._simulated = rounds, simulated
        self._out = out or sys.stderr
        self._figures: dict[str, float] = {}  # of the latest model that was evaluated
        self._round = self._last = 0
        self._bar: Any = None
        self._task: Any = None
        self._cell: _Cell | None = None
        self._said = ""  # the state
        self._told: set[str] = set()  # of steps that are no rounds, such as those of the preparation
        self._show = show
        self._warned: set[str] = set()

    def __enter__(self) -> Progress:
        if self._show and "ipykernel" in sys.modules and self._out is sys.stderr:
            self._cell = _Cell.here()
        elif self._show and self._out.isatty():
            self._bar = self._rich()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def warn(self, text: str) -> None:
        """Something odd, said once."""
        if not self._show or text in self._warned:
            return
        self._warned.add(text)
        if self._bar is not None:
            self._bar.console.print(f"! {visible(text)}", markup=False)
        else:
            self._line(f"! {visible(text)}")

    def show(self, state: str, step: Step | None = None, waiting: Sequence[str] = (), reason: str = "") -> None:
        """One update: the run's state, the step that has just ended if any."""
        if not self._show:
            return
        words = _STATES.get(state, state)
        if waiting:
            words += f" of {', '.join(waiting[:4])}" + (f" and {len(waiting) - 4} more" if len(waiting) > 4 else "")
        elif state == "awaiting_consent":
            words = "all have given their consent"
        if reason and state not in ("running", "completed"):
            words += f": {reason}"
        words = visible(words)
        nodes = failed = 0
        if step is not None:
            for warning in step.metrics.get("warnings") or ():
                self.warn(str(warning))
            nodes, failed = len(step.participants), len(step.failures)
            self._figures |= {k: step.metrics[k] for k in _SHOWN if isinstance(step.metrics.get(k), (int, float))}
            if step.round is not None:
                self._round = max(self._round, step.round)
            elif state == "running":
                words = _LABELS.get(step.label, step.label)
        figures = "  ".join(f"{k} {v:.4f}" for k, v in self._figures.items())
        if step is not None:
            figures += f"{'  ' if figures else ''}{nodes} site{'s' * (nodes != 1)}"
            figures += f", {failed} failed" if failed else ""
        if self._cell is not None:
            done = f"{self._round}{f'/{self._rounds}' if self._round <= self._rounds else ''} rounds"
            self._cell.say(f"{'simulation: ' if self._simulated else ''}{words}  {done}  {figures}".rstrip())
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=self._round, description=words, figures=figures)
            return
        self._plain(state, words, step, figures)

    def _plain(self, state: str, words: str, step: Step | None, figures: str) -> None:
        if step is None and words != self._said:
            self._said = words
            self._line(words)
        elif step is not None and step.round is None and (line := f"{words}  {figures}") not in self._told:
            self._told.add(line)
            self._said = self._said if state == "running" else words
            self._line(line)
        due = max(1, self._rounds // 20)  # at most some twenty lines, however many rounds
        if step is None or step.round is None or not (step.metrics or step.failures):
            return
        new = self._round - self._last  # 0: a further step of a round that was told
        if step.failures or new >= due or (new and self._round == self._rounds):
            self._last = self._round
            again = " again: too few answers" if step.status == "failed" else ""
            of = f"/{self._rounds}" if step.round <= self._rounds else ""  # an exact fit takes what it needs
            self._line(f"round {step.round}{of}{again}  {figures}")

    def _line(self, text: str) -> None:
        print(f"{'simulation: ' if self._simulated else ''}{text}", file=self._out, flush=True)

    def _rich(self) -> Any:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        except ImportError:  # the bar is a comfort; hanse[scientist] brings it
            return None
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[what]}{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rounds"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}", style="dim", markup=False),
            console=Console(file=self._out) if self._out is not sys.stderr else Console(stderr=True),
        )
        self._task = bar.add_task(
            "preparing", total=self._rounds, figures="", what="simulation: " if self._simulated else ""
        )
        bar.start()
        return bar


class _Cell:
    """One line below a notebook's cell, changed in place. It needs no widgets, which a bar of ``rich`` does."""

    def __init__(self, display: Any) -> None:
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    @staticmethod
    def here() -> _Cell | None:
        """None where there is no notebook to write to."""
        try:
            from IPython.display import display
        except ImportError:
            return None
        return _Cell(display)

    def say(self, text: str) -> None:
        self._handle.update({"text/plain": text}, raw=True)
