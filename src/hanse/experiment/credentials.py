"""Where a coordinator is, and the token for it: given, from the environment, or from ``hanse login``.

A token is only ever sent to the coordinator that it was saved for.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hanse.addresses import is_loopback
from hanse.errors import ConfigError, NotAuthenticated
from hanse.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class Credentials:
    """``authority`` is the path of a PEM file with the authority that signed the coordinator's
    certificate; empty: one that this machine knows."""

    url: str
    token: str
    authority: str = ""

    def __repr__(self) -> str:  # a token must not end up in a log or a notebook
        return f"Credentials({self.url!r}, token=…)"


def path() -> Path:
    """``credentials.toml`` in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "hanse" / "credentials.toml"


def save(credentials: Credentials) -> Path:
    """Remembers them; only the user can read the file."""
    place = path()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = "".join(f"{name} = {json.dumps(getattr(credentials, name))}\n" for name in ("url", "token", "authority"))
    write_whole(place, text)
    return place


def saved() -> Credentials | None:
    """What ``hanse login`` remembered, or None. Raises ``ConfigError`` if others can read the file."""
    place = path()
    try:
        mode = place.stat().st_mode
        text = place.read_text(encoding="utf-8")
    except OSError:
        return None
    if mode & 0o077:
        raise ConfigError(f"{place} can be read by others; run chmod 600 on it, and ask for a new token")
    try:
        raw = tomllib.loads(text)
        return Credentials(str(raw["url"]), str(raw["token"]), str(raw.get("authority", "")))
    except (tomllib.TOMLDecodeError, KeyError, RecursionError):
        raise ConfigError(f"{place} is damaged; run hanse login again") from None


def resolve(url: str | None, token: str | None, authority: str | os.PathLike[str] | None = None) -> Credentials:
    """Arguments first, then HANSE_URL, HANSE_TOKEN and HANSE_CA, then what ``hanse login`` saved.

    Raises:
        ConfigError: no address is known, or it would send the token in plain text over a network.
        NotAuthenticated: no token is known for that address.
    """
    home = os.environ.get("HANSE_URL")
    kept = saved()
    wanted = url or home or (kept.url if kept else None)
    if not wanted:
        raise ConfigError("no coordinator is known; give its URL, set HANSE_URL, or run hanse login URL")
    wanted = checked(wanted)
    found = Credentials(wanted, token or "", os.fspath(authority) if authority else "")
    if not token and (home is None or checked(home) == wanted):
        found = Credentials(wanted, os.environ.get("HANSE_TOKEN", ""), found.authority)
    if kept and kept.url == wanted:
        found = Credentials(
            wanted, found.token or kept.token, found.authority or os.environ.get("HANSE_CA", "") or kept.authority
        )
    if not found.token:
        raise NotAuthenticated(
            f"no token is known for {wanted}; give token=..., set HANSE_TOKEN, or run hanse login {wanted}"
        )
    return Credentials(found.url, sendable(found.token), found.authority or os.environ.get("HANSE_CA", ""))


def sendable(token: str) -> str:
    """The token without outer blanks, such as the end of the line that it was read from. Raises ``NotAuthenticated``,
    without a word of the token, where a header cannot hold it: who sends it would tell all of it in an error."""
    told = token.strip()
    if not told or not all("!" <= letter <= "~" for letter in told):
        raise NotAuthenticated(
            "the token has blanks, line ends or letters that no token has; give it as the operator did, hanse_..."
        )
    return told


def known(url: str | None = None) -> bool:
    """Whether any address is known: given, of HANSE_URL, or of what ``hanse login`` saved."""
    return bool(url or os.environ.get("HANSE_URL") or saved())


def checked(url: str) -> str:
    """The URL without a slash at its end. Raises ``ConfigError`` if it is not one of a coordinator.

    >>> checked("https://coordinator.example:8443/")
    'https://coordinator.example:8443'
    >>> checked("http://coordinator.example")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: http://coordinator.example is plain text; your token would be read on the way; use https
    """
    try:
        parts = urlsplit(url.rstrip("/"))
        parts.port  # noqa: B018
    except ValueError as error:
        raise ConfigError(
            f"{url!r} is not the address of a coordinator ({error}); expected https://host:port"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not the address of a coordinator; expected https://host:port")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("the address has more than host, port and path; give the token as token=...")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(f"{url} is plain text; your token would be read on the way; use https")
    return url.rstrip("/")
