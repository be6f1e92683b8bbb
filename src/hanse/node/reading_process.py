"""An owner's file is read for the first time in a process of its own: where a library dies of it, that is a sentence.

Libraries in other languages end their process where a damaged file asks for more memory than there is, and no exception
is raised that could be caught. The process has no network, no variables of ours, the worker's limit on memory, and dies
with who asked. What was read so has been read in full and is bound by its hash; nearly all later reads are the
worker's, whose death is an error as well (:mod:`hanse.node.worker`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hanse.errors import ConfigError, DataError, HanseError, NotFound, from_code
from hanse.node.ending import said_of
from hanse.node.surroundings import environment

if TYPE_CHECKING:
    from hanse.node.dataset import Dataset
    from hanse.node.describing import Note

PROGRAM = ("-m", "hanse.node.reading_process")


class ReadingProcess:
    """Describes and summarises data sets in a process of its own, which starts when the block does and loads what it
    needs meanwhile; and starts again when it has died.

    Args:
        home: the node's folder; its ``[limits] memory_mb`` holds.
        program: what Python runs.
    """

    def __init__(self, home: Path, program: tuple[str, ...] = PROGRAM) -> None:
        from hanse.node.settings import NodeSettings

        try:
            limits = NodeSettings.load(home).limits
        except NotFound:
            limits = NodeSettings().limits
        self._memory_mb, self._threads = limits.memory_mb, limits.threads
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: Any = None

    def __enter__(self) -> ReadingProcess:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def describe(self, dataset: Dataset, note: Note) -> Dataset:
        """As :func:`hanse.node.describing.describe`. Raises ``DataError`` also where the process dies of the file."""
        from hanse.node.dataset import Dataset

        return Dataset.from_json(self._ask(dataset, note, do="describe"))

    def summary(self, home: Path, dataset: Dataset, target: str | None, count: int, note: Note) -> dict[str, Any]:
        """As :func:`hanse.node.summaries.look`, with that addition."""
        found: dict[str, Any] = self._ask(dataset, note, do="summary", home=str(home), target=target, count=count)
        return found

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._stream.close()
            self._process = None

    def _ask(self, dataset: Dataset, note: Note, **asked: Any) -> Any:
        if self._process is None:
            self._start()
        try:
            self._stream.write(json.dumps({**asked, "dataset": dataset.to_json()}).encode() + b"\n")
            self._stream.flush()
            for line in self._stream:
                said = json.loads(line)
                if "done" in said:
                    note(said["done"])
                elif "code" in said:
                    raise from_code(said["code"], said["message"])
                elif "fault" in said:
                    raise RuntimeError(said["fault"])
                else:
                    return said["found"]
        except ConnectionError:
            pass  # it has died, as where the stream ends
        except BaseException as error:
            if not isinstance(error, HanseError):
                self.close()  # what it goes on with is nobody's question any more
            raise
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        status = self._process.poll()
        self.close()
        raise DataError(
            f"{dataset.path.name}: the process that read it died of it ({said_of(status)}); it is damaged, made to do "
            f"harm, or takes more memory than [limits] memory_mb of this node, which is {self._memory_mb}"
        )

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, str(theirs.fileno()), str(self._memory_mb), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=environment(self._threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what a library says when it dies; faults of ours come in an answer
                start_new_session=True,
            )
            self._stream = ours.makefile("rwb")


# ---------------------------------------------------------------- in the process


def serve(stream: Any, memory_mb: int) -> None:
    """Answers until the other end is closed."""
    for line in stream:
        try:
            said = {"found": _found(json.loads(line), stream)}
        except MemoryError:
            few = f"reading it takes more memory than [limits] memory_mb of this node, which is {memory_mb}"
            said = {"code": DataError.code, "message": few}
        except HanseError as error:
            said = {"code": error.code, "message": error.message}
        except BaseException:  # a panic of a library in Rust is no Exception
            said = {"fault": traceback.format_exc()}
        _say(stream, said)


def _found(asked: Mapping[str, Any], stream: Any) -> Any:
    from hanse.node.dataset import Dataset

    dataset = Dataset.from_json(asked["dataset"])

    def note(done: float) -> None:
        _say(stream, {"done": done})

    if asked["do"] == "describe":
        from hanse.node.describing import describe

        return describe(dataset, note).to_json()
    if asked["do"] == "summary":
        from hanse.node.summaries import look

        return look(Path(asked["home"]), dataset, asked["target"], asked["count"], note)
    raise ConfigError(f"the process that reads does not know {asked['do']!r}")


def _say(stream: Any, said: Mapping[str, Any]) -> None:
    stream.write(json.dumps(said).encode() + b"\n")
    stream.flush()


def _load() -> None:
    """All that it needs, while who asks still reads what to ask."""
    import hanse.algorithms.statistics
    import hanse.node.describing
    import hanse.node.summaries  # noqa: F401
    from hanse import readers

    readers.prepare()


def main() -> None:
    """The process: shut off first, then one question after the other until who asks is gone."""
    from hanse.allocator import pause_collector, settle
    from hanse.node.worker_main import confine

    number, memory_mb, parent = map(int, sys.argv[1:])
    confine(memory_mb, parent)
    pause_collector()
    _load()
    settle()
    with contextlib.suppress(ConnectionError), socket.socket(fileno=number) as sock:
        serve(sock.makefile("rwb"), memory_mb)


if __name__ == "__main__":
    main()
