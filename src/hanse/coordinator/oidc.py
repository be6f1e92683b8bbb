"""Logins by an OpenID provider that the operator trusts: what is asked of it, and what of its answers is believed.

The provider is found by its discovery document, whose ``issuer`` must be the one that is set. An ID token is believed
if its signature fits a key of the provider (with an algorithm of ``ALGORITHMS``: none that is symmetric, never "none"),
it is from the issuer, for this client alone, not expired, and, where a browser was sent, has the nonce that was sent
with it. Everything goes over TLS, but for a provider on this machine.

References: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3.7; RFC 7636 (PKCE, S256); RFC 8628 (device flow).
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hanse.coordinator.listening import LOOPBACK
from hanse.errors import ConfigError, HanseError, NotAuthenticated, NotNow
from hanse.messages import Json

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
SCOPES = "openid profile email groups"
_LEEWAY_S = 60  # between the clocks of provider and coordinator
_TIMEOUT_S = 10.0
_OLDEST_KEYS_S = 3600.0
_AGAIN_S = 30.0  # between two looks for a key that is not known
_LARGEST = 1 << 20


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
        _checked(self.issuer, "oidc_issuer")
        if not self.client_id:
            raise ConfigError("oidc_issuer is set, and oidc_client_id is not: how the provider calls this coordinator")

    # ------------------------------------------------------------ the code flow, for a browser

    def address(self, redirect: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to log in."""
        with self._client(redirect) as client:
            address, _ = client.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, nonce=nonce, code_verifier=verifier
            )
        return str(address)

    def exchange(self, redirect: str, code: str, nonce: str, verifier: str) -> Person:
        """Who came back with this code. Raises ``NotAuthenticated``, ``NotNow``."""
        return self._person(self._fetched(redirect, code=code, code_verifier=verifier), nonce)

    # ------------------------------------------------------------ the device flow, for a command line

    def begin_device(self) -> dict[str, Json]:
        """``{device_code, user_code, verification_uri, verification_uri_complete, interval, expires_in}``."""
        said = self._post("device_authorization_endpoint", {"client_id": self.client_id, "scope": SCOPES})
        if not all(isinstance(said.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
            raise NotAuthenticated(f"the provider gave no code for a device: {_words(said)}")
        return said

    def poll_device(self, device_code: str) -> Person:
        """Who typed the code at the provider. Raises ``Pending``, ``NotAuthenticated``, ``NotNow``."""
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        said = self._post(
            "token_endpoint", {"grant_type": grant, "device_code": device_code, "client_id": self.client_id}
        )
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
        return _checked(found, name)

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

    def _client(self, redirect: str) -> Any:
        client, _ = _http()
        return client(
            self.client_id,
            self.client_secret or None,
            scope=SCOPES,
            redirect_uri=redirect,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self.client_secret else "none",
            **self._transport(),
        )

    def _transport(self) -> dict[str, Any]:
        return {
            "timeout": _TIMEOUT_S,
            "trust_env": False,
            "follow_redirects": False,
            **({"verify": _context(self.authority)} if self.authority else {}),
        }

    def _fetched(self, redirect: str, **more: str) -> Mapping[str, Json]:
        from authlib.integrations.base_client.errors import OAuthError

        _, httpx = _http()
        try:
            with self._client(redirect) as client:
                found: Mapping[str, Json] = client.fetch_token(self._endpoint("token_endpoint"), **more)
                return found
        except OAuthError as error:
            raise NotAuthenticated(f"the provider gave no token: {str(error)[:200]}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise _away(error) from None

    def _get(self, address: str) -> dict[str, Json]:
        return self._ask("GET", address)

    def _post(self, endpoint: str, data: Mapping[str, str]) -> dict[str, Json]:
        auth = (self.client_id, self.client_secret) if self.client_secret else None
        return self._ask("POST", self._endpoint(endpoint), data=dict(data), auth=auth)

    def _ask(self, method: str, address: str, **more: Any) -> dict[str, Json]:
        _, httpx = _http()
        try:
            with httpx.Client(**self._transport()) as client:
                answer = client.request(method, address, headers={"Accept": "application/json"}, **more)
            said = answer.json() if len(answer.content) <= _LARGEST else None
        except (httpx.HTTPError, ValueError) as error:
            raise _away(error) from None
        if answer.status_code >= 500 or not isinstance(said, dict):
            raise NotNow(f"the OpenID provider answered {answer.status_code}; try again in a moment")
        return said


def _checked(address: str, what: str) -> str:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return address
    if parts.scheme == "http" and parts.hostname in LOOPBACK:
        return address
    raise ConfigError(f"{what} is {address[:200]!r}; expected https://... (http is for a provider on this machine)")


def _context(authority: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=authority)


def _words(said: Mapping[str, Json]) -> str:
    return " ".join(str(said.get(name, "")) for name in ("error", "error_description"))[:300].strip() or "no reason"


def _away(error: Exception) -> NotNow:
    return NotNow(f"the OpenID provider cannot be asked ({type(error).__name__}); try again in a moment")


def _library() -> tuple[Any, Any]:
    try:
        from joserfc import errors, jwt
    except ImportError:
        raise ConfigError("logins by OpenID Connect need Authlib: pip install 'hanse[oidc]'") from None
    return jwt, errors


def _http() -> tuple[Any, Any]:
    try:
        from authlib.integrations.httpx_client import OAuth2Client
        from authlib.integrations.httpx_client._compat import httpx2 as httpx
    except ImportError:
        raise ConfigError("logins by OpenID Connect need Authlib: pip install 'hanse[oidc]'") from None
    return OAuth2Client, httpx
