"""Logins by an OpenID provider that the operator trusts: what is asked of it, and what of its answers is believed.

The provider is found by its discovery document, whose ``issuer`` must be the one that is set. An ID token is believed
if its signature fits a key of the provider (with an algorithm of ``ALGORITHMS``: none that is symmetric, never "none"),
it is from the issuer, for this client alone, not expired, and, where a browser was sent, has the nonce that was sent
with it. Everything goes over TLS, but for a provider on this machine.

References: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3.7; RFC 7636 (PKCE, S256); RFC 8628 (device flow).
"""

from __future__ import annotations

import http.client
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hanse.coordinator.http_service import Returned, ask, checked
from hanse.errors import ConfigError, HanseError, NotAuthenticated, NotNow, WireError
from hanse.messages import Json, loads

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
SCOPES = "openid profile email groups"
_LEEWAY_S = 60  # between the clocks of provider and coordinator
_TIMEOUT_S = 10.0
_OLDEST_KEYS_S = 3600.0
_AGAIN_S = 30.0  # between two looks for a key that is not known
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Person:
    """Who has logged in, by the provider's word: ``subject`` is unique there and never given to somebody else."""

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]


class Pending(HanseError):
    """The person has not typed the code at the provider yet."""

    code = "pending"


@dataclass(slots=True)
class Provider:
    """One OpenID provider. All methods block.

    Args:
        issuer: ``https://...``, exactly as the provider calls itself.
        client_id, client_secret: as the provider knows this coordinator; "" where it is a public client (PKCE is used
            either way).
        groups_claim: the claim of the ID token that lists groups.
        authority: file of certificates (PEM) that the provider's is checked with; "": those that this machine trusts.

    Raises:
        ConfigError: the issuer is no address of TLS.
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    groups_claim: str = "groups"
    authority: str = ""
    _about: dict[str, Json] | None = None
    _keys: Any = None
    _keys_at: float = -_OLDEST_KEYS_S

    def __post_init__(self) -> None:
        checked(self.issuer, "oidc_issuer")
        if not self.client_id:
            raise ConfigError("oidc_issuer is set, and oidc_client_id is not: how the provider calls this coordinator")

    # ------------------------------------------------------------ the code flow, for a browser

    def address(self, redirect: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to log in."""
        address, _ = self._client(redirect).create_authorization_url(
            self._endpoint("authorization_endpoint"), state=state, nonce=nonce, code_verifier=verifier
        )
        return str(address)

    def exchange(self, redirect: str, code: str, nonce: str, verifier: str) -> Person:
        """Who came back with this code. Raises ``NotAuthenticated``, ``NotNow``."""
        return self._person(self._token(redirect, code=code, code_verifier=verifier), nonce)

    # ------------------------------------------------------------ the device flow, for a command line

    def begin_device(self) -> dict[str, Json]:
        """``{device_code, user_code, verification_uri, verification_uri_complete, interval, expires_in}``."""
        client = self._client()
        where, auth = self._endpoint("device_authorization_endpoint"), client.client_auth(self._shown)
        try:
            said: dict[str, Json] = client.session.post(where, {"scope": SCOPES}, _FORM, auth).json()
        except _SaidNo as no:
            said = no.said
        if not all(isinstance(said.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
            raise NotAuthenticated(f"the provider gave no code for a device: {_words(said)}")
        return said

    def poll_device(self, device_code: str) -> Person:
        """Who typed the code at the provider. Raises ``Pending``, ``NotAuthenticated``, ``NotNow``."""
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        said = self._token(grant_type=grant, device_code=device_code)
        if said.get("error") in ("authorization_pending", "slow_down"):
            raise Pending("the provider waits for the code to be typed")
        return self._person(said, None)

    # ------------------------------------------------------------ what is believed

    def _person(self, answer: Mapping[str, Json], nonce: str | None) -> Person:
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotAuthenticated(f"the provider gave no ID token: {_words(answer)}")
        claims = self.claims(token, nonce)
        groups = claims.get(self.groups_claim)
        listed = groups if isinstance(groups, list) else [groups] if isinstance(groups, str) else []
        name = claims.get("preferred_username") or claims.get("email") or claims["sub"]
        return Person(self.issuer, str(claims["sub"]), str(name)[:100], tuple(g for g in listed if isinstance(g, str)))

    def claims(self, token: str, nonce: str | None) -> dict[str, Any]:
        """What an ID token says, if it is to be believed. ``nonce``: the one that was sent; None: none was.

        Raises ``NotAuthenticated`` with what is wrong.
        """
        jwt, errors = _library()
        for fresh in (False, True):
            try:
                found = jwt.decode(token, self._key_set(fresh), algorithms=list(ALGORITHMS))
                break
            except (errors.JoseError, ValueError, KeyError) as error:
                unknown = isinstance(error, (errors.InvalidKeyIdError, errors.BadSignatureError))
                if fresh or not unknown or time.monotonic() - self._keys_at < _AGAIN_S:
                    raise NotAuthenticated(
                        f"the ID token's signature is not believed ({type(error).__name__})"
                    ) from None
        claims = dict(found.claims)
        essential: dict[str, Any] = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self.client_id},
            "exp": {"essential": True},
            "iat": {"essential": True},
            "sub": {"essential": True},
        }
        try:
            jwt.JWTClaimsRegistry(leeway=_LEEWAY_S, **essential).validate(claims)
        except (errors.JoseError, ValueError, TypeError) as error:
            raise NotAuthenticated(f"the ID token does not fit: {error}") from None
        audience = claims["aud"]
        if not isinstance(claims["sub"], str) or not claims["sub"] or len(claims["sub"]) > 255:
            raise NotAuthenticated("the ID token names nobody")
        if (isinstance(audience, list) and len(audience) > 1) or claims.get("azp", self.client_id) != self.client_id:
            raise NotAuthenticated("the ID token is for others too")
        if nonce is not None and claims.get("nonce") != nonce:
            raise NotAuthenticated("the ID token has another nonce than was sent")
        return claims

    # ------------------------------------------------------------ asking

    def _discovered(self) -> dict[str, Json]:
        if self._about is None:
            said = self._get(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if said.get("issuer") != self.issuer:
                raise NotAuthenticated(f"the provider at {self.issuer} calls itself {str(said.get('issuer'))[:200]!r}")
            self._about = said
        return self._about

    def _endpoint(self, name: str) -> str:
        found = self._discovered().get(name)
        if not isinstance(found, str):
            raise NotAuthenticated(f"the provider has no {name}")
        return checked(found, f"the provider's {name}")

    def _key_set(self, fresh: bool) -> Any:
        from joserfc.jwk import KeySet

        if fresh or self._keys is None or time.monotonic() - self._keys_at > _OLDEST_KEYS_S:
            said = self._get(self._endpoint("jwks_uri"))
            try:
                self._keys = KeySet.import_key_set({"keys": [k for k in said["keys"] if k.get("kty") != "oct"]})
            except Exception as error:  # what the library says of damaged keys has no common base
                raise NotAuthenticated(f"the provider's keys cannot be read ({type(error).__name__})") from None
            self._keys_at = time.monotonic()
        return self._keys

    def _client(self, redirect: str = "") -> Any:
        return _client_of_authlib()(
            _Session(self.authority),
            self.client_id,
            self.client_secret or None,
            scope=SCOPES if redirect else None,  # it is asked for where a login begins
            redirect_uri=redirect or None,
            code_challenge_method="S256",
            token_endpoint_auth_method=self._shown,
        )

    @property
    def _shown(self) -> str:
        """How this coordinator shows who it is."""
        return "client_secret_basic" if self.client_secret else "none"

    def _get(self, address: str) -> dict[str, Json]:
        return _said(_ask("GET", address, {}, None, self.authority))

    def _token(self, redirect: str = "", **more: str) -> Mapping[str, Json]:
        """What the token endpoint gives; with ``error`` where it gives no token."""
        try:
            found: Mapping[str, Json] = self._client(redirect).fetch_token(self._endpoint("token_endpoint"), **more)
            return found
        except _SaidNo as no:
            return no.said
        except (ValueError, TypeError) as error:  # of the library: an expires_in that is no number
            raise _away(error) from None


class _SaidNo(Exception):
    """The provider answered with an error. Not Authlib's, which takes no line ends and no umlauts in its words."""

    def __init__(self, said: dict[str, Json]) -> None:
        super().__init__(_words(said))
        self.said = said


@dataclass(frozen=True, slots=True)
class _Session:
    """What Authlib's client sends its requests with, in place of a library of HTTP."""

    authority: str

    def post(self, url: str, data: Mapping[str, str], headers: Mapping[str, str], auth: Any) -> _Response:
        address, shown, body = auth.prepare("POST", url, dict(headers), urllib.parse.urlencode(data))
        said = _said(_ask("POST", address, shown, body.encode(), self.authority))
        if "error" in said:
            raise _SaidNo(said)
        return _Response(said)


@dataclass(frozen=True, slots=True)
class _Response:
    said: dict[str, Json]
    status_code: int = 200

    def json(self) -> dict[str, Json]:
        return self.said


def _ask(method: str, address: str, headers: Mapping[str, str], body: bytes | None, authority: str) -> Returned:
    try:
        return ask(method, address, headers, body, _TIMEOUT_S, authority)
    except (OSError, http.client.HTTPException, WireError) as error:
        raise _away(error) from None


def _said(answer: Returned) -> dict[str, Json]:
    """What it answered, also where it says no. Raises ``NotNow`` where that is no object of JSON."""
    try:
        said = loads(answer.raw)
    except WireError:
        said = None
    if answer.status >= 500 or not isinstance(said, dict):
        raise NotNow(f"the OpenID provider answered with status {answer.status}; try again in a moment")
    return said


def _words(said: Mapping[str, Json]) -> str:
    told = " ".join(str(said.get(name, "")) for name in ("error", "error_description"))
    return " ".join(told.split())[:300] or "no reason"


def _away(error: Exception) -> NotNow:
    return NotNow(f"the OpenID provider cannot be asked ({type(error).__name__}); try again in a moment")


def _library() -> tuple[Any, Any]:
    try:
        from joserfc import errors, jwt
    except ImportError:
        raise _missing() from None
    return jwt, errors


def _client_of_authlib() -> Any:
    try:
        from authlib.oauth2 import OAuth2Client
    except ImportError:
        raise _missing() from None
    return OAuth2Client


def _missing() -> ConfigError:
    return ConfigError("logins by OpenID Connect need Authlib: pip install 'hanse[oidc]'")
