"""What is shown while a run goes."""

from __future__ import annotations

import io
import sys
import threading
from types import ModuleType
from typing import Any

import pytest

import hanse
from experiment import sites
from hanse.experiment.progress import Progress
from hanse.rounds import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, label: str = "train", **more: Any) -> Step:
    return Step(number, label, number if label == "train" else None, "t", participants={"a": {}, "b": {}}, **more)


def told(out: io.StringIO, rounds: int, show: bool = True) -> str:
    with Progress(rounds, show, False, out) as bar:
        bar.show("awaiting_consent", waiting=["ulm", "bonn"])
        bar.show("awaiting_consent", waiting=["bonn"])
        bar.show("running")
        bar.show("running", step(0, "prepare"))
        for r in range(1, rounds + 1):
            bar.show("running", step(r, metrics={"loss": 1 / r, "accuracy": None}))
        bar.show("running", step(rounds + 1, "evaluate", metrics={"loss": 0.5}))
        bar.show("completed")
    return out.getvalue()


def test_plain_lines() -> None:
    lines = told(io.StringIO(), 3).splitlines()
    assert lines == [
        "waiting for consent of ulm, bonn",
        "waiting for consent of bonn",
        "running",
        "prepared  2 sites",
        "round 1/3  loss 1.0000  2 sites",
        "round 2/3  loss 0.5000  2 sites",
        "round 3/3  loss 0.3333  2 sites",
        "evaluated  loss 0.5000  2 sites",
        "completed",
    ]


def test_a_run_that_is_watched_from_its_start_says_once_that_it_prepared() -> None:
    """A state between two of its steps had them both told, and itself again."""
    out = io.StringIO()
    with Progress(1, True, False, out) as bar:
        for number in range(3):
            bar.show("running")
            bar.show("running", step(number, "prepare"))
        bar.show("running", step(3, "prepare", failures={"b": "it was lost"}))
        bar.show("paused", reason="a full disk")
        bar.show("running")
    assert out.getvalue().splitlines() == [
        "running",
        "prepared  2 sites",
        "prepared  2 sites, 1 failed",
        "paused: a full disk",
        "running",
    ]


def test_a_long_run_does_not_flood_a_log() -> None:
    assert 20 <= len(told(io.StringIO(), 5000).splitlines()) <= 30


def test_a_fit_that_takes_more_steps_than_rounds_were_asked_for_is_not_beyond_its_end() -> None:
    out = io.StringIO()
    with Progress(2, True, False, out) as bar:
        for number in (1, 2, 3):
            bar.show("running", step(number, metrics={"loss": 1.0}))
    assert [line.split("  ")[0] for line in out.getvalue().splitlines()] == ["round 1/2", "round 2/2", "round 3"]


def test_a_round_of_several_steps_is_told_once() -> None:
    out = io.StringIO()
    with Progress(2, True, False, out) as bar:
        for r in (1, 1, 1, 2, 2, 2):
            bar.show("running", step(r, metrics={"trees": r}))
    assert out.getvalue() == "round 1/2  2 sites\nround 2/2  2 sites\n"


def test_silence() -> None:
    assert told(Terminal(), 3, show=False) == ""


def test_failures_are_always_told() -> None:
    out = io.StringIO()
    with Progress(1000, True, True, out) as bar:
        bar.show("running", step(7, failures={"ulm": "lost"}, status="failed"))
    assert out.getvalue() == "simulation: round 7/1000 again: too few answers  2 sites, 1 failed\n"


def test_many_missing_consents_are_counted() -> None:
    out = io.StringIO()
    with Progress(3, True, False, out) as bar:
        bar.show("awaiting_consent", waiting=list("abcdefg"))
        bar.show("rejected", reason="ulm: not our patients")
    assert out.getvalue() == "waiting for consent of a, b, c, d and 3 more\nrejected: ulm: not our patients\n"


def test_a_terminal_gets_a_bar() -> None:
    shown = told(Terminal(), 4)
    assert "4/4 rounds" in shown
    assert "completed" in shown


def test_names_are_not_markup_for_the_terminal() -> None:
    out = Terminal()
    with Progress(3, True, False, out) as bar:
        bar.show("awaiting_consent", waiting=["[red]evil[/red]", "[/x]", "a\x1b[2J"])
    assert "[red]evil" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


def test_a_simulation_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    federation = hanse.simulate(sites.cancer(2))
    federation.experiment(model="logistic_regression", federated_strategy="fedavg", rounds=2, target="disease").run()
    assert all(line.startswith("simulation: ") for line in capsys.readouterr().err.splitlines())
    federation.experiment(model="logistic_regression", federated_strategy="fedavg", rounds=2, target="disease").run(
        progress=False
    )
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_a_script_hears_of_a_column_that_one_site_writes_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    """A decimal comma at one site takes a column from all; a script was told nothing of it."""
    frames = sites.cancer(2)
    for frame in frames.values():
        frame["age"] = range(len(frame))
    frames["site2"]["age"] = [f"{age},5" for age in frames["site2"]["age"]]
    run = hanse.simulate(frames).experiment(model="logistic_regression", target="disease")
    result = run.run()
    [said] = [line for line in capsys.readouterr().err.splitlines() if "!" in line]
    assert said == f"simulation: ! {result.warnings[0]}"
    for words in ("'age' was left out", "site1", "site2", "decimal comma"):
        assert words in said


def test_a_notebook_has_one_line_that_changes_and_needs_no_widgets(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    said: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            said.append(data["text/plain"])

    shown = ModuleType("IPython.display")
    shown.display = lambda data, raw, display_id: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    with Progress(3, simulated=True) as bar:
        bar.show("running")
        bar.show("running", step(1, metrics={"loss": 0.5}))
        bar.show("completed")
    assert said[0] == "simulation: running  0/3 rounds"
    assert said[1] == "simulation: running  1/3 rounds  loss 0.5000  2 sites"
    assert said[2].startswith("simulation: completed  1/3 rounds")
    assert not recwarn.list


def test_an_interrupted_simulation_stops_computing() -> None:
    experiment = hanse.simulate(sites.cancer()).experiment(
        model="logistic_regression", target="disease", rounds=100_000, sample_id_column=None
    )

    def interrupted(update: Any) -> None:
        if update.step is not None and (update.step.round or 0) >= 2:
            raise KeyboardInterrupt

    experiment.propose()
    with pytest.raises(KeyboardInterrupt):
        experiment.wait(progress=False, on_update=interrupted)
    assert experiment.status()["state"] == "cancelled"
    assert not [t for t in threading.enumerate() if t.name.startswith(experiment.run_id)]
