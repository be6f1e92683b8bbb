"""Persons who approve in their own names, where a node's owner wants two of them (``two_persons``).

A passphrase tells one from the other, since all of them use one account of the system. It is kept as scrypt makes it
(RFC 7914). Who may write the node's files can do without both of them: against such a person the system's own rights
help, and the audit log, which has a line of each approver that is added or removed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

from hanse.errors import ConfigError, NotAuthenticated, NotFound
from hanse.whole_files import write_whole

FILE = "approvers.json"
_SHORTEST = 8
_COST = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MiB and some tens of milliseconds


class Approvers:
    """The file in the node's folder. Raises ``ConfigError`` where it is damaged."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE

    def names(self) -> list[str]:
        """All of them."""
        return sorted(self._read())

    def add(self, name: str, passphrase: str) -> None:
        """Adds one, or gives one another passphrase. Raises ``ConfigError`` for a name or a passphrase that will not
        do."""
        if not name.strip() or len(name) > 80 or not name.isprintable() or name != name.strip():
            raise ConfigError("an approver's name is 1 to 80 printable characters")
        if len(passphrase) < _SHORTEST:
            raise ConfigError(f"a passphrase has at least {_SHORTEST} characters")
        salt = secrets.token_bytes(16)
        known = self._read()
        known[name] = {"salt": salt.hex(), "key": _key(passphrase, salt)}
        write_whole(self._path, json.dumps(known, indent=1), 0o600)

    def remove(self, name: str) -> None:
        """Raises ``NotFound``."""
        known = self._read()
        if known.pop(name, None) is None:
            raise NotFound(f"there is no approver {name!r}; hanse node approver list names them")
        write_whole(self._path, json.dumps(known, indent=1), 0o600)

    def check(self, name: str, passphrase: str) -> None:
        """Raises ``NotAuthenticated`` unless it is this person's."""
        found = self._read().get(name, {"salt": "00" * 16, "key": ""})  # as long for a name that there is not
        if not hmac.compare_digest(_key(passphrase, bytes.fromhex(found["salt"])), found["key"]):
            raise NotAuthenticated(f"this is not the passphrase of an approver {name[:80]!r}")

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all({*one} == {"salt", "key"} for one in found.values()):
            raise ConfigError(f"{FILE} is damaged; remove it, and add the approvers again")
        return found


def _key(passphrase: str, salt: bytes) -> str:
    return hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, **_COST).hex()
