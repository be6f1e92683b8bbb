"""All that a coordinator keeps, in one place."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from sqlalchemy import update

from hanse.store.accounts import Accounts
from hanse.store.audit import AuditLog
from hanse.store.blobs import Blobs
from hanse.store.consents import Consents
from hanse.store.database import Database, now
from hanse.store.events import Events
from hanse.store.models import Models
from hanse.store.nodes import Nodes
from hanse.store.rounds import Rounds, forget_ended, referenced
from hanse.store.runs import Runs
from hanse.store.schema import schema_version
from hanse.store.state_file import StateFile
from hanse.store.studies import Studies

_SWEEP_GRACE_S = 3600.0

FILE = "hanse.db"  # of a database that is in the folder


class Store:
    """A database, a folder of blobs and an audit log, and the parts that use them.

    Args:
        url: database; None is SQLite in ``folder``.
        folder: for blobs, the audit log and that database; made with mode 0700.
        fsync: see ``Blobs``.
        alone: see ``Database``.

    All methods of all parts block and may be called from any thread.

    >>> import tempfile
    >>> with Store(None, tempfile.mkdtemp()) as store:
    ...     run = store.runs.create({"rounds": 1}, proposer="alice")
    ...     str(store.runs.get(run.id).state)
    'pending'
    """

    def __init__(
        self, url: str | None, folder: str | os.PathLike[str], *, fsync: bool = True, alone: bool = False
    ) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.database = Database(url or f"sqlite:///{self.folder / FILE}", folder=self.folder, alone=alone)
        self.audit = AuditLog(self.folder / "audit.jsonl")
        self.blobs = Blobs(self.folder / "blobs", fsync=fsync)
        self.events = Events(self.database)
        self.accounts = Accounts(self.database, self.events)
        self.studies = Studies(self.database, self.events)
        self.nodes = Nodes(self.database, self.events)
        self.runs = Runs(self.database, self.events)
        self.consents = Consents(self.database, self.events, self.runs)
        self.rounds = Rounds(self.database, self.events, self.blobs)
        self.models = Models(self.database, self.events, self.blobs)
        self.state_file = StateFile(self.database, self.events)

    def sweep(
        self, grace_s: float = _SWEEP_GRACE_S, failed_s: float = 0.0, models_s: float | None = None
    ) -> tuple[str, ...]:
        """Removes what killed coordinators left: checkpoints of runs that have ended, and blobs that
        nothing refers to. The young may be about to be referred to and stay. A run that failed in the last
        ``failed_s`` seconds keeps its last states; of one that ended more than ``models_s`` seconds ago (None: of none)
        only the best and the last version of its model are kept."""
        if models_s is not None:
            for run in self.models.ended_before(now() - models_s):
                self.models.thin(run)
        with self.database.write() as tx:  # nobody can begin to refer to one meanwhile
            forget_ended(tx, failed_s)
            return self.blobs.prune(referenced(tx.connection), grace_s)

    def check_writable(self) -> None:
        """Writes a row of the database as it is, to disk; raises what a write raises (:mod:`hanse.store.faults`)."""
        with self.database.write() as tx:
            tx.execute(update(schema_version).values(release=schema_version.c.release))

    def close(self) -> None:
        """Closes the database and the audit log."""
        self.database.close()
        self.audit.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
