"""A login without a browser on this machine: a code that is typed at the provider, in any browser (RFC 8628)."""

from __future__ import annotations

import time
from collections.abc import Callable

from hanse.errors import NotAuthenticated
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.terminal import line

_LEAST_S, _MOST_S = 1.0, 30.0  # between two questions; the provider says how long
_LONGEST_S = 600.0


def device_login(known: Credentials, say: Callable[[str], None], wait: Callable[[float], None] = time.sleep) -> str:
    """The token of the session that the login gives.

    Raises:
        NotAuthenticated: the provider, or the coordinator, says no; or nobody typed the code in time.
        NotFound: the coordinator has no OpenID provider.
    """
    here = Connection(known)
    try:
        said = here.call("POST", "/api/login/device")
        say(f"Open {line(str(said.get('verification_uri_complete') or said['verification_uri']))}")
        say(f"and confirm the code {line(str(said['user_code']))}")
        pause = min(_MOST_S, max(_LEAST_S, float(said.get("interval") or 5)))
        left = min(_LONGEST_S, float(said.get("expires_in") or _LONGEST_S))
        while left > 0:
            wait(pause)
            left -= pause
            found = here.call("POST", "/api/login/device/token", json={"login": said["login"]})
            if isinstance(found.get("token"), str):
                return str(found["token"])
        raise NotAuthenticated("nobody confirmed the code in time; begin again")
    finally:
        here.close()
