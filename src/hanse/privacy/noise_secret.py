"""What all noise of a node, or of a coordinator, is drawn from: ``noise.key`` in its folder, made once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hanse.errors import ConfigError
from hanse.privacy.drawing import KEY_BYTES

FILE = "noise.key"


def noise_secret(home: Path) -> bytes:
    """The secret, drawn where there is none yet. Raises ``ConfigError`` where the file is damaged: with another secret,
    what was answered would be answered again with other noise."""
    path = home / FILE
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return _made(path)
    if len(found) != KEY_BYTES:
        raise ConfigError(f"{FILE} has {len(found)} bytes and should have {KEY_BYTES}; restore it from a backup")
    return found


def _made(path: Path) -> bytes:
    fresh = secrets.token_bytes(KEY_BYTES)
    part = path.with_name(f".{FILE}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, fresh)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(part, path)  # whole or not at all, and never over one that is there
    except FileExistsError:
        pass
    finally:
        part.unlink()
    return path.read_bytes()
