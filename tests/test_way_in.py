"""The way in: what README and quick start tell a newcomer to type is typed here, word for word, by three kinds
of people on four machines (folders with a home of their own), with data of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import hanse
from demo.federation import free_port
from hanse.cli import group
from tests.waiting import PATIENCE, ending, until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text().partition("## A federation of your own")[2].partition("\n## ")[0]
QUICK = (ROOT / "docs" / "quickstart.md").read_text().partition("## A real federation")[2]
ACTOR = re.compile(r"^\*\*(The operator|Each data owner|The data scientist)\*\*|```\n(.*?)```", re.M | re.S)
OWNERS = ("hospital-1", "hospital-2")


def told() -> list[tuple[str, list[str]]]:
    """Who types what, in the order of the page."""
    found, who = list[tuple[str, list[str]]](), ""
    for actor, block in ACTOR.findall(README):
        who = actor or who
        if block:
            found.append((who, [line for line in block.splitlines() if line.strip()]))
    return found


@dataclass
class Machines:
    """A folder for each machine, and what one person is told by another: tokens, the run, the certificate."""

    home: Path
    http: int = field(default_factory=free_port)
    grpc: int = field(default_factory=free_port)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    background: list[int] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)

    def command(self, line: str, machine: str) -> list[str]:
        """The words of a line, with this federation's address and the tokens in place of the page's."""
        line = line.replace("0.0.0.0", "127.0.0.1").replace("hanse.example.org", "localhost")
        line = line.replace(":8443", f":{self.http}").replace(":8470", f":{self.grpc}")
        found = shlex.split(line, comments=True)
        return [self.words.get(machine, {}).get(word, word) for word in found]

    def environment(self, machine: str) -> dict[str, str]:
        place = self.home / machine
        place.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HANSE_", "XDG_"))}
        return {**kept, "HOME": str(place), "PYTHONUNBUFFERED": "1"}

    def type(self, line: str, machine: str, answer: str = "") -> str:
        """Types a line at a machine; what is printed. The command runs in this process, as an interpreter for each
        would take most of the time, unless it leaves a process behind."""
        words = self.command(line, machine)
        assert words[0] == "hanse", line
        code, printed, errors = (self._apart if "--background" in words else self._here)(words, machine, answer)
        assert code == 0, f"{machine}: {line}\n{printed}\n{errors}"
        self.said[f"{machine}: {line.partition('  #')[0].strip()}"] = printed + errors
        return printed.strip()

    def _here(self, words: list[str], machine: str, answer: str) -> tuple[int, str, str]:
        absent = {k: None for k in os.environ if k.startswith(("HANSE_", "XDG_"))}
        with contextlib.chdir(self.home / machine):
            done = CliRunner().invoke(group, words[1:], input=answer, env={**absent, **self.environment(machine)})
        return done.exit_code, done.stdout, done.stderr + str(done.exception or "")

    def _apart(self, words: list[str], machine: str, answer: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "hanse.cli", *words[1:]],
            cwd=self.home / machine,
            env=self.environment(machine),
            input=answer,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,  # no terminal: what is asked for is read from here
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def start(self, line: str, machine: str) -> None:
        """A line that stays in its terminal."""
        words = self.command(line, machine)
        with (self.home / f"{machine}.log").open("w") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "hanse.cli", *words[1:]],
                cwd=self.home / machine,
                env=self.environment(machine),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            self.running.append(popen)
        assert popen.stdout is not None
        for printed in popen.stdout:
            if printed.startswith("ready"):
                return
        raise AssertionError((self.home / f"{machine}.log").read_text())

    def stop(self) -> None:
        for pid in self.background:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for popen in self.running:
            with ending(popen):
                popen.terminate()
                popen.wait(PATIENCE)


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("w"))
    for name in ("operator", "ada", *OWNERS):
        found.environment(name)
    yield found
    found.stop()


def patients(path: Path, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    age, pressure = rng.normal(60, 9, rows).round(), rng.normal(130, 15, rows).round()
    ill = (age - 60) / 9 + (pressure - 130) / 15 + rng.normal(0, 0.7, rows) > 0
    columns = {"age": age, "pressure": pressure, "smoker": rng.choice(["yes", "no"], rows)}
    columns["disease"] = np.where(ill, "yes", "no")
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return columns


def installs(line: str) -> None:
    """The extras that a machine is told to install are there."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [wanted] = re.findall(r"'\./hanse\[(.*?)\]'", line)
    assert set(wanted.split(",")) <= set(known)


@pytest.mark.timeout(600)
def test_the_readme_can_be_followed_word_for_word(machines: Machines) -> None:
    rows = [patients(machines.home / name / "patients.csv", 200 + 50 * i, i) for i, name in enumerate(OWNERS)]
    age = np.concatenate([r["age"] for r in rows])
    blocks = told()
    assert [who for who, _ in blocks].count("Each data owner") == 2
    for who, lines in blocks:
        where = {"The operator": ("operator",), "The data scientist": ("ada",)}.get(who, OWNERS)
        for machine in where:
            for line in lines:
                follow(machines, machine, line)
    said = machines.said
    overview = said["ada: hanse stats overview --tag heart"]
    assert re.search(r"age +450 ", overview)
    assert f"{age.mean():.4g}" in overview
    assert "no" in said["ada: hanse stats mean age --by disease --tag heart"]
    assert "20 rounds over 2 sites" in said["ada: hanse run watch RUN"]
    assert "xgboost" in said["hospital-1: hanse node show RUN"]
    assert hanse.load_result(machines.home / "ada" / "heart.safetensors").config.model_name == "xgboost"
    the_quick_start(machines)


def follow(machines: Machines, machine: str, line: str) -> None:
    if line.startswith("pip install"):
        installs(line)
    elif line.startswith("hanse coordinator start"):
        machines.start(line, machine)
        certificate = machines.home / "operator" / "hanse-coordinator" / "authority" / "authority.crt"
        assert str(certificate.relative_to(machines.home / "operator")) in README  # where the page says that it is
        (machines.home / "ada" / "authority.crt").write_bytes(certificate.read_bytes())
    elif line.startswith("hanse login"):
        machines.type(line, machine, machines.words[machine]["API"] + "\n")
    else:
        printed = machines.type(line, machine)
        if "join-token" in line:
            machines.words[shlex.split(line, comments=True)[-1]] = {"TOKEN": printed}
        elif "account add" in line:
            machines.words["ada"] = {"API": printed}
        elif "--background" in line:
            machines.background += map(int, re.findall(r"process (\d+)", printed))
            welcomed(machines, machine)
        elif "run propose" in line:
            for name in ("ada", *OWNERS):
                machines.words.setdefault(name, {})["RUN"] = printed
            for name in OWNERS:
                proposed(machines, name)


def welcomed(machines: Machines, machine: str) -> None:
    status = "hanse node status --json"
    until(lambda: json.loads(machines.type(status, machine)).get("state") == "connected", 0.1)


def proposed(machines: Machines, machine: str) -> list[str]:
    """The runs that wait for the owner's decision, once there is one. Statistics say no purpose here: the
    standing policy answers them, and for a moment they wait too."""

    def waiting() -> list[str]:
        told = json.loads(machines.type("hanse node proposals --json", machine))
        return [p["run"] for p in told if p["state"] == "pending" and p["purpose"]]

    return until(waiting, 0.1)  # type: ignore[no-any-return]


def the_quick_start(machines: Machines) -> None:
    """Its commands and its Python, by the same data scientist in the same federation."""
    [login, *others] = re.findall(r"^hanse .*", QUICK, re.M)
    machines.type(login, "ada", machines.words["ada"]["API"] + "\n")
    for line in others:
        # left out: what an owner does, what is for a run under way, and what waits for consent
        if not re.search(r"run (consent|pause|watch|propose)|probe", line):
            machines.type(line, "ada")
    [code] = re.findall(r"```python no-run\n(.*?)```", QUICK, re.S)
    script = machines.home / "ada" / "first.py"
    script.write_text(code + "print(result)\n")
    with (machines.home / "first.log").open("w+") as log:
        popen = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=machines.home / "ada",
            env=machines.environment("ada"),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        with ending(popen):
            for name in OWNERS:
                machines.type(f"hanse node approve {proposed(machines, name)[0]}", name)
            assert popen.wait(PATIENCE) == 0, (machines.home / "first.log").read_text()
    assert "20 rounds over 2 sites" in (machines.home / "first.log").read_text()


def test_what_the_pages_say_of_installing_is_so() -> None:
    for page in (README, (ROOT / "docs" / "quickstart.md").read_text()):
        lines = re.findall(r"^pip install .*", page, re.M)
        assert lines
        for line in lines:
            installs(line)
    assert hanse.__version__
