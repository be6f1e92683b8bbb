"""A Flower app under Hanse's approvals, as a data scientist sees it: propose its folder, then lead it from here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hanse.bundle import thaw
from hanse.codec import decode, encode
from hanse.errors import ConfigError, Conflict, HanseError, NotNow, Refused, RunFailed, Unreachable
from hanse.experiment.configuring import configure
from hanse.experiment.connection import Connection
from hanse.experiment.proposal import Experiment
from hanse.experiment.results import Result
from hanse.experiment.seam import ENDED, Backend
from hanse.flower import server_side
from hanse.flower.folder import FlowerApp, check_same, read
from hanse.flower.installed import flower
from hanse.flower.sending import FlowerReplies, Sending
from hanse.messages import Json, Record

T = TypeVar("T")

ALGORITHM = "flower_app"
_WAIT_S, _ALIVE_S, _LONGEST_PAUSE_S = 20.0, 20.0, 15.0


def proposed(backend: Backend, app: FlowerApp, settings: Mapping[str, Any]) -> Experiment:
    """The proposal of an app. Raises ``ConfigError``."""
    fixed = {"federated_strategy": ALGORITHM, "plan": app.plan()}
    if wrong := sorted(set(fixed) & set(settings)):
        raise ConfigError(f"{', '.join(wrong)} of a Flower app follows from its folder; leave it out")
    given = {"name": app.name, **settings, **fixed}
    return Experiment(backend, configure(given, backend.defaults))


@dataclass(slots=True)
class FlowerExperiment:
    """The folder of a Flower app and its proposal, of :meth:`hanse.experiment.federation.Federation.flower_app`."""

    connection: Connection
    folder: Path
    app: FlowerApp
    experiment: Experiment

    @staticmethod
    def of(
        backend: Backend, folder: Path, run_config: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> FlowerExperiment:
        """Raises ``ConfigError`` where the folder holds no app, or the federation is a simulation."""
        if not isinstance(backend, Connection):
            raise ConfigError("sites of a simulation have no files that an app could read; simulate it with flwr run")
        app = read(folder, run_config)
        return FlowerExperiment(backend, folder, app, proposed(backend, app, settings))

    @staticmethod
    def resumed(connection: Connection, folder: Path, run_id: str) -> FlowerExperiment:
        """Of a run that was proposed before. Raises ``NotApproved`` where the folder is not what it was then."""
        experiment = Experiment(connection, connection.configuration(run_id), run_id)
        if experiment.config.federated_strategy != ALGORITHM:
            raise ConfigError(f"run {run_id} is no Flower app")
        agreed = FlowerApp.of(experiment.config.plan or {})
        return FlowerExperiment(connection, folder, agreed, experiment)

    @property
    def run_id(self) -> str:
        """Of the run; "" before it was proposed."""
        return self.experiment.run_id

    def preview(self) -> str:
        """What the owners will read: settings, the files of the app, and the code of Hanse that runs it."""
        return self.experiment.preview()

    def propose(self) -> FlowerExperiment:
        """Sends the proposal; the owners decide. Raises ``Conflict`` where it was sent already."""
        check_same(self.app, read(self.folder, self.app.given))
        self.experiment.propose()
        return self

    def run(self, progress: bool = True) -> Result:
        """Proposes it unless it was, waits for the owners, runs the ServerApp here, and gives the records of the run.
        What the app learned, its ServerApp keeps wherever it is written to.

        Raises:
            NotApproved: a file of the folder is not what the owners agreed to.
            Refused: an owner said no.
            RunFailed: the run ended before the ServerApp did.
        """
        flower()  # before anybody is asked
        if not self.run_id:
            self.propose()
        here = self.connection
        self._wait_for_owners(progress)
        session = here.session(self.run_id)
        bundle = thaw(here.bundle(self.run_id), str(session["code_hash"]))
        agreed = FlowerApp.of(bundle.config.plan or {})
        check_same(agreed, read(self.folder, agreed.given))
        line = _Line(here, self.run_id, sorted(bundle.content["datasets"]))
        try:
            with _alive(line):
                server_side.lead(agreed, self.folder, line.nodes, line)
                line.over()
        except RunFailed:
            raise
        except BaseException:
            with contextlib.suppress(HanseError):
                here.act(self.run_id, "cancel", "the ServerApp failed")
            raise
        return self.experiment.wait(progress)

    def _wait_for_owners(self, progress: bool) -> None:
        for happened in self.connection.watch(self.run_id):
            if happened.state == "running":
                return
            if happened.state in ENDED:
                kind = Refused if happened.state == "rejected" else RunFailed
                raise kind(f"run {self.run_id} is {happened.state}. {happened.reason}".strip())
            if progress and happened.waiting_for:
                print(f"run {self.run_id} waits for {', '.join(happened.waiting_for)}", flush=True)

    def __repr__(self) -> str:
        where = f"run {self.run_id}" if self.run_id else "not proposed"
        return f"<Flower app {self.app.name} ({len(self.app.files)} files): {where}>"


class _Line:
    """The nodes of a run, reached through its coordinator. What it does not hear, because the coordinator is started
    anew or the network is away, it asks again."""

    def __init__(self, connection: Connection, run_id: str, nodes: Sequence[str]) -> None:
        self._connection, self._run, self.nodes, self._step = connection, run_id, nodes, 0

    def online(self) -> list[str]:
        rows = _again(self._connection.nodes)
        return [str(row["node"]) for row in rows if row["node"] in self.nodes and row["status"] == "online"]

    def exchange(self, sending: Sending) -> FlowerReplies:
        step, record, said = self._step, encode(sending), False
        while True:
            if not said:
                said = self._say(step, record)
            found = _again(lambda: self._connection.returned(self._run, step, _WAIT_S))
            if isinstance(found, Record):
                self._step += 1
                return decode(FlowerReplies, found)
            self._check(found)
            said = found["step"] != step  # where it waits for this step, the coordinator was started anew

    def over(self) -> None:
        """Says that nothing more comes."""
        try:
            while not self._say(self._step, encode(Sending(True, None, {}, ()))):
                self._check(_again(lambda: self._connection.awaited(self._run)))
        except RunFailed:
            if _again(lambda: self._connection.awaited(self._run))["state"] != "completed":  # what it said was heard
                raise

    def alive(self) -> None:
        """Says that somebody is here."""
        with contextlib.suppress(HanseError):
            self._connection.awaited(self._run)

    def _say(self, step: int, record: Record) -> bool:
        try:
            _again(lambda: self._connection.say(self._run, step, record))
            return True
        except NotNow:
            time.sleep(0.2)
            return False
        except Conflict as error:
            raise RunFailed(error.message) from None

    def _check(self, told: Mapping[str, Json]) -> None:
        if told["state"] in ENDED:
            raise RunFailed(f"run {self._run} is {told['state']}. {told.get('reason') or ''}".strip())


def _again(do: Callable[[], T]) -> T:
    """What it gives, as soon as the coordinator is reached."""
    pause = 0.25
    while True:
        try:
            return do()
        except Unreachable:
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE_S, 2 * pause)


@contextlib.contextmanager
def _alive(line: _Line) -> Iterator[None]:
    """While the ServerApp computes, the coordinator hears of it."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(_ALIVE_S):
            line.alive()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
