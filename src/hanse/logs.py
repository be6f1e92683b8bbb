"""Where the log of a coordinator or a node goes, and how its lines look.

Lines go to standard error, where systemd or a container takes them, or to a file that rotates. One and the same line
(of one place in the code) is written so many times a minute and then counted, so that a flood fills no disk.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import click

FORMATS = ("text", "json")
FILE_BYTES, FILES = 10 << 20, 5  # of one file, and how many older ones are kept beside it
_WINDOW_S, _AT_MOST = 60.0, 30
_PLACES = 1000  # in the code whose lines are counted at once


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``log_format`` and ``log_file``."""
    form = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        envvar="HANSE_LOG_FORMAT",
        default="text",
        show_default=True,
        help="Lines for people, or one JSON object a line. (HANSE_LOG_FORMAT)",
    )
    file = click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="HANSE_LOG_FILE",
        default=None,
        help="Log there, and not to standard error; it rotates at 10 MiB, five older ones are kept. (HANSE_LOG_FILE)",
    )
    return form(file(command))


def begin(level: int, form: str = "text", file: Path | None = None, streams: bool = False) -> None:
    """Sends what this process logs to ``file``, or to standard error.

    Args:
        level: the least that is written, as in :mod:`logging`.
        form: ``text`` for people, ``json`` for programs: one object a line.
        file: rotates at 10 MiB, five older ones are kept; readable by its owner only. None: standard error.
        streams: whether what goes to standard output and error goes to ``file`` as well (a detached process).

    Raises ``OSError`` where the file cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler() if file is None else _Rotating(file, streams)
    handler.setFormatter(
        _Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(Floods())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Floods(logging.Filter):
    """Lets a line of one place in the code through so often a minute; the next one after that says how many were not
    written."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # place: when its minute began, how many came

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written: at most so many a minute of one place."""
        place, now = (record.pathname, record.lineno), time.monotonic()
        began, count = self._seen.get(place, (now, 0))
        more = 0
        if now - began >= _WINDOW_S:
            more, began, count = count - _AT_MOST, now, 0
        if len(self._seen) >= _PLACES and place not in self._seen:
            self._seen.clear()
        self._seen[place] = (began, count + 1)
        if count >= _AT_MOST:
            return False
        if more > 0:
            record.msg = f"{record.getMessage()} (and {more} more of the kind, which were not written)"
            record.args = None
        return True


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


class _Rotating(RotatingFileHandler):
    def __init__(self, file: Path, streams: bool) -> None:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        self._streams = streams
        super().__init__(file, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")
        self._take()

    def doRollover(self) -> None:  # noqa: N802 (of the standard library)
        super().doRollover()
        os.chmod(self.baseFilename, 0o600)
        self._take()

    def _take(self) -> None:
        if self._streams and self.stream is not None:
            for descriptor in (1, 2):
                os.dup2(self.stream.fileno(), descriptor)
