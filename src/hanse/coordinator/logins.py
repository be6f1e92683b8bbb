"""Logins of people by an OpenID provider: what is under way, and the sessions that came of it.

A browser is sent to the provider with a state, a nonce and a PKCE challenge, and must come back with the cookie that it
was given then, so nobody can log somebody else's browser in. It is then given a code of one use for its session's
token, as the page keeps tokens in no cookie. A command line shows a code that is typed at the provider (device flow).

Who logs in has the role that a group of theirs is mapped to; without such a group nobody gets in, and no account is
made. Sessions are in memory: a coordinator that is started anew has none. Each ends by itself, and with its account.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from hanse.coordinator.oidc import Pending, Person, Provider
from hanse.errors import NotAllowed, NotAuthenticated, TooMany
from hanse.messages import Json
from hanse.store import Store, tokens
from hanse.store.accounts import Role, UserAccount

_PENDING_S, _CODE_S = 600.0, 60.0
_LONGEST_S = 60.0  # of a question to the provider
_AGAIN_S = 1.0  # before the provider is asked again about the same device; it says itself how long it wants
_MOST = 1000  # logins that are under way at a time
_UNSAID = "gave an error that OpenID does not know"
_ERRORS = {  # OAuth 2.0, section 4.1.2.1; OpenID Connect Core, section 3.1.2.6
    "access_denied": "let nobody in: you, or its rules, said no",
    "temporarily_unavailable": "has no time; try again in some minutes",
    "server_error": "failed; try again in some minutes",
    "login_required": "knows nobody who is logged in",
    "consent_required": "was not told that you agree",
    "interaction_required": "could not ask you",
    "account_selection_required": "was not told which account",
    "invalid_request": "did not understand this coordinator; its operator has to look at the settings oidc_*",
    "unauthorized_client": "does not let this coordinator ask; its operator has to register it there",
    "unsupported_response_type": "does not let this coordinator ask for a code; its operator has to allow it there",
    "invalid_scope": "does not give what this coordinator asks for; its operator has to allow it there",
}
T = TypeVar("T")


class Expiring(Generic[T]):
    """Values by random names, each for so long.

    >>> kept = Expiring(60.0, 10)
    >>> name = kept.put("x")
    >>> kept.take(name), kept.take(name)
    ('x', None)
    """

    def __init__(self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def put(self, value: T, name: str = "") -> str:
        """Its name, a random one. Raises ``TooMany``."""
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)
        if len(self._kept) >= self._most:
            raise TooMany("too many logins are under way; try again in some minutes")
        name = name or secrets.token_urlsafe(32)
        self._kept[name] = (now + self._seconds, value)
        return name

    def look(self, name: str) -> T | None:
        """What has this name, if it has not expired."""
        ends, value = self._kept.get(name, (0.0, None))
        return value if ends > self._clock() else None

    def take(self, name: str) -> T | None:
        """The same, and from now on nothing has the name."""
        found = self.look(name)
        self._kept.pop(name, None)
        return found


@dataclass(frozen=True, slots=True)
class _Begun:
    nonce: str
    verifier: str
    browser: str
    redirect: str


@dataclass(slots=True)
class _Device:
    code: str
    again: float = 0.0  # when the provider may be asked


class Logins:
    """Of one coordinator. Methods that ask the provider block.

    Args:
        provider: whom to ask.
        roles: group to role. Who is in several groups has the role that is named first.
        hours: how long a session lasts.
    """

    def __init__(
        self,
        store: Store,
        provider: Provider,
        roles: Mapping[str, str],
        hours: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._store, self._roles = store, {group: Role(role) for group, role in roles.items()}
        self._clock = clock
        self._begun: Expiring[_Begun] = Expiring(_PENDING_S, _MOST, clock)
        self._devices: Expiring[_Device] = Expiring(_PENDING_S, _MOST, clock)
        self._codes: Expiring[tuple[str, str]] = Expiring(_CODE_S, _MOST, clock)
        self._sessions: Expiring[str] = Expiring(hours * 3600.0, 100_000, clock)

    def begin(self, redirect: str) -> tuple[str, str]:
        """Where a browser is sent, and the cookie that it must come back with."""
        begun = _Begun(secrets.token_urlsafe(32), secrets.token_urlsafe(48), secrets.token_urlsafe(32), redirect)
        state = self._begun.put(begun)
        return self.provider.address(redirect, state, begun.nonce, begun.verifier), begun.browser

    def come_back(self, state: str, code: str, browser: str, error: str = "") -> str:
        """A code of one use for the session of whoever came back. Raises ``NotAuthenticated``, ``NotAllowed``.

        Args:
            error: what the provider sent in place of a code, if it did. Whoever writes a link can write it, so its
                words are not told on.
        """
        begun = self._begun.take(state)
        if begun is None:
            raise NotAuthenticated("this login is not known, or took more than ten minutes; begin again")
        if not secrets.compare_digest(begun.browser.encode(), browser.encode()):
            raise NotAuthenticated("this login was begun in another browser; begin again in this one")
        if error or not code:
            raise NotAuthenticated(f"the OpenID provider {_ERRORS.get(error, _UNSAID)}")
        person = self.provider.exchange(begun.redirect, code, begun.nonce, begun.verifier)
        return self._codes.put((self._session(person), begun.browser))

    def redeem(self, code: str, browser: str) -> str:
        """The session's token. Raises ``NotAuthenticated``."""
        found = self._codes.take(code)
        if found is None or not secrets.compare_digest(found[1].encode(), browser.encode()):
            raise NotAuthenticated("this code was used, or is not this browser's; log in again")
        return found[0]

    def begin_device(self) -> dict[str, Json]:
        """What a command line shows, and ``login``, by which it asks again."""
        said = self.provider.begin_device()
        shown = ("user_code", "verification_uri", "verification_uri_complete", "interval", "expires_in")
        return {
            "login": self._devices.put(_Device(str(said["device_code"]))),
            **{n: said[n] for n in shown if n in said},
        }

    def poll_device(self, login: str) -> str:
        """The session's token. Raises ``Pending`` until the code was typed, ``NotAuthenticated``, ``NotAllowed``."""
        device = self._devices.look(login)
        if device is None:
            raise NotAuthenticated("this login is not known, or took more than ten minutes; begin again")
        if self._clock() < device.again:
            raise Pending("the provider was asked a moment ago")
        device.again = self._clock() + _LONGEST_S  # nor by two at a time
        try:
            person = self.provider.poll_device(device.code)
        finally:
            device.again = self._clock() + _AGAIN_S
        token = self._session(person)
        self._devices.take(login)
        return token

    def _session(self, person: Person) -> str:
        role = next((role for group, role in self._roles.items() if group in person.groups), None)
        if role is None:
            raise NotAllowed(
                f"{person.name} is in no group that has a role here; the operator maps groups to roles (oidc_roles)"
            )
        account = self._store.accounts.of_person(person.issuer, person.subject, person.name, str(role))
        if account.disabled:
            raise NotAllowed(f"the account {account.name} is disabled")
        token = tokens.make()
        self._sessions.put(account.id, tokens.digest(token))
        return token

    def authenticate(self, token: str) -> UserAccount | None:
        """Whose session this is; None where there is none, or its account is disabled. Blocks."""
        if not tokens.is_token(token):
            return None
        account_id = self._sessions.look(tokens.digest(token))
        if account_id is None:
            return None
        found = self._store.accounts.get(account_id)
        return None if found.disabled else found

    def end(self, token: str) -> bool:
        """Logs out; False where the token is of no session."""
        return self._sessions.take(tokens.digest(token)) is not None
