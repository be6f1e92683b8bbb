"""Policies in a file, or in all files ``*.cedar`` of a folder, followed as they change.

A change counts once the files have stayed the same for a moment (``SETTLED_S``) and nobody has one of them open to
write, as far as the system tells: an editor may write a file in pieces, and the first of them, read by itself, could
permit without what forbids. One that was made while nothing was decided counts at once, as the files' own time says
that it is over (``OVER_S``): what is asked first is decided by it. Files that cannot be read any more, or that are
written for long (``WRITTEN_S``), are no policies, and without policies nothing is decided: what is asked meanwhile has
to wait (:class:`hanse.errors.NotNow`).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from hanse.cedar.policies import Policies
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import ConfigError, NotNow

log = logging.getLogger(__name__)
SETTLED_S = 0.2
LOOK_S = 0.1  # between two looks: one that finds nothing in the processor's caches takes longer than a task's decisions
OVER_S = 1.0  # longer, as the clock of a file may be another machine's
WRITTEN_S = 10.0  # whoever takes longer to write is no reason to go on by what was there before
_LARGEST = 4 << 20
_SUFFIX = ".cedar"

Seen = tuple[tuple[str, int, int, int, int], ...]


def read(path: Path, vocabulary: Vocabulary) -> Policies:
    """The policies of a file or a folder as they are now. Raises ``ConfigError``."""
    try:
        places = _places(path)
        if overlooked := [
            place.name for place in places if place != path and (place.is_dir() or place.suffix != _SUFFIX)
        ]:
            raise ConfigError(
                f"{', '.join(overlooked)} in {path} would not be read as a policy: only files *{_SUFFIX} of the folder "
                "itself are; rename it, or move it away"
            )
        texts = {place.name: text_of(place) for place in places}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policies in {path} cannot be read: {error}") from None
    if not texts:
        raise ConfigError(f"the folder {path} has no file *{_SUFFIX}, so nothing would be permitted")
    return Policies(texts, vocabulary)


class PolicyFiles:
    """The policies of ``path``, always as they are there now.

    Args:
        clock: in seconds, from any moment on.
        date: seconds since 1970, as files are dated.

    Raises:
        ConfigError: they cannot be read when they are first.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: Vocabulary,
        clock: Callable[[], float] = time.monotonic,
        date: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._vocabulary, self._clock, self._date = path, vocabulary, clock, date
        self._at = str(path)  # of a Path, the text would be made anew for each look
        self._taken, _ = self._look()
        self._policies: Policies | None = read(path, vocabulary)
        self._changed: tuple[Seen, float] | None = None  # what the files are like now, and since when
        self._looked = float("-inf")  # when they were last as they were taken
        self._written: float | None = None  # since when one of them is being written, as it seems

    def current(self) -> Policies:
        """Raises ``NotNow`` where the files cannot be read now; why stands in the log."""
        now = self._clock()
        if self._policies is not None and 0 <= now - self._looked < LOOK_S:
            return self._policies
        seen, at = self._look()
        if seen == self._taken:
            self._changed, self._looked, self._written = None, now, None
        elif self._date() - at >= OVER_S or self._settled(seen):
            self._take_whole(seen, now)
        if self._policies is None:
            raise NotNow("the policies that decide this cannot be read now; the reason is in the log of who wrote them")
        return self._policies

    def _settled(self, seen: Seen) -> bool:
        if self._changed is None or self._changed[0] != seen:
            self._changed = (seen, self._clock())
            return False
        return self._clock() - self._changed[1] >= SETTLED_S

    def _take_whole(self, seen: Seen, now: float) -> None:
        """Takes them, unless one of them is being written. Raises ``NotNow`` where that lasts."""
        places = [self._path / name if name else self._path for name, *_ in seen]
        if not (written := [place.name for place in places if _open_to_write(place)]):
            self._written = None
            self._take(seen)
        elif self._written is None:
            self._written = now
            log.warning("%s in %s is open to write: it counts when that is over", ", ".join(written), self._path)
        elif now - self._written >= WRITTEN_S:
            raise NotNow(f"the policies that decide this are being written ({', '.join(written)}), for too long by now")

    def _take(self, seen: Seen) -> None:
        before, self._taken, self._changed = self._policies, seen, None
        try:
            self._policies = read(self._path, self._vocabulary)
        except ConfigError as error:
            self._policies = None
            log.error("nothing is decided until the policies in %s can be read: %s", self._path, error.message)
            return
        was = before.version if before else "none"
        log.info("the policies in %s are now version %s (before: %s)", self._path, self._policies.version, was)

    def _look(self) -> tuple[Seen, float]:
        """What the files are like, and when that last changed."""
        try:
            status = os.stat(self._at)
            if not stat.S_ISDIR(status.st_mode):  # each decision looks: one call for a file
                return (_mark("", status),), status.st_ctime
            found, at = [], status.st_ctime  # when a file came or went
            for entry in _counting(self._at):
                status = entry.stat()
                found.append(_mark(entry.name, status))
                at = max(at, status.st_ctime)
            return tuple(sorted(found)), at
        except OSError:
            return (), _gone(self._path)


def _mark(name: str, status: os.stat_result) -> tuple[str, int, int, int, int]:
    return name, status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _open_to_write(place: Path) -> bool:
    """Whether a process has a file open to write, as far as can be found out: Linux gives a lease to read only where
    none has, on files of one's own. It is given back at once; who opens the file meanwhile waits for that, and the
    signal that says so is one that does nothing."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # reading it says why
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)  # and with it ends the lease
    return False


def _gone(path: Path) -> float:
    """When a file went, as far as its folder tells; long ago where that is gone too."""
    try:
        return max(os.stat(place).st_ctime for place in (path, path.parent) if place.exists())
    except (OSError, ValueError):
        return float("-inf")


def _places(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(path / entry.name for entry in _counting(path))


def _counting(folder: str | Path) -> list[os.DirEntry[str]]:
    """The entries of a folder that count as policies."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and _meant(entry)]


def _meant(entry: os.DirEntry[str]) -> bool:
    """Whether it is a policy, or somebody may have thought so: one that is passed over forbids nothing."""
    if entry.name.lower().endswith((_SUFFIX, f"{_SUFFIX}.txt")):
        return True
    return entry.is_dir() and any(name.lower().endswith(_SUFFIX) for name in os.listdir(entry.path))


def text_of(place: Path) -> str:
    """The text of a file. Raises ``OSError`` for one of more than 4 MB, ``UnicodeDecodeError``."""
    with open(place, "rb") as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise OSError(f"{place.name} has over {_LARGEST >> 20} MB")
    return raw.decode()
