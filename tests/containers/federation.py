"""The federation of ``deploy/compose.yaml``, started as docs/containers.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
SERVICES = ("policy-engine", "fl-server", "fl-client-1", "fl-client-2")
ADDRESS = "192.168.100.10"
_SECONDS = 60.0


def engine(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """``podman ARGUMENTS``, and what it printed."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise AssertionError(f"podman {' '.join(arguments[:4])}: {done.stderr[-2000:]}")
    return done


def inside(service: str, *command: str) -> str:
    """What a command in the container prints."""
    return engine("exec", service, *command).stdout


class Composed:
    """As a context manager; at the end no container, volume or network is left.

    Args:
        folder: gets a copy of the compose file, the secrets and the data.
        data: the file of each client's patients.
    """

    def __init__(self, folder: Path, data: Mapping[str, Path]) -> None:
        self.folder = folder
        shutil.copy(ROOT / "deploy" / "compose.yaml", folder)
        subprocess.run(["sh", str(ROOT / "deploy" / "secrets.sh"), str(folder / "secrets")], check=True)
        for client, file in data.items():
            (folder / "data" / client).mkdir(parents=True)
            shutil.copy(file, folder / "data" / client / "heart.csv")

    def compose(self, *arguments: str) -> None:
        """``podman-compose ARGUMENTS``."""
        program = Path(os.environ["HANSE_CONTAINERS"]) / "podman-compose"
        environment = {**os.environ, "HANSE_HOST_NAME": f"fl-server {ADDRESS}"}
        command = [program, "--file", self.folder / "compose.yaml", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
        assert done.returncode == 0, done.stderr[-3000:]

    def __enter__(self) -> Composed:
        try:
            self.up("policy-engine")
            self.up("fl-server")
            for number in (1, 2):
                token = inside("fl-server", "hanse", "coordinator", "join-token", f"client-{number}")
                (self.folder / "secrets" / f"client-{number}-join").write_text(token)
            for number in (1, 2):
                self.up(f"fl-client-{number}")
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    def up(self, service: str) -> None:
        """Starts it and waits until it is healthy, as compose does where the engine can."""
        self.compose("up", "--detach", "--no-deps", service)
        self.healthy(service)

    def healthy(self, service: str) -> None:
        """Waits for that, or says what the container said."""
        ends = time.monotonic() + _SECONDS
        while engine("exec", service, "hanse", "container", "healthy", check=False).returncode:
            if time.monotonic() > ends:
                raise AssertionError(f"{service} is not healthy: {engine('logs', service).stderr[-3000:]}")
            time.sleep(0.5)

    def down(self) -> None:
        """Removes all of it."""
        self.compose("down", "--volumes", "--timeout", "10")
