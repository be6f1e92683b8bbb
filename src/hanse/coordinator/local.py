"""Asks the coordinator that runs from a home, on this machine, as its first operator."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from hanse.errors import HanseError, NotAuthenticated, Unreachable, from_code
from hanse.messages import Json
from hanse.trust import trusted


def post(home: Path, path: str, body: Mapping[str, Json]) -> bool:
    """Posts ``body``; False where no coordinator runs, so that the caller may use the database itself.

    Raises:
        HanseError: what the coordinator answered.
        Unreachable: something else listens there.
    """
    from hanse.coordinator.server import TOKEN_FILE, addresses

    url = addresses(home).get("url", "")
    if not url:
        return False
    try:
        token = (home / TOKEN_FILE).read_text().strip()
    except OSError:
        raise NotAuthenticated(f"there is no {TOKEN_FILE} in this home; do it by REST, as an operator") from None
    request = urllib.request.Request(
        url + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    trust = trusted(url, besides=home / "authority" / "authority.crt")
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30):
            return True
    except urllib.error.HTTPError as refused:
        raise _refusal(refused) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return False
        raise Unreachable(f"{url} does not answer as this home's coordinator ({error.reason})") from None


def _refusal(refused: urllib.error.HTTPError) -> HanseError:
    if refused.code == 401:
        return NotAuthenticated("the operator's token in this home is not valid any more; do it by REST")
    try:
        said = json.loads(refused.read())["error"]
        return from_code(str(said["code"]), str(said["message"]))
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"the coordinator answered with status {refused.code}")
