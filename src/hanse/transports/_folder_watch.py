"""Learning that something was put into a folder: the system tells (inotify and its like), and now and then one looks.

The system's queue of such news can overflow, and what is mounted from elsewhere has none. So behind the news stands a
look at what is waited for, every two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_S = 2.0
TIDY_EVERY = 15  # looks


class Watch:
    """Calls in the event loop that it is made in.

    Args:
        folders: watched, each with all that is below it.
        news: called with the path of what was put there.
        look: called every two seconds, when the last call is done; ``tidy``: more rarely.
    """

    def __init__(
        self,
        folders: list[Path],
        news: Callable[[Path], None],
        look: Callable[[], Awaitable[None]],
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        try:
            from watchdog import events
            from watchdog.observers import Observer
        except ImportError:
            raise ConfigError("a folder:// address needs watchdog: pip install 'hanse[folder]'") from None
        loop = asyncio.get_running_loop()
        self._look, self._tidy = look, tidy

        class Told(events.FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                path = Path(str(event.dest_path or event.src_path))
                if not path.name.startswith("."):  # a file that is not whole yet
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        loop.call_soon_threadsafe(news, path)

        wanted = [events.FileMovedEvent, events.FileCreatedEvent, events.FileClosedEvent]
        self._observer = Observer()
        for folder in folders:
            self._observer.schedule(Told(), str(folder), recursive=True, event_filter=wanted)
        try:
            self._observer.start()
        except OSError as error:  # as many watches as the system allows are there already
            log.warning("the system does not tell of new files (%s): they are seen up to %g s later", error, LOOK_S)
        self._looking = loop.create_task(self._now_and_then())

    async def _now_and_then(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(LOOK_S)
            count += 1
            try:
                await self._look()
                if count % TIDY_EVERY == 0:
                    await self._tidy()
            except Exception:
                log.exception("looking into a shared folder")

    async def stop(self) -> None:
        """Nothing is told any more."""
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        if self._observer.is_alive():
            self._observer.stop()
            await asyncio.to_thread(self._observer.join, 5.0)
