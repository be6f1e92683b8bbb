"""Flower's programs, as processes of this one: found, with an environment that calls nobody, and ended with it.

Flower pins what it needs so narrowly that it is better kept in an environment of its own: ``HANSE_FLOWER`` names the
directory of its programs. Without it they are looked for beside this Python, then on the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError, NodeFailed
from hanse.toml_text import pairs

log = logging.getLogger(__name__)

VERSION = "1.42.0"  # nearly every release changes what programs take and say
_END_S = 5.0
_COMMAND_S = 120.0
_TIED = (  # ends with the process that started it, however that ends
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)\n"
    "sys.exit(0) if os.getppid() != int(sys.argv[1]) else os.execvp(sys.argv[2], sys.argv[2:])"
)


class Programs:
    """Flower's programs.

    Args:
        home: a private directory for what they write.

    Raises ``ConfigError`` where they are not installed.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        places = [os.environ.get("HANSE_FLOWER", ""), str(Path(sys.executable).parent), *os.get_exec_path()]
        found = (shutil.which("flower-superlink", path=place) for place in places if place)
        self._bin = Path(next(filter(None, found), "")).parent
        if not (self._bin / "flower-superlink").is_file():
            raise ConfigError(
                f"a flower:// address needs Flower {VERSION}: pip install flwr=={VERSION} in an environment of its "
                "own, and HANSE_FLOWER=DIRECTORY/bin; or pip install 'hanse[flower]'"
            )

    async def check(self) -> None:
        """Raises ``ConfigError`` for another version than the one that this release was tried with."""
        said = await self.ran("flower-superlink", "--version")
        if said.split()[-1:] != [VERSION]:
            raise ConfigError(f"Flower in {self._bin} says {said[:100]!r}; expected version {VERSION}")

    def app(self) -> Path:
        """A copy of the app that carries messages: its files alone, so it is the same everywhere, byte for byte."""
        source, target = Path(__file__).with_name("_flower_app"), self.home / "app"
        for path in [source / "pyproject.toml", *(source / "hanse_carrier").glob("*.py")]:
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
        return target

    def connect(self, address: str, authority: Path) -> None:
        """Which SuperLink the commands of this home talk to."""
        about = {"address": address, "root-certificates": str(authority)}
        (self.home / "config.toml").write_text("\n".join(pairs({"superlink": {"default": "hanse", "hanse": about}})))

    async def said(self, *command: str) -> dict[str, Any]:
        """What a command of ``flwr`` answers in JSON. Raises ``NodeFailed``."""
        text = await self.ran("flwr", *command, "--format", "json")
        start = text.find("{")
        try:
            found: dict[str, Any] = json.JSONDecoder().raw_decode(text, max(0, start))[0]
        except ValueError:
            found = {}
        if not found.get("success"):
            raise NodeFailed(f"flwr {' '.join(command[:2])}: {found.get('error-message', text)!s:.500}")
        return found

    async def ran(self, program: str, *arguments: str) -> str:
        """What a program prints, to its end. Raises ``NodeFailed`` where it takes too long."""
        process = await self._start(program, *arguments, output=subprocess.PIPE)
        try:
            async with asyncio.timeout(_COMMAND_S):
                said, _ = await process.communicate()
        except TimeoutError:
            raise NodeFailed(f"{program} {' '.join(arguments[:2])} took more than {_COMMAND_S:g} s") from None
        finally:
            await ended(process)
        return said.decode(errors="replace")

    async def started(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        """A program that runs on; what it prints goes to a file in the home."""
        with (self.home / f"{program}.log").open("wb") as output:
            return await self._start(program, *arguments, output=output)

    async def _start(self, program: str, *arguments: str, output: Any) -> asyncio.subprocess.Process:
        command = [sys.executable, "-IS", "-c", _TIED, str(os.getpid()), str(self._bin / program), *arguments]
        return await asyncio.create_subprocess_exec(
            *command,
            env=self._environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if n in ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")}
        path = os.pathsep.join([str(self._bin), *os.get_exec_path()])
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
        return {**kept, **quiet, "PATH": path, "FLWR_HOME": str(self.home), "NO_PROXY": "*"}


async def ended(process: asyncio.subprocess.Process) -> None:
    """Ends it with all that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
